"""Grounding a caption in an image, and the errors of the command."""

import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers.pre_tokenizers import ByteLevel
from transformers import RobertaTokenizerFast

from mdetr_model import MdetrConfig, MdetrForGrounding, MdetrImageProcessor, MdetrProcessor
from mdetr_model.__main__ import main
from mdetr_model.inference.ground import GroundedObject, format_table, ground, open_image
from mdetr_model.model_folder import read_model
from tests import processes

CAPTION = "a red ball near the small dog"
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random model with a tokenizer of single bytes."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *sorted(ByteLevel.alphabet())])}
    text = {"model_type": "roberta", "hidden_size": 32, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "intermediate_size": 40, "vocab_size": len(vocabulary)}
    image = {"model_type": "resnet", "layer_type": "basic", "embedding_size": 8}
    image |= {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}
    size = {"hidden_size": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32}
    size["decoder_ffn_dim"] = 32
    config = MdetrConfig(backbone_config=image, text_config=text, num_queries=6, **size)
    MdetrForGrounding(config).save_pretrained(folder)
    tokenizer = RobertaTokenizerFast(vocab=vocabulary, merges=[])
    image_processor = MdetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    MdetrProcessor(image_processor, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (60, 200, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.jpg")
    return tmp_path / "image.jpg"


def test_objects_are_sorted_by_score_and_inside_the_image(model_folder: Path, image: Path) -> None:
    objects = ground(open_image(image), CAPTION, *read_model(model_folder), threshold=0.0)
    assert len(objects) == 6
    assert [obj.score for obj in objects] == sorted((obj.score for obj in objects), reverse=True)
    for obj in objects:
        assert obj.phrase == " ".join(CAPTION[begin:end] for begin, end in obj.spans)
        left, top, right, bottom = obj.box
        assert left < right <= 300 and top < bottom <= 90
    assert not ground(open_image(image), CAPTION, *read_model(model_folder), threshold=1.0)


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


def test_ground_runs_in_a_new_interpreter(model_folder: Path, image: Path, tmp_path: Path) -> None:
    """The command imports all that it needs, most of which this process imported before."""
    options = ["--model", model_folder, "--threshold", "0", "--output", tmp_path / "out.png"]
    command = [sys.executable, "-m", "mdetr_model", "ground", image, CAPTION, *options]
    assert len(processes.run(command, check=True).stdout.splitlines()) == 8


def test_table_has_one_line_per_object() -> None:
    named = GroundedObject("red ball", ((2, 10),), (1.2, 2.0, 30.0, 40.7), 0.987)
    lines = format_table([named, GroundedObject("", (), (0.0, 0.0, 5.0, 5.0), 0.5)]).splitlines()
    assert lines[1].split(maxsplit=5) == ["0.99", "1", "2", "30", "41", "red ball"]
    assert lines[2].split()[-1] == "-"


@pytest.mark.parametrize("name", ["gray.png", "gray.tiff"])
def test_16_bit_gray_is_scaled_to_8_bits(tmp_path: Path, name: str) -> None:
    gray = np.random.default_rng(0).integers(0, 256, (6, 9), np.uint8)
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / name)
    read = np.asarray(open_image(tmp_path / name))
    assert np.array_equal(read, np.repeat(gray[..., None], 3, axis=2))


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_32_bit_pixels_are_refused(tmp_path: Path, kind: type) -> None:
    Image.fromarray(np.full((6, 9), 7, kind)).save(tmp_path / "deep.tiff")
    with pytest.raises(ValueError, match=r"deep\.tiff: pixels of 32 bits"):
        open_image(tmp_path / "deep.tiff")


@pytest.mark.parametrize("error", [SyntaxError, struct.error])
def test_corrupted_image_error_names_the_file(
    image: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def corrupted(_opened: Image.Image) -> None:
        raise error("broken")

    monkeypatch.setattr("mdetr_model.inference.ground.ImageOps.exif_transpose", corrupted)
    with pytest.raises(ValueError, match=r"image\.jpg: broken"):
        open_image(image)


def test_corrupted_png_chunk_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    Image.fromarray(np.zeros((400, 400, 3), np.uint8)).save(path, compress_level=0)
    content = bytearray(path.read_bytes())
    second = content.index(b"IDAT", content.index(b"IDAT") + 4)
    content[second : second + 4] = b"\0\0\0\0"
    path.write_bytes(content)
    with pytest.raises((OSError, ValueError), match=r"broken\.png"):
        open_image(path)


def test_folder_without_processor_error_says_how_to_write_one(
    model_folder: Path, tmp_path: Path
) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(model_folder / name, tmp_path)
    with pytest.raises(OSError, match="has no processor; convert the checkpoint with --tokenizer"):
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
        (["ground", "TEXT", "words", "--model", "OUT"], "cannot identify image file"),
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
        (["--output", "s3://bucket/drawing.png"], "is a URL; expected a local path"),
    ],
)
def test_ground_refuses_an_output_that_is_no_image_before_it_reads_the_image(
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

    monkeypatch.setattr("mdetr_model.inference.ground.open_image", interrupt)
    assert main(["ground", "IMAGE", "words", "--model", "OUT"]) == 130
    assert capsys.readouterr().err == "mdetr: interrupted\n"
