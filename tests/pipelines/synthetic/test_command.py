"""``mdetr-synthetic``: the same options give the same bytes, and every layout is complete."""

import json
import os
import pickle
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from pipelines.synthetic.__main__ import main
from pipelines.synthetic.plan import plan_image
from tests.file_digests import file_digests
from tests.processes import started

OPTIONS = ["--num-images", "40", "--seed", "3"]


def generate(folder: Path, *options: str) -> dict[str, str]:
    """Runs the command; returns the digests of the files that it writes."""
    assert main(["--output", str(folder), *options]) == 0
    return file_digests(folder)


@pytest.mark.parametrize("layout", [["grounding"], ["grounding", "--scenes", "simple"], ["clevr"]])
def test_same_options_give_the_same_bytes(layout: list[str], tmp_path: Path) -> None:
    options = ["--layout", *layout, *OPTIONS]
    assert generate(tmp_path / "first", *options) == generate(tmp_path / "second", *options)


def test_no_images_writes_the_same_annotations(tmp_path: Path) -> None:
    with_images = generate(tmp_path / "with_images", *OPTIONS)
    annotations = {name: d for name, d in with_images.items() if not name.endswith(".jpg")}
    assert len(annotations) < len(with_images)
    assert generate(tmp_path / "annotations", *OPTIONS, "--no-images") == annotations


def test_images_are_in_order_when_several_processes_generate_them(demo_dataset: Path) -> None:
    rows = json.loads((demo_dataset / "vg/image_data.json").read_bytes())
    images = [plan_image(number, seed=0) for number in range(300)]
    assert [row["image_id"] for row in rows] == [i.vg_id for i in images if i.vg_id]


def test_another_seed_gives_another_dataset(tmp_path: Path) -> None:
    options = ["--num-images", "10", "--no-images", "--seed"]
    first = generate(tmp_path / "first", *options, "3")
    second = generate(tmp_path / "second", *options, "4")
    assert first["vg/region_graphs.json"] != second["vg/region_graphs.json"]


@pytest.mark.parametrize("num_images", [0, 1, 2])
def test_tiny_datasets_have_every_file(num_images: int, demo_dataset: Path, tmp_path: Path) -> None:
    files = {path.relative_to(demo_dataset).as_posix() for path in demo_dataset.rglob("*.*")}
    fixed = {n for n in files if not re.search(r"(Annotations|Sentences)/|\.jpg$", n)}
    assert fixed <= generate(tmp_path / "tiny", "--num-images", str(num_images)).keys()
    assert len(json.loads((tmp_path / "tiny/vg/image_data.json").read_bytes())) <= num_images
    for path in (tmp_path / "tiny").rglob("*.p"):
        assert isinstance(pickle.loads(path.read_bytes()), list)


def test_output_folder_that_is_not_empty_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("content")
    assert main(["--output", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("mdetr-synthetic: error: ")
    assert "not an empty folder" in error
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_output_at_a_url_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--output", "gs://bucket/raw"])
    assert "'gs://bucket/raw' is a URL; expected a local path" in capsys.readouterr().err


def test_interrupted_command_has_status_130_no_traceback_and_no_folder(tmp_path: Path) -> None:
    options = ["--output", tmp_path / "raw", "--num-images", "100000", "--no-images"]
    with started([sys.executable, "-m", "pipelines.synthetic", *options]) as process:
        deadline = time.monotonic() + 300
        while not any(tmp_path.glob(".raw.mdetr-tmp/vg/*")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(300) == 130
        assert process.stdout is not None
        assert process.stdout.read().splitlines()[-1] == "mdetr-synthetic: interrupted"
    assert not any(tmp_path.iterdir())


def test_clevr_refuses_options_of_the_other_layout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--output", str(tmp_path / "out"), "--layout", "clevr", "--regions", "9"])
    assert "--layout clevr does not use --regions" in capsys.readouterr().err
