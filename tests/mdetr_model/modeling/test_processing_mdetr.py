"""The processors: sizes, padding, captions that are too long, labels, and grounded phrases."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoImageProcessor, AutoProcessor, RobertaTokenizer

from mdetr_model.modeling.image_processing_mdetr import MdetrImageProcessor
from mdetr_model.modeling.processing_mdetr import MdetrProcessor

CAPTION = "a red bus behind the tall tree"
RED_BUS, TREE = [(2, 9)], [(21, 30)]


@pytest.fixture(scope="module")
def processor() -> MdetrProcessor:
    """With a byte-level tokenizer of which every token is one byte or a space and one."""
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(ByteLevel.alphabet())]
    merges: Any = [("Ġ", letter) for letter in "abcdefghijklmnopqrstuvwxyz"]
    words += ["".join(pair) for pair in merges]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = RobertaTokenizer(vocab=vocabulary, merges=merges)
    return MdetrProcessor(MdetrImageProcessor(), tokenizer)


def image_of_size(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("width", "height", "resized"),
    [
        (640, 480, (800, 1066)),
        (480, 640, (1066, 800)),
        (1000, 200, (267, 1333)),
        (1, 1, (800, 800)),
        (3000, 1, (1, 1333)),
        (2, 2001, (1333, 1)),
    ],
)
def test_image_is_resized_to_shortest_800_longest_1333(
    width: int, height: int, resized: tuple[int, int]
) -> None:
    features = MdetrImageProcessor()(image_of_size(width, height), return_tensors="pt")
    assert features["pixel_values"].shape == (1, 3, *resized)
    assert features["pixel_mask"].shape == (1, *resized) and features["pixel_mask"].all()


def test_pixels_equal_pillow_resize_and_imagenet_normalization() -> None:
    image = image_of_size(60, 40)
    features = MdetrImageProcessor(size={"shortest_edge": 20, "longest_edge": 100})(
        image, return_tensors="pt"
    )
    expected = np.array(image.resize((30, 20), Image.Resampling.BILINEAR), np.float32) / 255
    expected = (expected - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    wanted = torch.from_numpy(expected.transpose(2, 0, 1)[None]).float()
    torch.testing.assert_close(features["pixel_values"], wanted, rtol=1e-5, atol=1e-6)


def test_pil_numpy_and_torch_images_give_same_pixels() -> None:
    image = image_of_size(40, 30)
    array = np.array(image)
    kinds: list[Any] = [image, array, torch.from_numpy(array).permute(2, 0, 1)]
    pixels = MdetrImageProcessor()(kinds, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(pixels[1], pixels[0], rtol=0, atol=0)
    torch.testing.assert_close(pixels[2], pixels[0], rtol=0, atol=0)
    gray = MdetrImageProcessor()(image.convert("L"), return_tensors="pt")["pixel_values"]
    assert gray.shape == (1, 3, 800, 1066)


def sixteen_bit(image: Image.Image, kind: str) -> Any:
    values = np.asarray(image.convert("L")).astype(np.uint16) * 257
    if kind == "array":
        return np.stack([values] * 3, axis=-1)
    if kind == "tensor":
        return torch.from_numpy(np.stack([values] * 3))
    file = io.BytesIO()
    Image.fromarray(values).save(file, kind)
    return Image.open(file)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "array", "tensor"])
def test_upper_8_of_16_bits_are_read(kind: str) -> None:
    image = image_of_size(40, 30).convert("L")
    pixels = [
        MdetrImageProcessor()(each, return_tensors="pt")["pixel_values"]
        for each in (image, sixteen_bit(image, kind))
    ]
    torch.testing.assert_close(pixels[1], pixels[0], rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pixels_of_32_bits_are_refused(dtype: Any) -> None:
    image = Image.fromarray(np.full((6, 9), 1000, dtype))
    with pytest.raises(ValueError, match=r"pixels of 32 bits \(mode .\)"):
        MdetrImageProcessor()(image)
    with pytest.raises(ValueError, match="pixels of int64 up to 1000; expected 0 to 255"):
        MdetrImageProcessor()(np.full((6, 9, 3), 1000))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_by_their_exif_orientation(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / "turned.png"
    image_of_size(40, 30).save(path, exif=exif)
    with Image.open(path) as image:
        expected = MdetrImageProcessor()(ImageOps.exif_transpose(image), return_tensors="pt")
        for form in (image, image.convert("RGB"), str(path)):
            images = MdetrImageProcessor().fetch_images(form)
            features = MdetrImageProcessor()(images, return_tensors="pt")
            assert torch.equal(features["pixel_values"], expected["pixel_values"])


def test_images_are_padded_on_the_right_and_at_the_bottom() -> None:
    processor = MdetrImageProcessor(size={"shortest_edge": 10, "longest_edge": 20})
    features = processor([image_of_size(20, 10), image_of_size(10, 20)], return_tensors="pt")
    assert features["pixel_values"].shape == (2, 3, 20, 20)
    assert features["pixel_mask"][0, :10].all() and not features["pixel_mask"][0, 10:].any()
    assert features["pixel_mask"][1, :, :10].all() and not features["pixel_mask"][1, :, 10:].any()
    assert not features["pixel_values"][0, :, 10:].any()


def test_saved_processors_are_loaded_by_auto_classes(
    processor: MdetrProcessor, tmp_path: Path
) -> None:
    processor.save_pretrained(tmp_path)
    for auto in (MdetrProcessor, AutoProcessor):
        loaded = auto.from_pretrained(tmp_path)
        assert isinstance(loaded, MdetrProcessor)
        before = processor(image_of_size(30, 40), CAPTION, return_tensors="pt")
        after = loaded(image_of_size(30, 40), CAPTION, return_tensors="pt")
        assert before.keys() == after.keys() >= {"pixel_values", "pixel_mask", "input_ids"}
        assert all(torch.equal(before[name], after[name]) for name in before)
    custom = MdetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    custom.save_pretrained(tmp_path / "image")
    image_processor = AutoImageProcessor.from_pretrained(tmp_path / "image")
    assert isinstance(image_processor, MdetrImageProcessor)
    assert dict(image_processor.size) == dict(custom.size)


def test_long_captions_are_truncated_and_dropped_spans_counted(
    processor: MdetrProcessor,
) -> None:
    long = "a " * 400 + "dog"
    inputs = processor(images=[image_of_size(8, 8)] * 2, text=[long, CAPTION], return_tensors="pt")
    assert inputs["input_ids"].shape == (2, 256)
    assert inputs["attention_mask"].sum(-1).tolist()[0] == 256
    labels = processor.make_labels(
        [long, CAPTION],
        spans=[[[(0, 1), (800, 803)], [(800, 803)]], [RED_BUS]],
        boxes=[[(0, 0, 10, 10), (0, 0, 5, 5)], [(10, 20, 30, 60)]],
        sizes=[(10, 10), (80, 40)],
    )
    assert labels["dropped_spans"].tolist() == [2, 0]
    assert labels["positive_map"].sum(-1).tolist() == [[1, 0], [6, 0]]
    assert labels["box_mask"].tolist() == [[1, 1], [1, 0]]
    assert labels["boxes"][1].tolist() == [[0.5] * 4, [-100] * 4]


def test_empty_labels_and_mismatched_spans(processor: MdetrProcessor) -> None:
    labels = processor.make_labels([CAPTION], spans=[[]], boxes=[[]], sizes=[(5, 5)])
    assert labels["boxes"].shape == (1, 0, 4) and labels["positive_map"].shape == (1, 0, 256)
    with pytest.raises(ValueError, match="caption 0: 1 boxes, spans of 0"):
        processor.make_labels([CAPTION], spans=[[]], boxes=[[(0, 0, 1, 1)]], sizes=[(5, 5)])
    for spans, boxes in (([], [[]]), ([[]], [[], []])):
        with pytest.raises(ValueError, match=r"1 captions, with spans of . and boxes of"):
            processor.make_labels([CAPTION], spans=spans, boxes=boxes, sizes=[(5, 5)])


@pytest.mark.parametrize("spans", [RED_BUS, [2, 9], [[(2, 9, 11)]], [["re"]], [[None]]])
def test_spans_that_are_not_pairs_are_refused(processor: MdetrProcessor, spans: Any) -> None:
    boxes = [(0, 0, 1, 1)] * len(spans)
    with pytest.raises(ValueError, match=r"caption 0: spans .*list of \(begin, end\) for each box"):
        processor.make_labels([CAPTION], spans=[spans], boxes=[boxes], sizes=[(5, 5)])


@pytest.mark.parametrize(
    "box, expected",
    [
        ((-5, -5, 30, 30), (0.5, 0.5, 1, 1)),
        ((2, -1, 4, 5), (0.3, 0.25, 0.2, 0.5)),
        ((5, 9, 1e9, 11), (0.75, 0.95, 0.5, 0.1)),
    ],
)
def test_boxes_are_clipped_to_the_image(
    processor: MdetrProcessor, box: Any, expected: tuple[float, ...]
) -> None:
    for boxes in ([[box]], [torch.tensor([box])], [np.array([box])]):
        labels = processor.make_labels([CAPTION], [[RED_BUS]], boxes, sizes=[(10, 10)])
        assert labels["boxes"][0, 0].tolist() == pytest.approx(expected, abs=1e-6)


def test_labels_of_a_single_caption_may_have_its_text(processor: MdetrProcessor) -> None:
    arguments: Any = {"spans": [[RED_BUS]], "boxes": [[(0, 0, 1, 1)]]}
    expected = processor.make_labels([CAPTION], sizes=[(5, 5)], **arguments)
    for sizes in ([(5, 5)], (5, 5), torch.tensor([5, 5])):
        labels = processor.make_labels(CAPTION, sizes=sizes, **arguments)
        assert all(torch.equal(labels[name], expected[name]) for name in expected)
    with pytest.raises(ValueError, match="a caption is a str, not int: 7"):
        processor.make_labels([7], sizes=[(5, 5)], **arguments)  # type: ignore[list-item]


@pytest.mark.parametrize(
    "box, size, message",
    [
        ((0, 0, 1, 1), (0, 5), "caption 0: an image of height 0, width 5"),
        ((0, 0, 1, 1), (5, -1), "caption 0: an image of height 5, width -1"),
        ((3, 0, 1, 1), (5, 5), r"a box ends before it begins: \(3, 0, 1, 1\)"),
        ((0, 3, 1, 1), (5, 5), "a box ends before it begins"),
        ((0, 0, float("nan"), 1), (5, 5), "a box ends before it begins"),
        ((20, 20, 30, 30), (9, 7), r"without area in an image of 7 x 9 pixels: \(20, 20, 30, 30\)"),
        ((-3, 0, 0, 4), (5, 5), r"a box without area .*\(-3, 0, 0, 4\)"),
        ((1, 1, 1, 3), (5, 5), "a box without area"),
        ((0, 0, 1), (5, 5), "expected left, top, right, bottom"),
        (("a", 0, 1, 1), (5, 5), "expected left, top, right, bottom"),
        ((0, 0, 1, 1), (float("nan"), 5), "caption 0: an image of height nan"),
    ],
)
def test_invalid_boxes_and_sizes_are_refused(
    processor: MdetrProcessor, box: Any, size: tuple[int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        processor.make_labels(
            [CAPTION], spans=[[RED_BUS, TREE]], boxes=[[(0, 0, 1, 1), box]], sizes=[size]
        )


def outputs_for(processor: MdetrProcessor, caption: str = CAPTION) -> SimpleNamespace:
    """Returns outputs: query 1 is the red bus, query 2 the tree with a lower score, 0 nothing."""
    tokens = processor.make_labels(
        [CAPTION], spans=[[RED_BUS, TREE]], boxes=[[(0, 0, 1, 1)] * 2], sizes=[(1, 1)]
    )["positive_map"].bool()
    logits = torch.full((1, 3, 256), -10.0)
    logits[0, 0, -1] = 10
    logits[0, 1:][tokens[0]] = 5
    logits[0, 2, -1] = 5
    boxes = torch.tensor([[[0.5, 0.5, 1, 1], [0.5, 0.5, 0.5, 0.5], [0.25, 0.25, 0.5, 0.5]]])
    # Padded, as beside a longer caption.
    ids = processor(text=[caption, "a " * 50], return_tensors="pt")["input_ids"][:1]
    return SimpleNamespace(logits=logits, pred_boxes=boxes, input_ids=ids)


def test_post_process_returns_phrases_boxes_and_scores(processor: MdetrProcessor) -> None:
    outputs = outputs_for(processor)
    (result,) = processor.post_process_grounded_object_detection(
        outputs, target_sizes=[(100, 200)], text_threshold=0.05
    )
    assert result["text_labels"] == ["red bus", "tall tree"]
    assert result["spans"] == [RED_BUS, TREE]
    assert result["boxes"].tolist() == [[50, 25, 150, 75], [0, 0, 100, 50]]
    assert result["scores"].tolist() == pytest.approx([1, 1 - 1 / 9], abs=1e-4)


def test_is_final_scores_rank_referents_first(
    processor: MdetrProcessor,
) -> None:
    outputs = outputs_for(processor)
    outputs.is_final = torch.tensor([[9.0, -1.0, 2.0]])
    (result,) = processor.post_process_grounded_object_detection(
        outputs, threshold=0, text_threshold=0.05
    )
    assert result["text_labels"][:2] == ["tall tree", "red bus"]
    final = torch.tensor([2.0, -1.0]).sigmoid() * torch.tensor([1 - 1 / 9, 1])
    assert result["scores"][:2].tolist() == pytest.approx(final.tolist(), abs=1e-4)


def test_post_process_answers_by_type(processor: MdetrProcessor) -> None:
    answers = {
        "type": torch.tensor([[0.0, 3, 1], [4, 0, 0], [0, 0, 9]]),
        "binary": torch.tensor([-1.0, 2, 0]),
        "attr": torch.eye(15)[[7, 0, 0]],
        "reg": torch.eye(20)[[0, 0, 19]],
    }
    answered = processor.post_process_answers(SimpleNamespace(answers=answers))
    assert [answer["type"] for answer in answered] == ["attr", "binary", "reg"]
    assert [answer["answer"] for answer in answered] == [7, 1, 19]
    unified = SimpleNamespace(answers={"total": torch.eye(1853)[[1852]]})
    assert processor.post_process_answers(unified) == [{"type": "total", "answer": 1852}]
    with pytest.raises(ValueError, match="without answers"):
        processor.post_process_answers(outputs_for(processor))


def test_captions_are_decoded_from_tokens_or_given(processor: MdetrProcessor) -> None:
    odd = "  A  red café\u2019s  bus , 'tis \U0001f68c , "
    outputs = outputs_for(processor, odd)
    (decoded,) = processor.post_process_grounded_object_detection(outputs)
    (with_text,) = processor.post_process_grounded_object_detection(outputs, text=[odd])
    assert (
        decoded["text_labels"] == with_text["text_labels"]
        and decoded["spans"] == with_text["spans"]
    )
    assert decoded["text_labels"] and all(phrase in odd for phrase in decoded["text_labels"])


def test_caption_truncated_inside_a_character_is_decoded(
    processor: MdetrProcessor,
) -> None:
    caption = "a red bus behind the tall tree " + "a" * 219 + "\U0001f68c" * 9
    outputs = outputs_for(processor, caption)
    assert outputs.input_ids.shape == (1, 256)
    assert processor.tokenizer.decode(outputs.input_ids[0, :-1]).endswith("\ufffd")
    (result,) = processor.post_process_grounded_object_detection(outputs)
    assert result["text_labels"] == ["red bus", "tall tree"]


def test_tokens_that_decode_ambiguously_are_refused(processor: MdetrProcessor) -> None:
    outputs = outputs_for(processor)
    # Separate tokens for a space and a letter, though the tokenizer has one for both.
    words = processor.tokenizer.convert_tokens_to_ids(["<s>", "a", "Ġ", "b", "</s>"])
    outputs.input_ids = torch.tensor([words])
    with pytest.raises(ValueError, match="image 0 read 'a b', which has other tokens"):
        processor.post_process_grounded_object_detection(outputs)
    (result,) = processor.post_process_grounded_object_detection(outputs, text=[CAPTION])
    assert result["text_labels"] == ["red bus", "tall tree"]


def test_threshold_and_default_target_sizes(processor: MdetrProcessor) -> None:
    outputs = outputs_for(processor)
    (result,) = processor.post_process_grounded_object_detection(outputs, threshold=0.95)
    assert result["text_labels"] == ["red bus"]
    assert result["boxes"].tolist() == [[0.25, 0.25, 0.75, 0.75]]
    (nothing,) = processor.post_process_grounded_object_detection(outputs, threshold=1.0)
    assert nothing["text_labels"] == [] and nothing["boxes"].shape == (0, 4)
    with pytest.raises(ValueError, match="1 images, 2 captions"):
        processor.post_process_grounded_object_detection(outputs, text=[CAPTION] * 2)
    with pytest.raises(ValueError, match="3 target sizes"):
        processor.post_process_grounded_object_detection(outputs, target_sizes=[(1, 1)] * 3)


@pytest.mark.parametrize(
    "sizes",
    [
        [(100, 200)],
        [torch.tensor([100, 200])],
        torch.tensor([[100.0, 200.0]]),
        np.array([[100, 200]]),
        (torch.tensor(100), torch.tensor(200)),
        (100, 200),
        torch.tensor([100, 200]),
    ],
)
def test_target_sizes_of_any_form_give_same_boxes(processor: MdetrProcessor, sizes: Any) -> None:
    outputs = outputs_for(processor)
    (result,) = processor.post_process_grounded_object_detection(outputs, target_sizes=sizes)
    assert result["boxes"].tolist() == [[50, 25, 150, 75], [0, 0, 100, 50]]
    (result,) = processor.post_process_object_detection(outputs, target_sizes=sizes)
    assert result["boxes"].tolist() == [[50, 25, 150, 75], [0, 0, 100, 50]]


@pytest.mark.parametrize(
    "sizes", [(100, 200), [(1, 2, 3)] * 2, 7, "ab", [(1, 2), (3,)], [(0, 5), (1, 1)], [None] * 2]
)
def test_unclear_target_sizes_are_refused(processor: MdetrProcessor, sizes: Any) -> None:
    one = outputs_for(processor)
    outputs = SimpleNamespace(**{name: torch.cat([value] * 2) for name, value in vars(one).items()})
    for post_process in (
        processor.post_process_grounded_object_detection,
        processor.post_process_object_detection,
    ):
        with pytest.raises(ValueError, match=r"sizes|height 0"):
            post_process(outputs, target_sizes=sizes)


@pytest.mark.parametrize("threshold", [float("nan"), None, "0.5", "high", [0.5, 0.6]])
def test_thresholds_that_are_not_numbers_are_refused(
    processor: MdetrProcessor, threshold: Any
) -> None:
    outputs = outputs_for(processor)
    with pytest.raises(ValueError, match=r"^threshold is .*; it has to be a number"):
        processor.post_process_grounded_object_detection(outputs, threshold)
    with pytest.raises(ValueError, match=r"^threshold is .*; it has to be a number"):
        processor.post_process_object_detection(outputs, threshold)
    with pytest.raises(ValueError, match=r"^text_threshold is .*; it has to be a number"):
        processor.post_process_grounded_object_detection(outputs, text_threshold=threshold)


def test_text_of_a_single_image_may_be_a_string(processor: MdetrProcessor) -> None:
    outputs = outputs_for(processor)
    (result,) = processor.post_process_grounded_object_detection(outputs, text=CAPTION)
    assert result["text_labels"] == ["red bus", "tall tree"]
    many = SimpleNamespace(**{name: torch.cat([v] * 3) for name, v in vars(outputs).items()})
    with pytest.raises(ValueError, match="3 images, 1 captions"):
        processor.post_process_grounded_object_detection(many, text="bus")


def test_objects_without_words_are_best_first(processor: MdetrProcessor) -> None:
    outputs = outputs_for(processor)
    (result,) = processor.post_process_object_detection(outputs)
    grounded = processor.post_process_grounded_object_detection(outputs, threshold=0.5)[0]
    assert result["scores"].tolist() == grounded["scores"].tolist()
    assert result["boxes"].tolist() == grounded["boxes"].tolist()
    assert result["labels"].tolist() == [0, 0]
    (nothing,) = processor.post_process_object_detection(outputs, threshold=1.0)
    assert nothing["boxes"].shape == (0, 4) and nothing["labels"].shape == (0,)


def test_outputs_of_a_trainer_are_post_processed(processor: MdetrProcessor) -> None:
    """They are numpy arrays, with -100 after the tokens of shorter captions."""
    outputs = outputs_for(processor)
    ids = torch.cat([outputs.input_ids, torch.full((1, 7), -100)], dim=1)
    arrays = {name: value.numpy() for name, value in vars(outputs).items()}
    results = [
        processor.post_process_grounded_object_detection(each)[0]
        for each in (outputs, SimpleNamespace(**arrays | {"input_ids": ids.numpy()}))
    ]
    assert results[0]["spans"] == results[1]["spans"] == [RED_BUS, TREE]
    assert torch.equal(results[0]["boxes"], results[1]["boxes"])
