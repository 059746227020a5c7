"""Detectors of transformers as `mdetr evaluate` reads them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForZeroShotObjectDetection, AutoTokenizer

from mdetr_model.evaluation.detectors import Prompt, is_other_detector, joined, read_detector
from tests.mdetr_model.small import tiny_model
from tests.mdetr_model.tiny_detectors import write_grounding_dino, write_owl

KINDS: dict[str, Callable[[Path], Path]] = {
    "grounding-dino": write_grounding_dino,
    "mm-grounding-dino": lambda folder: write_grounding_dino(folder, mm=True),
    "owlv2": write_owl,
    "owlvit": lambda folder: write_owl(folder, v2=False),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("detectors")
    return {kind: write(folder / kind) for kind, write in KINDS.items()}


def random_image(seed: int, width: int = 90, height: int = 60) -> Image.Image:
    r = np.random.default_rng(seed)
    return Image.fromarray(r.integers(0, 255, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_are_those_of_transformers(models: dict[str, Path], kind: str) -> None:
    source, image = str(models[kind]), random_image(0)
    [[detections]] = read_detector(source, "cpu").detect([image], [joined(["cat"])])
    processor = AutoImageProcessor.from_pretrained(source)
    inputs = dict(processor(images=image, return_tensors="pt"))
    length = {"padding": "max_length", "max_length": 16} if "owl" in kind else {}
    text = "cat" if "owl" in kind else "cat."
    inputs |= AutoTokenizer.from_pretrained(source)([text], return_tensors="pt", **length)
    model = AutoModelForZeroShotObjectDetection.from_pretrained(source).eval()
    with torch.inference_mode():
        outputs = model(**inputs)
    [theirs] = processor.post_process_object_detection(outputs, -1, [(60, 90)])
    torch.testing.assert_close(detections.boxes, theirs["boxes"], rtol=1e-4, atol=1e-3)
    if "owl" in kind:
        torch.testing.assert_close(detections.scores, theirs["scores"])
    else:  # "c", "##a" and "##t" are the tokens 1 to 3
        probabilities = outputs.logits[0].sigmoid()
        torch.testing.assert_close(detections.scores, probabilities[:, 1:4].mean(-1))


@pytest.mark.parametrize("kind", KINDS)
def test_batch_of_equal_sizes_equals_single_pairs(models: dict[str, Path], kind: str) -> None:
    detector = read_detector(str(models[kind]), "cpu")
    images = [random_image(seed) for seed in range(2)]
    prompts = [Prompt("A red cup on a table", [[(2, 9)], [(13, 20)]]), Prompt("a dog", [[(0, 5)]])]
    batch = detector.detect(images, prompts)
    assert [len(phrases) for phrases in batch] == [2, 1]
    for image, prompt, phrases in zip(images, prompts, batch, strict=True):
        [single] = detector.detect([image], [prompt])
        for ours, theirs in zip(phrases, single, strict=True):
            torch.testing.assert_close(ours.boxes, theirs.boxes, rtol=1e-3, atol=1e-2)
            torch.testing.assert_close(ours.scores, theirs.scores, rtol=1e-3, atol=1e-4)
    first, second = batch[0]
    assert not torch.equal(first.scores, second.scores)


def test_classes_are_packed_into_prompts_that_are_read_to_the_end(models: dict[str, Path]) -> None:
    """A class of two letters and the full stop have three tokens."""
    names = [f"{a}{b}" for a in "abcdefghij" for b in "klmnopqrst"]
    detector = read_detector(str(models["grounding-dino"]), "cpu")
    prompts = detector.class_prompts(names)
    assert [words for prompt in prompts for words in prompt.words()] == names
    assert [len(prompt.phrases) for prompt in prompts] == [
        84,
        16,
    ]  # 254 tokens, and two special ones
    for phrases in detector.detect([random_image(0)] * 2, prompts):
        assert all(len(detections.boxes) == 6 for detections in phrases)
    [prompt] = read_detector(str(models["owlv2"]), "cpu").class_prompts(names)
    assert prompt.words() == names


def test_phrase_after_the_last_token_has_no_boxes(models: dict[str, Path]) -> None:
    text = "a " * 300 + "dog"
    prompt = Prompt(text, [[(0, 1)], [(len(text) - 3, len(text))]])
    detector = read_detector(str(models["grounding-dino"]), "cpu")
    [[first, last]] = detector.detect([random_image(0)], [prompt])
    assert (len(first.boxes), len(last.boxes)) == (6, 0)


def test_letter_case_does_not_move_spans(models: dict[str, Path]) -> None:
    detector = read_detector(str(models["grounding-dino"]), "cpu")
    prompts = [Prompt(text, [[(4, 7)]]) for text in ("İİİ CAT", "iii cat")]
    upper, lower = detector.detect([random_image(0)] * 2, prompts)
    torch.testing.assert_close(upper[0].scores, lower[0].scores)


def test_models_of_other_types_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_model().save_pretrained(tmp_path / "mdetr")
    with pytest.raises(ValueError, match="a model of type 'mdetr'; the supported types are"):
        read_detector(str(tmp_path / "mdetr"), "cpu")
    assert not is_other_detector(str(tmp_path / "mdetr"))
    assert not is_other_detector(str(tmp_path))  # an empty folder
    assert not is_other_detector("/no/such/folder")
    monkeypatch.chdir(tmp_path)
    assert not is_other_detector("mdetr/modle")  # in a folder that exists, so no name in the hub


def test_folders_and_names_of_the_hub_are_recognized(models: dict[str, Path]) -> None:
    assert all(is_other_detector(str(folder)) for folder in models.values())
    assert is_other_detector("IDEA-Research/grounding-dino-tiny")
