"""What a build deletes in its output folder, after any other build, and after a kill at any time.

The builds of this module write the files of a recipe, but do not run a pipeline.
"""

import hashlib
import json
import shutil
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines.io.beam_files import SCRATCH, atomic_write, scratch_folder
from pipelines.launch import BuildFailedError, run
from pipelines.output_folder import (
    JOURNAL,
    TABLES,
    Journal,
    OutputFolder,
    OutputFolderError,
    file_names,
)
from pipelines.recipe import Recipe, load
from schemas.toml_config import parse_override
from shards.format import manifest as mf
from shards.format.manifest import FileEntry, Manifest, ShardEntry
from shards.format.placement import index_name
from tests import foreign_files, tiny
from tests.killed import run_until_change
from tests.shard_sets import write_shard_set


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Recipe]:
    """Two recipes, whose sets have no shard name in common."""
    folder = tmp_path_factory.mktemp("recipe")
    vg = tiny.write_vg(folder, [tiny.vg_image(1)], [])
    path = str(tiny.write_recipe(folder / "recipe.toml", sources={"vg": vg}))
    one, two = (
        load(path, str(folder), [parse_override(f"splits.train.shards={n}")]) for n in (1, 2)
    )
    return one, two


def build(output: Path, recipe: Recipe, overwrite: bool = False) -> None:
    """Writes a set of a recipe as a build does: temporary files, tars, tables, the manifest."""
    folder = OutputFolder(str(output), recipe)
    folder.prepare(overwrite=overwrite)
    Path(scratch_folder(str(output)), "progress.tsv").write_bytes(b"begun")
    names = sorted(file_names(recipe) - {mf.NAME})
    for name in names:
        write(output, name, f"{name} of {recipe.splits}".encode())
    manifest = manifest_of(output, recipe, names)
    write(output, mf.NAME, mf.encode(manifest))
    folder.finish(manifest)


def write(output: Path, name: str, content: bytes) -> None:
    with atomic_write(f"{output}/{name}", scratch_folder(str(output))) as file:
        file.write(content)


def manifest_of(output: Path, recipe: Recipe, names: list[str]) -> Manifest:
    digests = {name: hashlib.sha256((output / name).read_bytes()).hexdigest() for name in names}
    with tempfile.TemporaryDirectory() as folder:
        manifest = mf.load(write_shard_set(Path(folder), [[1]]))
    manifest.recipe_sha256 = recipe.sha256()
    manifest.shards = [
        ShardEntry(name, "train", 1, digests[name], 0, 0, FileEntry(index, 1, digests[index]), [0])
        for name in digests
        if (index := index_name(name)) in digests
    ]
    manifest.files = [FileEntry(name, 1, digests[name]) for name in TABLES]
    return manifest


def expected(recipe: Recipe, parent: Path) -> dict[str, bytes]:
    """Returns the files of an undisturbed build of a recipe."""
    output = parent / "undisturbed"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    build(output, recipe)
    return foreign_files.contents(output)


@given(
    folder=foreign_files.names(),
    foreign=st.lists(foreign_files.names(), max_size=8),
    kill_at=st.integers(0, 40),
    first=st.booleans(),
)
@example(folder="set[1]", foreign=["train-00007-of-00009.tar"], kill_at=3, first=True)
@settings(max_examples=8)
def test_foreign_files_survive_and_killed_builds_end_with_the_same_bytes(
    recipes: tuple[Recipe, Recipe], folder: str, foreign: list[str], kill_at: int, first: bool
) -> None:
    one, two = recipes
    with tempfile.TemporaryDirectory() as name:
        output = Path(name) / folder
        beside = foreign_files.plant(Path(name) / "x", ["f"])
        for neighbor in (folder[:-1], f"{folder}.tmp", folder.replace("[1]", "1")):
            if neighbor.strip(".") and neighbor != folder:
                foreign_files.plant(Path(name) / neighbor, ["train-00000-of-00002.tar"])
        before = foreign_files.contents(Path(name))
        assert beside.items() <= {k.removeprefix("x/"): v for k, v in before.items()}.items()
        own_names = file_names(one) | file_names(two)
        planted = foreign_files.plant(output, [f for f in foreign if f not in own_names])
        if first:  # a finished set, which the killed build replaces
            build(output, one)
        run_until_change(kill_at, output, build, output, two, True)
        for recipe in (two, one):  # a restart, and a build of another recipe
            build(output, recipe, overwrite=True)
            undisturbed = expected(recipe, Path(name) / "x")
            assert foreign_files.contents(output) == planted | undisturbed
        shutil.rmtree(Path(name) / "x/undisturbed")
        assert foreign_files.contents(Path(name), but=[folder]) == before


def test_killed_build_leaves_its_journal_before_its_first_file(
    recipes: tuple[Recipe, Recipe], tmp_path: Path
) -> None:
    """Whatever the killed build left is claimed; at last it is not killed any more."""
    one, _ = recipes
    whole = expected(one, tmp_path)
    output = tmp_path / "shards"
    for number in range(100):
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir()
        killed = run_until_change(number, output, build, output, one)
        temporary = {f".{JOURNAL}.mdetr-tmp", f".{JOURNAL}.mdetr-lock"}
        left = set(foreign_files.contents(output)) - temporary
        assert JOURNAL in left or not left or not killed
        if not killed:
            break
        if mf.NAME not in left:
            build(output, one)
            assert foreign_files.contents(output) == whole
    assert 10 < number < 99


def test_files_of_others_under_names_of_the_build_are_refused(
    recipes: tuple[Recipe, Recipe], tmp_path: Path
) -> None:
    one, _ = recipes
    for name in sorted({*file_names(one), SCRATCH}):
        output = tmp_path / f"shards {name}"
        output.mkdir()
        (output / name).write_text("[1, 2]")
        for overwrite in (False, True):
            with pytest.raises(OutputFolderError, match=rf"no build wrote.*: {name}; move"):
                OutputFolder(str(output), one).prepare(overwrite=overwrite)
        assert foreign_files.contents(output) == {name: b"[1, 2]"}
    for name in TABLES:
        (output / name).touch()
    with pytest.raises(OutputFolderError, match=r": excluded.parquet, .* and \d more;"):
        OutputFolder(str(output), one).prepare()


def test_journal_claims_no_other_names(recipes: tuple[Recipe, Recipe], tmp_path: Path) -> None:
    one, _ = recipes
    output = tmp_path / "shards"
    (tmp_path / "precious-00000-of-00001.tar").touch()
    foreign_files.plant(output, ["thesis.docx"])
    for content in (
        b"",
        b"{}",
        msgspec.json.encode(Journal(recipe_sha256="", files=["thesis.docx"])),
        msgspec.json.encode(Journal(recipe_sha256="", files=["../precious-00000-of-00001.tar"])),
    ):
        (output / JOURNAL).write_bytes(content)
        with pytest.raises(OutputFolderError, match=r"mdetr-build\.json is not the journal"):
            OutputFolder(str(output), one).prepare(overwrite=True)
        assert set(foreign_files.contents(output)) == {JOURNAL, "thesis.docx"}


def test_manifest_claims_no_other_names(recipes: tuple[Recipe, Recipe], tmp_path: Path) -> None:
    one, two = recipes
    output = tmp_path / "shards"
    build_in = {"schema_version": 1, "shards": [], "files": []}
    foreign_files.plant(output, ["thesis.docx"])
    (tmp_path / "old-00000-of-00001.tar").touch()
    output.joinpath("old-00000-of-00001.tar").touch()
    names = ["thesis.docx", "old-00000-of-00001.tar", "../old-00000-of-00001.tar"]
    build_in["files"] = [{"file": name} for name in names]
    (output / mf.NAME).write_text(json.dumps(build_in))
    with pytest.raises(OutputFolderError, match="finished shard set"):
        build(output, one)
    build(output, two, overwrite=True)  # a set of an earlier version is replaced
    assert set(foreign_files.contents(output)) == {"thesis.docx", *file_names(two)}
    assert (tmp_path / "old-00000-of-00001.tar").exists()


def test_link_of_a_set_is_deleted_and_what_it_refers_to_is_not(
    recipes: tuple[Recipe, Recipe], tmp_path: Path
) -> None:
    one, two = recipes
    output = tmp_path / "shards"
    output.mkdir()
    build(output, two)
    moved = tmp_path / "moved.tar"
    (output / "train-00000-of-00002.tar").rename(moved)
    (output / "train-00000-of-00002.tar").symlink_to(moved)
    build(output, one, overwrite=True)
    assert moved.is_file() and set(foreign_files.contents(output)) == file_names(one)


@pytest.mark.parametrize("name", ["a::b", "a?versionId=1", "a#12", "a?generation=7"])
def test_url_that_stores_do_not_read_as_a_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BuildFailedError, match=r"choose another --output"):
        run("demo", f"s3://made/{name}", str(tmp_path), [])
