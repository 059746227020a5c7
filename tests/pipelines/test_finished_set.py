"""A finished set of the same recipe is left as it is, unless it would be built otherwise now."""

import os
import shutil
import time
from pathlib import Path

import msgspec
import pytest

from pipelines import finished_set
from pipelines.build import main
from pipelines.io.beam_files import SCRATCH
from pipelines.io.folder_lock import folder_lock
from pipelines.launch import BuildFailedError, run
from pipelines.output_folder import JOURNAL, Journal
from schemas import package_version
from tests import tiny

IN_MEMORY = "--direct_running_mode=in_memory"


class Built:
    """A small set in a folder, with what it was built from."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.output = folder, folder / "shards"
        self.recipe = str(folder / "recipe.toml")

    def build(self, *options: str) -> int:
        arguments = [self.recipe, f"--root={self.folder}", f"--output={self.output}"]
        return main([*arguments, IN_MEMORY, *options])

    def state(self) -> dict[str, tuple[bytes, int]]:
        """Returns content and modification time of all files of the set."""
        return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in self.output.iterdir()}

    def contents(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.output.iterdir()}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    graphs = [
        tiny.vg_graph(1, tiny.vg_region(1, "a red cat")),
        tiny.vg_graph(2, tiny.vg_region(2, "")),  # is rejected
    ]
    vg = tiny.write_vg(folder, [tiny.vg_image(1), tiny.vg_image(2)], graphs)
    tiny.write_recipe(folder / "recipe.toml", sources={"vg": vg})
    assert Built(folder).build("--quiet") == 0
    return folder


@pytest.fixture
def built(original: Path, tmp_path: Path) -> Built:
    """A duplicate of the set, which is newer than that of the raw files."""
    not_set = shutil.ignore_patterns("shards")
    shutil.copytree(original, tmp_path, ignore=not_set, dirs_exist_ok=True)
    time.sleep(0.05)  # longer than the resolution of the times of files
    shutil.copytree(original / "shards", tmp_path / "shards")
    return Built(tmp_path)


def test_equal_set_is_left_as_it_is_and_the_command_says_so(
    built: Built, capfd: pytest.CaptureFixture[str]
) -> None:
    before = built.state()
    began = time.process_time()
    assert built.build() == 0
    assert time.process_time() - began < 1  # the imports of the command not counted
    printed = capfd.readouterr()
    assert printed.out == (
        f"{built.output} is a finished shard set of this recipe, and is left as it is.\n"
    )
    assert printed.err == ""
    assert built.build("--quiet") == 0
    assert capfd.readouterr() == ("", "")
    assert built.state() == before
    assert set(before) == {path.name for path in built.output.iterdir()}


def test_rebuild_builds_the_same_bytes_again(built: Built) -> None:
    contents, before = built.contents(), built.state()
    assert built.build("--quiet", "--rebuild") == 0
    assert built.contents() == contents
    assert all(time > before[name][1] for name, (_, time) in built.state().items())


def test_rebuild_does_not_replace_a_set_of_another_recipe(
    built: Built, capfd: pytest.CaptureFixture[str]
) -> None:
    before = built.state()
    for options in ([], ["--rebuild"]):
        assert built.build("--quiet", "--set", "salt=x", *options) == 1
        assert capfd.readouterr().err == (
            f"mdetr-build: error: {built.output} is a finished shard set; --overwrite replaces it\n"
        )
    assert built.state() == before
    assert built.build("--quiet", "--set", "salt=x", "--overwrite") == 0


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def replace_by_an_older_file(path: Path) -> None:
    """Replaces a raw file as ``tar x`` and ``cp -p`` do: with a date before the build."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    os.utime(path, (1e9, 1e9))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda b: (b.output / "stats.json").unlink(),
            "stats.json is missing",
        ),
        (
            lambda b: shorten(b.output / "train-00000-of-00001.tar"),
            r"train-00000-of-00001.tar has [\d,]+ bytes instead of [\d,]+",
        ),
        (
            lambda b: (b.folder / "vg/region_graphs.json").touch(),
            r".*/region_graphs.json was changed after it was built",
        ),
        (
            lambda b: replace_by_an_older_file(b.folder / "vg/image_data.json"),
            r".*/image_data.json was changed after it was built",
        ),
    ],
    ids=["missing file", "shortened file", "touched raw file", "replaced raw file"],
)
def test_set_that_would_be_built_otherwise_is_refused_until_rebuild(
    built: Built, change: object, message: str
) -> None:
    assert callable(change)
    time.sleep(0.05)
    change(built)
    with pytest.raises(
        BuildFailedError,
        match=f"is a finished shard set of this recipe, but {message}; --rebuild builds it again",
    ):
        run(built.recipe, str(built.output), str(built.folder), [IN_MEMORY], quiet=True)
    assert built.build("--quiet", "--rebuild") == 0
    assert built.build("--quiet") == 0


def test_set_with_rejected_records_is_not_what_strict_builds(
    built: Built, capfd: pytest.CaptureFixture[str]
) -> None:
    assert built.build("--quiet", "--strict") == 1
    assert "it lacks 1 rejected record, which --strict forbids" in capfd.readouterr().err


def test_set_of_another_version_of_the_package_is_refused(
    built: Built, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(finished_set, "package_version", lambda: "99.0")
    assert built.build("--quiet") == 1
    version = package_version.package_version()
    assert f"version {version} built it, and this is 99.0; --rebuild" in capfd.readouterr().err


def test_what_a_build_left_that_was_killed_after_its_manifest_is_deleted(built: Built) -> None:
    contents = built.contents()
    late = "train-00000-of-00002.tar"  # of an earlier build's workers
    (built.output / late).write_bytes(b"")
    (built.output / SCRATCH).mkdir()
    journal = Journal(recipe_sha256="", files=[late, *contents])
    (built.output / JOURNAL).write_bytes(msgspec.json.encode(journal))
    with folder_lock(built.output, lambda: None):
        assert built.build("--quiet") == 3  # it is just being finished
    assert built.build("--quiet") == 0
    assert built.contents() == contents


def test_set_without_a_manifest_is_built(built: Built) -> None:
    contents = built.contents()
    shutil.rmtree(built.output)
    assert built.build("--quiet") == 0
    assert built.contents() == contents
