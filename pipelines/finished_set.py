"""Whether the output of a build is a whole set that the build would only write again.

A set is identified by the hash of its recipe and, since other versions may write other bytes, by
those of this package and of the language model. The manifest does not identify the raw files: it
is the same wherever they are. Instead, none may have been changed after the manifest was written.
Files of the set are compared by name and size, which takes one listing; `mdetr-shards verify` reads
them.
"""

from collections.abc import Iterator

from pipelines.beam.finalize import language_model
from pipelines.io.archives import outer_file
from pipelines.io.folders import list_sizes
from pipelines.io.raw_files import exists, modified, open_binary
from pipelines.recipe import Recipe
from schemas.package_version import package_version
from shards.format import manifest as mf
from shards.terminal import count_noun


def find(output: str, recipe_sha256: str) -> mf.Manifest | None:
    """Returns the manifest of a folder, if it is of this recipe and of this version of the format.

    Raises:
        OSError: The folder cannot be read.
        StoreError: Its store cannot be reached.
    """
    path = f"{output}/{mf.NAME}"
    if not exists(path):
        return None
    with open_binary(path) as file:
        content = file.read()
    try:
        manifest = mf.decode(content, output)
    except mf.NotAShardSetError:
        return None
    return manifest if manifest.recipe_sha256 == recipe_sha256 else None


def difference(output: str, manifest: mf.Manifest, recipe: Recipe, *, strict: bool) -> str:
    """Returns in what a set may differ from one that is built now; empty if in nothing.

    Args:
        output: The folder of the set.
        manifest: Its manifest, which is of the same recipe.
        recipe: The recipe with located paths.
        strict: Whether a build fails at a rejected record.

    Raises:
        OSError: A file cannot be read.
        StoreError: A store cannot be reached.
    """
    return next(_differences(output, manifest, recipe, strict), "")


def _differences(output: str, manifest: mf.Manifest, recipe: Recipe, strict: bool) -> Iterator[str]:
    if manifest.code_version != package_version():
        yield f"version {manifest.code_version} built it, and this is {package_version()}"
    if manifest.language_model != language_model(recipe):
        built_with = " ".join(manifest.language_model.values()) or "no language model"
        yield f"it was built with {built_with}"
    rejected = sum(counts.rejected for counts in manifest.sources.values())
    if strict and rejected:
        yield f"it lacks {count_noun(rejected, 'rejected record')}, which --strict forbids"
    sizes = list_sizes(output)
    for name, size in mf.file_sizes(manifest).items():
        if name not in sizes:
            yield f"{name} is missing"
        elif sizes[name] != size:
            yield f"{name} has {sizes[name]:,} bytes instead of {size:,}"
    written = modified(f"{output}/{mf.NAME}")
    for path in dict.fromkeys(outer_file(path) for path in recipe.paths()):
        changed = modified(path)
        if changed is not None and written is not None and changed > written:
            yield f"{path} was changed after it was built"
