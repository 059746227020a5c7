"""The commands: convert a checkpoint, ground a caption, say what is wrong."""

import shutil
import struct
import subprocess
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
from mdetr_model.inference.ground import MARGIN, Grounding, drawing, ground, open_image, table
from mdetr_model.model_folder import read_model

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


def test_found_objects_are_sorted_and_within_reach(model_folder: Path, image: Path) -> None:
    found = ground(open_image(image), CAPTION, *read_model(model_folder), threshold=0.0)
    assert len(found) == 6
    assert [g.score for g in found] == sorted((g.score for g in found), reverse=True)
    for grounding in found:
        assert grounding.phrase == " ".join(CAPTION[a:b] for a, b in grounding.spans)
        left, top, right, bottom = grounding.box
        assert left < right <= 300 and top < bottom <= 90
    assert not ground(open_image(image), CAPTION, *read_model(model_folder), threshold=1.0)


def test_command_prints_a_table_and_writes_an_image(
    model_folder: Path, image: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.png"
    options = ["--model", str(model_folder), "--threshold", "0", "--output", str(output)]
    # A process of its own has imported nothing but what the command imports.
    command = [sys.executable, "-m", "mdetr_model", "ground", str(image), CAPTION, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["score", "left", "top", "right", "bottom", "phrase"]
    assert len(lines) == 8
    assert lines[-1] == str(output)
    with Image.open(output) as drawn:
        assert drawn.width == 200 and drawn.height > 60


def test_table_has_a_line_an_object() -> None:
    named = Grounding("red ball", ((2, 10),), (1.2, 2.0, 30.0, 40.7), 0.987)
    lines = table([named, Grounding("", (), (0.0, 0.0, 5.0, 5.0), 0.5)]).splitlines()
    assert lines[1].split(maxsplit=5) == ["0.99", "1", "2", "30", "41", "red ball"]
    assert lines[2].split()[-1] == "-"


def test_drawing_colors_words_as_their_boxes() -> None:
    found = [
        Grounding("red ball", ((2, 10),), (20.0, 10.0, 60.0, 50.0), 0.9),
        Grounding("small dog", ((20, 29),), (100.0, 10.0, 150.0, 50.0), 0.8),
    ]
    drawn = np.asarray(drawing(Image.new("RGB", (400, 80), "white"), CAPTION, found))
    first, second = drawn[50, 40], drawn[50, 125]
    assert not np.array_equal(first, second)
    caption = drawn[80 + MARGIN :].reshape(-1, 3)
    for color in (first, second, np.zeros(3)):
        assert (caption == color).all(-1).any()


def test_long_captions_and_no_objects_are_drawn() -> None:
    blank = Image.new("RGB", (120, 40))
    short, long = drawing(blank, "a", []), drawing(blank, "many words " * 30, [])
    assert long.height > short.height > 40
    assert drawing(blank, "", []).width == 120


@pytest.mark.parametrize("name", ["gray.png", "gray.tiff"])
def test_gray_of_16_bits_is_as_dark_as_that_of_8(tmp_path: Path, name: str) -> None:
    gray = np.random.default_rng(0).integers(0, 256, (6, 9), np.uint8)
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / name)
    read = np.asarray(open_image(tmp_path / name))
    assert np.array_equal(read, np.repeat(gray[..., None], 3, axis=2))


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_pixels_of_32_bits_are_refused(tmp_path: Path, kind: type) -> None:
    Image.fromarray(np.full((6, 9), 7, kind)).save(tmp_path / "deep.tiff")
    with pytest.raises(ValueError, match=r"deep\.tiff: pixels of 32 bits"):
        open_image(tmp_path / "deep.tiff")


@pytest.mark.parametrize("error", [SyntaxError, struct.error])
def test_damage_is_told_with_the_name_of_the_file(
    image: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def damaged(_opened: Image.Image) -> None:
        raise error("broken")

    monkeypatch.setattr("mdetr_model.inference.ground.ImageOps.exif_transpose", damaged)
    with pytest.raises(ValueError, match=r"image\.jpg: broken"):
        open_image(image)


def test_a_broken_chunk_of_a_png_is_told_with_the_name_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    Image.fromarray(np.zeros((400, 400, 3), np.uint8)).save(path, compress_level=0)
    content = bytearray(path.read_bytes())
    second = content.index(b"IDAT", content.index(b"IDAT") + 4)
    content[second : second + 4] = b"\0\0\0\0"
    path.write_bytes(content)
    with pytest.raises((OSError, ValueError), match=r"broken\.png"):
        open_image(path)


def test_a_folder_without_a_processor_is_told_how_to_have_one(
    model_folder: Path, tmp_path: Path
) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(model_folder / name, tmp_path)
    with pytest.raises(OSError, match="has no processor; convert a checkpoint with --tokenizer"):
        read_model(tmp_path)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["convert", "MISSING", "--output", "OUT"], "No such file"),
        (["convert", "TEXT", "--output", "OUT"], "not a PyTorch checkpoint"),
        (["ground", "MISSING", "words", "--model", "OUT"], "No such file"),
        (["ground", "TEXT", "words", "--model", "OUT"], "cannot identify image file"),
        (["ground", "HUGE", "words", "--model", "OUT"], "exceeds limit"),
        (["ground", "IMAGE", "words", "--model", "OUT"], "there is no folder"),
    ],
)
def test_commands_say_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (tmp_path / "TEXT").write_text("neither an image nor a checkpoint")
    Image.new("RGB", (8, 8)).save(tmp_path / "IMAGE", "PNG")
    Image.new("1", (20_000, 10_000)).save(tmp_path / "HUGE", "PNG")
    paths = [str(tmp_path / a) if a.isupper() else a for a in arguments]
    assert main(paths) == 1
    assert message in capsys.readouterr().err
