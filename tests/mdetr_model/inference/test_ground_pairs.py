"""``mdetr ground`` of several images and captions: the command, its files and its errors."""

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from mdetr_model.__main__ import main
from mdetr_model.inference.ground import ground
from mdetr_model.inference.images import open_image
from mdetr_model.model_folder import read_model
from tests import foreign_files, processes


@pytest.fixture
def images(tmp_path: Path, image: Path) -> Path:
    """Two images of one name, in two folders."""
    for name, width in (("first/cat.png", 200), ("second/cat.png", 90)):
        (tmp_path / "images" / name).parent.mkdir(parents=True)
        Image.open(image).resize((width, 60)).save(tmp_path / "images" / name)
    return tmp_path / "images"


def test_command_grounds_images_and_captions(model_folder: Path, images: Path) -> None:
    """In a new interpreter, which imports all that the command needs."""
    command = [sys.executable, "-m", "mdetr_model", "ground", "--model", model_folder]
    command += ["--image", "first/cat.png", "second", "--caption", "a cat", "--caption", "two dogs"]
    ended = processes.run([*command, "--threshold", "0", "--output", "out"], cwd=images)
    assert ended.returncode == 0, ended.stderr
    output = images / "out"
    names = [f"00{number}-cat.png" for number in range(4)]
    assert sorted(path.name for path in output.iterdir()) == [*names, "grounded.json"]
    lines = [f"out/{name}: 6 objects" for name in names]
    assert ended.stdout.splitlines() == [*lines, "out/grounded.json"]
    entries = json.loads((output / "grounded.json").read_text())
    assert [entry["drawing"] for entry in entries] == names
    paths = ["first/cat.png", "second/cat.png"]
    assert [(entry["image"], entry["caption"]) for entry in entries] == [
        (path, caption) for path in paths for caption in ("a cat", "two dogs")
    ]
    for entry in entries:
        assert (entry["width"], entry["height"]) == (200 if "first" in entry["image"] else 90, 60)
        with Image.open(output / entry["drawing"]) as drawing:
            assert drawing.width == entry["width"]


def test_json_has_the_objects_of_each_pair(
    model_folder: Path, images: Path, tmp_path: Path
) -> None:
    lines = ["images/second/cat.png\ta red cat", "images/first/cat.png\ttwo dogs"]
    lines.append("images/second/cat.png\ta cat")
    (tmp_path / "pairs.tsv").write_text("\n".join(lines))
    arguments = ["ground", "--pairs", str(tmp_path / "pairs.tsv"), "--model", str(model_folder)]
    arguments += ["--threshold", "0", "--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    entries = json.loads((tmp_path / "out/grounded.json").read_text())
    model, processor = read_model(model_folder)
    for line, entry in zip(lines, entries, strict=True):
        path, caption = line.split("\t")
        assert (entry["image"], entry["caption"]) == (str(tmp_path / path), caption)
        [objects] = ground(open_image(tmp_path / path), [caption], model, processor, 0.0)
        assert len(entry["predictions"]) == len(objects) == 6
        for prediction, obj in zip(entry["predictions"], objects, strict=True):
            assert prediction["box"] == pytest.approx(obj.box, abs=0.01)
            assert prediction["score"] == pytest.approx(obj.score, abs=1e-4)
            parts = [caption[begin:end] for begin, end in prediction["spans"]]
            assert prediction["phrase"] == " ".join(parts) == obj.phrase


def test_more_captions_than_a_batch(model_folder: Path, image: Path, tmp_path: Path) -> None:
    captions = [f"cat {number}" for number in range(19)]
    arguments = ["ground", "--model", str(model_folder), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--image", str(image), "--caption", *captions]) == 0
    entries = json.loads((tmp_path / "out/grounded.json").read_text())
    assert [entry["caption"] for entry in entries] == captions


def test_unreadable_image_costs_only_its_pairs(
    model_folder: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = images / "first/broken.jpg"
    broken.write_bytes(b"no image")
    output = tmp_path / "out"
    arguments = ["ground", "--model", str(model_folder), "--output", str(output)]
    arguments += ["--image", str(images / "first"), "--caption", "one", "two"]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert f"mdetr: error: 1 image could not be read: {broken}" in error
    entries = json.loads((output / "grounded.json").read_text())
    assert ["error" in entry for entry in entries] == [True, True, False, False]
    assert "broken.jpg: not an image of a known format" in entries[0]["error"]
    assert sorted(path.name for path in output.glob("*.png")) == ["002-cat.png", "003-cat.png"]


def test_long_and_odd_names(model_folder: Path, image: Path, tmp_path: Path) -> None:
    odd = tmp_path / ("猫" * 80 + ".jpg")
    line_feed = tmp_path / "a\nb.jpg"
    for path in (odd, line_feed):
        path.write_bytes(image.read_bytes())
    arguments = ["ground", "--model", str(model_folder), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--image", str(odd), str(line_feed), "--caption", "cat"]) == 0
    entries = json.loads((tmp_path / "out/grounded.json").read_text())
    assert [entry["image"] for entry in entries] == [str(odd), str(line_feed)]
    assert all((tmp_path / "out" / entry["drawing"]).is_file() for entry in entries)


def test_folder_with_files_is_not_written_to(
    model_folder: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planted = foreign_files.plant(tmp_path / "out", ["grounded.json", "000-image.png"])
    arguments = ["ground", "--model", str(model_folder), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--image", str(image), "--caption", "cat"]) == 1
    assert "exists already and is not an empty folder" in capsys.readouterr().err
    assert foreign_files.contents(tmp_path / "out") == planted


def test_model_error_names_the_model(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["ground", "--image", str(image), "--caption", "cat", "--model", "nowhere"]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == "mdetr: error: there is no folder nowhere\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--image", "IMAGE", "--output", "OUT"], 2, "--image and --caption are required together"),
        (["--caption", "cat", "--output", "OUT"], 2, "--image and --caption are required together"),
        (["--image", "IMAGE", "--caption", "cat"], 2, "--output FOLDER is required"),
        (["--pairs", "PAIRS", "--caption", "cat"], 2, "expected IMAGE and CAPTION, or --image"),
        ([], 2, "expected IMAGE and CAPTION, or --image and --caption, or --pairs"),
        (["IMAGE"], 2, "expected a caption after IMAGE"),
        (["FOLDER", "cat"], 2, "is a folder: use --image, --caption and --output"),
        (["IMAGE", " "], 1, "the caption is empty"),
        (["--image", "IMAGE", "--caption", "cat", " ", "--output", "OUT"], 1, "the caption is emp"),
        (["--image", "MISSING", "--caption", "cat", "--output", "OUT"], 1, "there is no image"),
        (["--image", "FOLDER", "--caption", "cat", "--output", "OUT"], 1, "has no files with the"),
        (["--pairs", "PAIRS", "--output", "OUT"], 1, "PAIRS, line 1: expected an image, a tab"),
        (["--pairs", "MISSING", "--output", "OUT"], 1, "MISSING: No such file"),
        (["--image", "IMAGE", "--caption", "cat", "--output", "IMAGE"], 1, "is not a folder"),
        (["--image", "IMAGE", "--caption", "a\udce9", "--output", "OUT"], 1, "are not Unicode"),
    ],
)
def test_error_names_the_cause_and_writes_nothing(
    model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    message: str,
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "IMAGE", "PNG")
    (tmp_path / "PAIRS").write_text("IMAGE cat")
    (tmp_path / "FOLDER").mkdir()
    before = foreign_files.contents(tmp_path)
    paths = [str(tmp_path / a) if a.isupper() else a for a in arguments]
    assert main(["ground", *paths, "--model", str(model_folder)]) == status
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("mdetr: error: ") and message in last
    assert foreign_files.contents(tmp_path) == before
