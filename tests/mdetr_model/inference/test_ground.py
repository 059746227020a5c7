"""Grounding a caption in an image, and the errors of the command."""

import re
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    DetrConfig,
    GroundingDinoConfig,
    PreTrainedConfig,
    ResNetConfig,
)

from mdetr_model.__main__ import main
from mdetr_model.inference.ground import GroundedObject, check_caption, format_table, ground
from mdetr_model.inference.images import open_image
from mdetr_model.model_folder import read_model
from tests import processes

CAPTION = "a red ball near the small dog"


def test_objects_are_sorted_by_score_and_inside_the_image(model_folder: Path, image: Path) -> None:
    [objects] = ground(open_image(image), [CAPTION], *read_model(model_folder), threshold=0.0)
    assert len(objects) == 6
    assert [obj.score for obj in objects] == sorted((obj.score for obj in objects), reverse=True)
    for obj in objects:
        assert obj.phrase == " ".join(CAPTION[begin:end] for begin, end in obj.spans)
        left, top, right, bottom = obj.box
        assert left < right <= 300 and top < bottom <= 90
    [none] = ground(open_image(image), [CAPTION], *read_model(model_folder), threshold=1.0)
    assert not none


def test_captions_of_a_batch_have_the_objects_of_single_ones(
    model_folder: Path, image: Path
) -> None:
    captions = ["a red ball", CAPTION, "ball"]
    model, processor = read_model(model_folder)
    batch = ground(open_image(image), captions, model, processor, 0.0)
    for caption, objects in zip(captions, batch, strict=True):
        [single] = ground(open_image(image), [caption], model, processor, 0.0)
        assert [obj.spans for obj in objects] == [obj.spans for obj in single]
        for one, other in zip(objects, single, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-5)
            assert one.box == pytest.approx(other.box, abs=1e-3)


@pytest.mark.parametrize(
    ("caption", "message"),
    [
        (" \t", "the caption is empty"),
        ("a caf\udce9", r"the caption has characters that are not Unicode: 'a caf\\udce9'"),
        ("x" * 255, "the caption has 257 tokens, and a model reads 256: 'xxxx"),
    ],
)
def test_caption_that_is_not_read_whole_is_refused(
    model_folder: Path, caption: str, message: str
) -> None:
    _, processor = read_model(model_folder)
    check_caption("x" * 254, processor)
    with pytest.raises(ValueError, match=message):
        check_caption(caption, processor)


def test_ground_command_prints_table_and_writes_drawing(
    model_folder: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.png"
    options = ["--model", str(model_folder), "--threshold", "0", "--output", str(output)]
    assert main(["ground", str(image), CAPTION, *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["score", "left", "top", "right", "bottom", "phrase"]
    assert len(lines) == 8
    assert lines[-1] == str(output)
    with Image.open(output) as drawn:
        assert drawn.width == 200 and drawn.height > 60


def test_caption_may_follow_options(
    model_folder: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["ground", str(image), "--model", str(model_folder), CAPTION]) == 0
    assert (tmp_path / "image.grounded.png").is_file()


def test_ground_runs_in_a_new_interpreter(model_folder: Path, image: Path, tmp_path: Path) -> None:
    """The command imports all that it needs, most of which this process imported before."""
    options = ["--model", model_folder, "--threshold", "0", "--output", tmp_path / "out.png"]
    command = [sys.executable, "-m", "mdetr_model", "ground", image, CAPTION, *options]
    ended = processes.run(command, check=True)
    assert len(ended.stdout.splitlines()) == 8
    assert ended.stderr == ""


def test_table_has_one_line_per_object() -> None:
    named = GroundedObject("red ball", ((2, 10),), (1.2, 2.0, 30.0, 40.7), 0.987)
    lines = format_table([named, GroundedObject("", (), (0.0, 0.0, 5.0, 5.0), 0.5)]).splitlines()
    assert lines[1].split(maxsplit=5) == ["0.99", "1", "2", "30", "41", "red ball"]
    assert lines[2].split()[-1] == "-"


def test_folder_without_processor_error_says_how_to_write_one(
    model_folder: Path, tmp_path: Path
) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(model_folder / name, tmp_path)
    with pytest.raises(OSError, match="has no processor; convert the checkpoint with --tokenizer"):
        read_model(tmp_path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.safetensors", b"\0" * 100),
        ("config.json", b"{"),
        ("config.json", b'{"model_type": "mdetr", "num_queries": 7}'),
        ("tokenizer.json", b"{}"),
        ("processor_config.json", b"[]"),
    ],
)
def test_damaged_model_error_names_the_folder(
    model_folder: Path, tmp_path: Path, file: str, content: bytes
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(model_folder, damaged)
    (damaged / file).write_bytes(content)
    with pytest.raises(ValueError, match=r"the model in .*damaged cannot be read: "):
        read_model(damaged)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9])
@pytest.mark.parametrize(
    "file", ["model.safetensors", "config.json", "tokenizer.json", "processor_config.json"]
)
def test_half_downloaded_model_error_names_the_file(
    model_folder: Path, tmp_path: Path, file: str, share: float
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(model_folder, damaged)
    content = (damaged / file).read_bytes()
    (damaged / file).write_bytes(content[: int(len(content) * share)])
    with pytest.raises((ValueError, OSError), match=rf"damaged.*{re.escape(file)}"):
        read_model(damaged)


@pytest.mark.parametrize(
    "kind",
    [
        BertConfig(),
        DetrConfig(backbone_config=ResNetConfig(), use_timm_backbone=False),
        GroundingDinoConfig(),
    ],
)
def test_folder_of_another_model_is_refused(
    kind: PreTrainedConfig, model_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(model_folder, tmp_path / "other")
    kind.save_pretrained(tmp_path / "other")
    name = re.escape(kind.model_type)
    with pytest.raises(ValueError, match=rf"other cannot be read: .*config\.json .*'{name}', not"):
        read_model(tmp_path / "other")


def test_weights_that_are_missing_are_named(model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "partial"
    shutil.copytree(model_folder, folder)
    weights = load_file(folder / "model.safetensors")
    del weights["object_heads.tokens.bias"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"partial cannot .* lack object_heads\.tokens\.bias$"):
        read_model(folder)


def test_folder_of_a_run_error_names_its_model(model_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(model_folder, tmp_path / "model")
    with pytest.raises(FileNotFoundError, match=r"is no model; did you mean .*/model\?"):
        read_model(tmp_path)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["convert", "MISSING", "--output", "OUT"], "No such file"),
        (["convert", "TEXT", "--output", "OUT"], "not a PyTorch checkpoint"),
        (
            ["convert", "IMAGE", "--output", "OUT"],
            "IMAGE: not a PyTorch checkpoint of tensors: Uns",
        ),
        (["ground", "MISSING", "words", "--model", "OUT"], "No such file"),
        (["ground", "TEXT", "words", "--model", "OUT"], "not an image of a known format"),
        (["ground", "HUGE", "words", "--model", "OUT"], "exceeds limit"),
        (["ground", "IMAGE", "words", "--model", "OUT"], "there is no folder"),
    ],
)
def test_command_error_names_the_cause(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (tmp_path / "TEXT").write_text("neither an image nor a checkpoint")
    Image.new("RGB", (8, 8)).save(tmp_path / "IMAGE", "PNG")
    Image.new("1", (20_000, 10_000)).save(tmp_path / "HUGE", "PNG")
    paths = [str(tmp_path / a) if a.isupper() else a for a in arguments]
    assert main(paths) == 1
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("mdetr: error: ") and message in last


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", "drawing"], "expected the name of an image file"),
        (["--output", "drawing.xyz"], "expected the name of an image file"),
        (["--output", "drawing.psd"], "expected the name of an image file"),
        (["--output", "s3://bucket/drawing.png"], "is a URL; expected a local path"),
        (["--threshold", "nan"], "'nan' is not a number from 0 to 1"),
        (["--threshold", "7"], "'7' is not a number from 0 to 1"),
        (["--caption", "more"], "expected IMAGE and CAPTION, or --image and --caption, or --p"),
    ],
)
def test_ground_refuses_wrong_options_before_it_reads_the_image(
    options: list[str], message: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "mdetr_model", "ground", "IMAGE", "words", "--model", "OUT"]
    ended = processes.run([*command, *options], cwd=tmp_path)
    assert ended.returncode == 2
    assert message in ended.stderr.splitlines()[-1]


def test_interrupted_command_has_status_130_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mdetr_model.inference.images.open_image", interrupt)
    assert main(["ground", "IMAGE", "words", "--model", "OUT"]) == 130
    assert capsys.readouterr().err == "mdetr: interrupted\n"
