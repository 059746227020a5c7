"""No command deletes or changes files of others, in its folders or beside them.

Names have characters of patterns, spaces, other scripts, or look like names of ours; so do the
names of the folders that the commands write.
"""

import shutil
import tempfile
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mdetr_model.__main__ import main as mdetr
from mdetr_model.training import checkpoints
from pipelines.build import main as build
from pipelines.synthetic.__main__ import main as synthetic
from shards import written_files
from shards.__main__ import main as shards
from shards.export.formats import FORMATS
from shards.inspection.browser.server import BrowserServer
from shards.reading.shard_set import ShardSet
from tests import foreign_files, tiny
from tests.end_to_end import small_training as small
from tests.file_digests import file_digests

ODD = "set [1]*?{a}%20é.tar"  # the name of a folder
IN_MEMORY = "--direct_running_mode=in_memory"


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw files of two images, and a recipe."""
    root = tmp_path_factory.mktemp("raw")
    regions = [tiny.vg_graph(n, tiny.vg_region(n, f"cat number {n}")) for n in (1, 2)]
    vg = tiny.write_vg(root, [tiny.vg_image(1), tiny.vg_image(2)], regions)
    tiny.write_recipe(root / "recipe.toml", sources={"vg": vg})
    return root


def build_set(raw: Path, output: Path, *options: str) -> int:
    fixed = [f"--root={raw}", f"--output={output}", "--quiet", IN_MEMORY]
    return build([str(raw / "recipe.toml"), *fixed, *options])


@pytest.fixture(scope="module")
def built(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard set in a folder with an odd name; tests must not change it."""
    output = tmp_path_factory.mktemp("built") / ODD
    assert build_set(raw, output) == 0
    return output


def odd_folders(test: Callable[..., None]) -> Callable[..., None]:
    """Runs a test with names of foreign files, and of the folder that a command writes."""
    return settings(max_examples=3)(
        example(folder="set[1]", names=["train-00000-of-00001.tar", "index.parquet.old"])(
            given(
                folder=foreign_files.names(),
                names=st.lists(foreign_files.names(), min_size=1, max_size=6),
            )(test)
        )
    )


@odd_folders
def test_builds_leave_foreign_files(raw: Path, built: Path, folder: str, names: list[str]) -> None:
    expected = file_digests(built)
    with tempfile.TemporaryDirectory() as root:
        output = Path(root) / folder
        foreign_files.plant(Path(root), ["set1", *(n for n in names if n != folder)])
        foreign_files.plant(Path(root) / "set1x", expected)
        beside = foreign_files.contents(Path(root), but=[folder])
        inside = foreign_files.plant(output, [name for name in names if name not in expected])
        assert build_set(raw, output) == 0  # fresh
        for options in ((), ("--overwrite",), ("--overwrite", "--set", "splits.train.shards=2")):
            assert build_set(raw, output, *options) == 0  # without options, the set stays
            assert inside.items() <= foreign_files.contents(output).items()
        assert build_set(raw, output, "--overwrite") == 0
        assert file_digests(output).items() >= expected.items()
        assert foreign_files.contents(output).keys() == inside.keys() | expected.keys()
        empty = shutil.copytree(raw, Path(root) / "set1x" / "raw")
        (empty / "vg/region_graphs.json").write_bytes(b"[")
        assert build_set(empty, output, "--overwrite") == 1  # a build that fails
        shutil.rmtree(empty)
        assert inside.items() <= foreign_files.contents(output).items()
        assert foreign_files.contents(Path(root), but=[folder]) == beside


def test_build_refuses_files_of_others_under_its_names(
    raw: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("train-00000-of-00001.tar", "stats.json", "manifest.json", ".mdetr-build"):
        planted = foreign_files.plant(tmp_path / name, [name])
        for options in ((), ("--overwrite",)):
            assert build_set(raw, tmp_path / name, *options) == 1
            error = capfd.readouterr().err
            assert f"no build wrote, under names that this one would write: {name}; move" in error
        assert foreign_files.contents(tmp_path / name) == planted


@odd_folders
def test_synthetic_data_leave_foreign_files(folder: str, names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as root:
        output = Path(root) / folder
        foreign_files.plant(Path(root), [name for name in names if name != folder])
        beside = foreign_files.contents(Path(root))
        arguments = ["--output", str(output), "--num-images", "2", "--no-images"]
        assert synthetic(arguments) == 0
        made = foreign_files.plant(output, names)
        assert synthetic(arguments) == 1
        assert foreign_files.contents(output) == made
        assert foreign_files.contents(Path(root), but=[folder]) == beside


@odd_folders
def test_shard_commands_leave_foreign_files(built: Path, folder: str, names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as root:
        set_ = shutil.copytree(built, Path(root) / ODD)
        foreign_files.plant(set_, [name for name in names if name not in file_digests(built)])
        foreign_files.plant(Path(root), [name for name in names if name != folder])
        before = foreign_files.contents(Path(root))
        assert shards(["stats", str(set_)]) == 0
        shards(["verify", str(set_), "--quiet"])  # lists the files of others
        opened = ShardSet.open(set_)
        with BrowserServer(opened, 0, None) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            with urllib.request.urlopen(server.url) as page:
                assert page.status == 200
            server.shutdown()
            thread.join()
        report = Path(root) / f"{folder[:40]}.html"
        if not report.exists():
            assert shards(["stats", str(set_), "--html", str(report)]) == 0
            assert shards(["stats", str(set_), "--html", str(report)]) == 0
            report.unlink()
        assert foreign_files.contents(Path(root)) == before
        output = Path(root) / folder
        for name in FORMATS:
            assert shards(["export", name, str(set_), "--output", str(output)]) == 0
            exported = foreign_files.plant(output, names)
            for other in FORMATS:
                assert shards(["export", other, str(set_), "--output", str(output)]) == 1
            assert foreign_files.contents(output) == exported
            shutil.rmtree(output)
        assert foreign_files.contents(Path(root)) == before


def test_training_evaluation_and_grounding_leave_foreign_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small.write_shards(tmp_path)
    config = small.write_config(tmp_path, epochs=2)
    run = tmp_path / ODD
    others = ["step-000000001.pt.bak", ".step-000000004.pt.tmp", ODD, "a b", "猫", "*.pt"]
    planted = {
        folder: foreign_files.plant(run / folder, others)
        for folder in (".", "checkpoints", "tensorboard")
    }
    arguments = small.arguments(config, run)
    assert small.run(arguments) == 0
    # A checkpoint of another run is neither rotated away nor replaced.
    (run / "checkpoints/step-000000003.pt").write_bytes(b"precious")
    earlier, last = checkpoints.list_checkpoints(run / "checkpoints")[1:]
    last.unlink()
    assert small.run([*arguments, "--resume", "auto"]) == 0
    assert checkpoints.list_checkpoints(run / "checkpoints")[1:] == [earlier, last]
    assert (run / "checkpoints/step-000000003.pt").read_bytes() == b"precious"

    evaluation = tmp_path / "evaluation {1}"
    model, val = str(run / "model"), str(tmp_path / "val")
    evaluate = ["evaluate", "grounding", "--model", model, "--shards", val, "--workers", "0"]
    evaluate += ["--num-images", "1", "--output", str(evaluation)]
    planted_there = foreign_files.plant(evaluation, [*others, "001.png"])
    for _ in range(2):  # replaces its own results
        assert small.run(evaluate) == 0
    assert planted_there.items() <= foreign_files.contents(evaluation).items()
    for name in ("metrics.json", "000.png"):
        foreign = tmp_path / f"evaluation of another program {name}"
        before = foreign_files.plant(foreign, [name])
        assert small.run([*evaluate[:-1], str(foreign)]) == 1
        assert f"not listed in its {written_files.NAME}: {name};" in capsys.readouterr().err
        assert foreign_files.contents(foreign) == before

    photo = tmp_path / "photo.jpg"
    photo.write_bytes(tiny.image_file())
    ground = ["ground", str(photo), "the red object", "--model", model, "--output"]
    assert mdetr([*ground, str(photo)]) == 1
    assert "photo.jpg exists already; remove it" in capsys.readouterr().err
    for _ in range(2):
        assert mdetr([*ground, str(tmp_path / "photo.grounded.png")]) == 0
    assert photo.read_bytes() == tiny.image_file()
    for folder, contents in planted.items():
        assert contents.items() <= foreign_files.contents(run / folder).items()


@pytest.mark.parametrize("name", ["config.json", "log.jsonl", "model/notes.txt"])
def test_training_refuses_files_of_others_under_its_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    small.write_shards(tmp_path)
    path = tmp_path / "run" / name
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    assert small.run(small.arguments(small.write_config(tmp_path), tmp_path / "run")) == 1
    assert f"are not listed in its {written_files.NAME}: {path.name};" in capsys.readouterr().err
    assert foreign_files.contents(tmp_path / "run") == {name: b"precious"}
