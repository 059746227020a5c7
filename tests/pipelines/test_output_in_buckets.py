"""Output folders in buckets: names are literal there, too, and files of others stay."""

from pathlib import Path

import pytest
from apache_beam.io.filesystems import FileSystems

from pipelines.io.beam_files import SCRATCH, atomic_write, scratch_folder
from pipelines.io.lease import held
from pipelines.io.raw_files import StoreError
from pipelines.output_folder import JOURNAL, OutputFolder, OutputFolderError, file_names
from pipelines.recipe import Recipe, load
from schemas.toml_config import parse_override
from shards.format import manifest as mf
from shards.format.placement import index_name
from shards.reading.shard_set import ShardSet
from tests import tiny
from tests.buckets import store
from tests.shard_sets import write_shard_set

# As patterns, both parts match more than themselves.
FOLDER, NEIGHBORS = "set[1]/a*b?{c,d} 100%20 é", ["set1", "set1/axbx{c,d} 100%20 é", "set[1]/ab"]
LOOKALIKES = [
    "train-00000-of-00009.tar",
    ".scratch/a",
    "train-00000-of-00009.index.parquet",
    "sub/manifest.json",
]


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> list[Recipe]:
    """Recipes of one and of two shards."""
    folder = tmp_path_factory.mktemp("recipe")
    vg = tiny.write_vg(folder, [tiny.vg_image(1)], [])
    path = str(tiny.write_recipe(folder / "recipe.toml", sources={"vg": vg}))
    shards = [parse_override(f"splits.train.shards={n}") for n in (1, 2)]
    return [load(path, str(folder), [override]) for override in shards]


def test_process_without_options_of_beam_writes(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As workers of a worker pool are."""
    monkeypatch.setattr(FileSystems, "_pipeline_options", None)
    with atomic_write(f"{bucket}/bare/file", f"{bucket}/bare/scratch") as file:
        file.write(b"content")
    assert store(bucket).cat_file(f"{bucket}/bare/file") == b"content"


def build(output: str, recipe: Recipe, set_: Path, *, overwrite: bool, finish: bool) -> str:
    """Writes the files of a recipe, and the manifest if the build is to finish.

    Returns:
        The name of the folder of its temporary files.
    """
    with held(output) as lease:
        folder = OutputFolder(output, recipe, lease)
        folder.prepare(overwrite=overwrite)
        scratch = scratch_folder(output, lease)
        with atomic_write(f"{scratch}/unpacked.json", scratch) as file:
            file.write(b"[]")
        for name in sorted(file_names(recipe) - {mf.NAME}) + [mf.NAME] * finish:
            source = set_ / name
            with atomic_write(f"{output}/{name}", scratch, lease) as file:
                file.write(source.read_bytes() if source.exists() else b"table")
        if finish:
            folder.finish(mf.load(set_))
    return scratch.removeprefix(f"{output}/")


def test_builds_leave_files_of_others(bucket: str, recipes: list[Recipe], tmp_path: Path) -> None:
    system, output = store(bucket), f"{bucket}/{FOLDER}"
    planted = {f"made/{FOLDER}/{name}" for name in LOOKALIKES}
    planted |= {f"made/{other}/{name}" for other in NEIGHBORS for name in file_names(recipes[0])}
    for path in planted:
        system.pipe_file(path, b"precious")
    sets = [write_shard_set(tmp_path / str(n), [[1]] * n) for n in (1, 2)]
    for set_ in sets:
        manifest = mf.load(set_)
        shard = "train-00000-of-00001.tar"
        tables = file_names(recipes[0]) - {mf.NAME, shard, index_name(shard)}
        manifest.files += [mf.FileEntry(name, 5, "0" * 64) for name in sorted(tables)]
        (set_ / mf.NAME).write_bytes(mf.encode(manifest))

    def written() -> set[str]:
        present = set(system.find("made"))
        assert planted <= present
        prefix = f"made/{FOLDER}/"
        return {path.removeprefix(prefix) for path in present - planted if path.startswith(prefix)}

    one, two = recipes
    scratch = build(output, two, sets[1], overwrite=False, finish=False)  # killed
    assert written() == file_names(two) - {mf.NAME} | {JOURNAL, f"{scratch}/unpacked.json"}
    build(output, one, sets[0], overwrite=False, finish=True)
    assert written() == file_names(one)
    assert [e.file for e in ShardSet.open(output).shards] == ["train-00000-of-00001.tar"]
    with pytest.raises(OutputFolderError, match="is a finished shard set"):
        build(output, two, sets[1], overwrite=False, finish=True)
    build(output, two, sets[1], overwrite=True, finish=True)
    assert written() == file_names(two)
    for path in planted:
        assert system.cat_file(path) == b"precious"


def test_files_of_others_under_names_of_the_build_are_refused(
    bucket: str, recipes: list[Recipe]
) -> None:
    system = store(bucket)
    for name in ("stats.json", "manifest.json", "train-00000-of-00001.tar", f"{SCRATCH}/a"):
        path = f"made/refused/{name}"
        system.pipe_file(path, b"precious")
        with (
            pytest.raises(OutputFolderError, match=r"files that no build wrote"),
            held(f"{bucket}/refused") as lease,
        ):
            OutputFolder(f"{bucket}/refused", recipes[0], lease).prepare(overwrite=True)
        assert system.find("made/refused") == [path]
        system.rm_file(path)


def test_bucket_that_does_not_exist_is_an_error(bucket: str, recipes: list[Recipe]) -> None:
    with pytest.raises(StoreError, match=r"NoSuchBucket|NotFound"), held(f"{bucket}-not/shards"):
        pass
    with pytest.raises(OutputFolderError, match="cannot write to"):
        OutputFolder(f"{bucket}-not/shards", recipes[0]).prepare()
