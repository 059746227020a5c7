"""Samples and batches: equal to the processor's output, and reproducible."""

import io
from dataclasses import fields
from functools import partial
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from PIL import Image
from torch.utils.data import DataLoader

from mdetr_model.data.samples import (
    CACHED_IMAGES,
    TrainingSample,
    TrainingSampleBuilder,
    collate,
    normalize,
    phrases_to_ground,
)
from mdetr_model.data.transforms import EvalTransform, TrainTransform
from mdetr_model.modeling.box_ops import cxcywh_to_xyxy
from mdetr_model.modeling.image_processing_mdetr import MdetrImageProcessor
from mdetr_model.modeling.losses import soft_token_targets
from mdetr_model.modeling.processing_mdetr import MdetrProcessor
from mdetr_model.training.tokenizer import train_tokenizer
from schemas import AbsentSpan, Box, Caption, Phrase, Question, Region, Span
from shards.reading.reader import Pair
from tests.mdetr_model.small import TEXT as TEXT_CONFIG
from tests.mdetr_model.small import tiny_model

TEXT = "a red bus behind the tall tree and a café"
RED_BUS, TREE, CAFE, BUS = (2, 9), (21, 30), (37, 41), (6, 9)
TOKENIZER = train_tokenizer([TEXT], 300)
SMALL_TRAIN = TrainTransform(scales=(32, 48), max_size=90, crop_scales=(40,), crop_min_size=20)
SMALL_EVAL = EvalTransform(size=32, max_size=60)
BATCH = partial(collate, pad_id=TOKENIZER.pad_token_id)


def region(box: Box, *spans: Span, crowd: bool = False) -> Region:
    return Region(list(spans), box, crowd=crowd)


def make_pair(
    text: str = TEXT,
    regions: tuple[Region, ...] = (),
    size: tuple[int, int] = (60, 40),
    phrases: tuple[Phrase, ...] = (),
    question: Question | None = None,
) -> Pair:
    width, height = size
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    caption = Caption(text, list(regions), [], [], list(phrases), question)
    return Pair("coco/139", 3, width, height, memoryview(stream.getvalue()), caption)


PAIRS = [
    make_pair(TEXT, (region((1, 2, 30.5, 40), RED_BUS), region((0, 0, 60, 40), TREE, CAFE))),
    make_pair("no box here", size=(40, 60)),
    make_pair("a \N{ROCKET} tree", (region((3, 3, 9, 11), (4, 8)),), size=(33, 35)),
    make_pair("", size=(50, 50)),
]


def build(
    pair: Pair, builder: TrainingSampleBuilder | None = None, seed: int = 0
) -> TrainingSample:
    builder = builder or TrainingSampleBuilder(TOKENIZER, SMALL_EVAL)
    return builder(pair, np.random.default_rng(seed))


def same(first: TrainingSample, second: TrainingSample) -> bool:
    values = ((getattr(first, f.name), getattr(second, f.name)) for f in fields(TrainingSample))
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in values)


@pytest.mark.parametrize("transform", [SMALL_EVAL, EvalTransform()])
def test_evaluation_batch_equals_the_output_of_the_processor(transform: EvalTransform) -> None:
    image_processor = MdetrImageProcessor(
        size={"shortest_edge": transform.size, "longest_edge": transform.max_size}
    )
    processor = MdetrProcessor(image_processor, TOKENIZER)
    captions = [pair.caption for pair in PAIRS]
    texts = [caption.text for caption in captions]
    images = [Image.open(io.BytesIO(pair.image)) for pair in PAIRS]
    expected = processor(images=images, text=texts, return_tensors="pt")
    labels = processor.make_labels(
        texts,
        [[region.spans for region in caption.regions] for caption in captions],
        [[region.box for region in caption.regions] for caption in captions],
        [(pair.height, pair.width) for pair in PAIRS],
    )

    builder = TrainingSampleBuilder(TOKENIZER, transform)
    batch = BATCH([build(pair, builder) for pair in PAIRS])
    inputs = batch.inputs()
    image_index = inputs.pop("image_index")
    assert inputs.keys() == expected.keys()
    assert torch.equal(inputs["pixel_mask"][image_index], expected["pixel_mask"].bool())
    assert torch.equal(inputs["input_ids"], expected["input_ids"])
    assert torch.equal(inputs["attention_mask"], expected["attention_mask"])
    # Resampled by PyTorch here and by Pillow there: occasionally one or two of 255 levels apart.
    apart = (inputs["pixel_values"][image_index] - expected["pixel_values"]).abs() * 255 * 0.225
    assert apart.max() <= 2.1
    assert apart.mean() < 0.05
    assert batch.dropped_spans == labels.pop("dropped_spans").sum()
    assert batch.labels.keys() == labels.keys()
    # A Trainer cannot pad booleans, so the processor's labels have numbers.
    labels = {name: labels[name].to(values.dtype) for name, values in batch.labels.items()}
    labels["boxes"][~labels["box_mask"]] = 0
    torch.testing.assert_close(batch.labels, labels, rtol=0, atol=1e-6)


@given(st.integers(0, 1000), st.sampled_from(PAIRS))
def test_sample_depends_only_on_the_generator(seed: int, pair: Pair) -> None:
    builder = TrainingSampleBuilder(TOKENIZER, SMALL_TRAIN)
    first = build(pair, builder, seed)
    assert same(first, build(pair, builder, seed))
    _, height, width = first.pixels.shape
    assert min(height, width) <= 48 and max(height, width) <= 90
    assert len(first.boxes) == len(first.positive_map) == len(pair.caption.regions)


def test_boxes_follow_the_pixels() -> None:
    pixels = np.zeros((400, 600, 3), np.uint8)
    pixels[100:200, 50:250] = 255
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    caption = Caption("a white box", [region((50, 100, 250, 200), (8, 11))], [], [])
    white = Pair("vg/1", 0, 600, 400, memoryview(stream.getvalue()), caption)
    builder = TrainingSampleBuilder(TOKENIZER, TrainTransform())
    for seed in range(12):
        sample = build(white, builder, seed)
        _, height, width = sample.pixels.shape
        rows, columns = (sample.pixels[0] > 127).nonzero().T
        seen = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        stated = cxcywh_to_xyxy(sample.boxes)[0] * torch.tensor([width, height, width, height])
        torch.testing.assert_close(seen.float(), stated, rtol=0, atol=1.5)


@pytest.mark.parametrize(("answer", "flipped"), [("left", False), ("yes", True), (None, True)])
def test_image_is_not_flipped_if_the_answer_is_a_side(answer: str | None, flipped: bool) -> None:
    pair = make_pair("On which side is the bus?", question=Question("q1", answer))
    transform = TrainTransform(scales=(40,), crop_prob=0, hflip_prob=0.5)
    builder = TrainingSampleBuilder(TOKENIZER, transform)
    images = {build(pair, builder, seed).pixels.numpy().tobytes() for seed in range(20)}
    assert len(images) == 1 + flipped


def test_crowds_and_boxes_without_area_are_left_out_with_their_spans() -> None:
    boxes = (
        region((0, 0, 30, 20), RED_BUS, crowd=True),
        region((70, 5, 90, 20), (90, 95)),
        region((5, 5, 5, 20), BUS),
        region((30, 20, 70, 50), TREE),
    )
    sample = build(make_pair(regions=boxes))
    assert sample.boxes.tolist() == [[0.75, 0.75, 0.5, 0.5]]
    assert sample.positive_map.shape == (1, 256) and sample.positive_map.any()
    assert sample.dropped_spans == 0


def test_captions_are_truncated_to_256_tokens() -> None:
    text = "a " * 400 + "dog"
    sample = build(make_pair(text, (region((0, 0, 5, 5), (0, 1), (800, 803)),)))
    assert sample.input_ids.shape == (256,) and sample.dropped_spans == 1
    assert sample.positive_map.nonzero().tolist() == [[0, 1]]


def test_sample_without_ground_truth_keeps_the_question() -> None:
    question = Question("q1", "yes")
    sample = build(make_pair(question=question))
    assert sample.question == question and sample.ground_truth is None
    assert (sample.key, sample.caption_index) == ("coco/139", 3)


def test_phrases_are_those_stated_or_the_regions_grouped_by_spans() -> None:
    boxes: list[Box] = [(0, 0, 5, 5), (1, 1, 60, 40), (2, 2, 3, 3)]
    regions = (
        region(boxes[0], RED_BUS, TREE),
        region(boxes[1], BUS),
        region(boxes[2], TREE, RED_BUS, crowd=True),
        region(boxes[2]),
    )
    by_spans = phrases_to_ground(make_pair(regions=regions).caption)
    assert by_spans == [
        Phrase([RED_BUS, TREE], "", [], [boxes[0], boxes[2]]),
        Phrase([BUS], "", [], [boxes[1]]),
    ]
    stated = Phrase([TREE], "12", ["other"], boxes)
    assert phrases_to_ground(make_pair(regions=regions, phrases=(stated,)).caption) == [stated]
    assert phrases_to_ground(make_pair().caption) == []


def test_ground_truth_has_the_original_size_and_the_tokens_of_phrases() -> None:
    builder = TrainingSampleBuilder(TOKENIZER, SMALL_EVAL, evaluation=True)
    box = (1.0, 2.0, 30.5, 40.0)
    sample = build(make_pair(regions=(region(box, BUS), region(box, BUS))), builder)
    truth = sample.ground_truth
    assert truth is not None and truth.size == (40, 60)
    assert [phrase.boxes for phrase in truth.phrases] == [[box, box]]
    assert torch.equal(truth.positive_map, sample.positive_map[:1])
    nothing = build(PAIRS[1], builder).ground_truth
    assert nothing is not None and (nothing.size, nothing.phrases) == ((60, 40), [])
    assert nothing.positive_map.shape == (0, 256)


def test_absent_phrase_is_the_target_of_no_box() -> None:
    """So the soft tokens of every query leave it to "no object"; its ground truth has its words."""
    pair = make_pair(regions=(region((1, 1, 20, 20), RED_BUS),))
    absent = [AbsentSpan(TREE, "gqa", "7", "answered no", "proven")]
    pair = pair._replace(caption=replace(pair.caption, absent=absent))
    sample = TrainingSampleBuilder(TOKENIZER, SMALL_EVAL, evaluation=True)(
        pair, np.random.default_rng(0)
    )
    truth = sample.ground_truth
    assert truth is not None
    assert truth.absent == ["tall tree"]
    assert truth.absent_map.any(1).all()
    assert not (sample.positive_map & truth.absent_map.any(0)).any()
    targets = soft_token_targets(sample.positive_map, "normalized")
    assert targets[:, truth.absent_map.any(0)].sum() == 0


def test_padding_is_zero_masked_and_counted() -> None:
    samples = [build(pair) for pair in PAIRS[:2]]
    batch = BATCH(samples)
    assert batch.pixels.shape == (2, 3, 48, 48) and batch.pixels.dtype == torch.uint8
    assert batch.pixel_mask.sum((1, 2)).tolist() == [32 * 48, 48 * 32]
    assert not batch.pixels.permute(1, 0, 2, 3)[:, ~batch.pixel_mask].any()
    assert not batch.inputs()["pixel_values"].permute(1, 0, 2, 3)[:, ~batch.pixel_mask].any()
    assert batch.padding == pytest.approx(1 / 3)
    for pixels, sample in zip(batch.pixels, samples, strict=True):
        _, height, width = sample.pixels.shape
        assert torch.equal(pixels[:, :height, :width], sample.pixels)
    assert (batch.keys, batch.caption_indices) == (["coco/139"] * 2, [3, 3])
    assert batch.questions == batch.ground_truths == [None, None]
    assert batch.labels["box_mask"].tolist() == [[True, True], [False, False]]


def test_batch_without_boxes() -> None:
    batch = BATCH([build(PAIRS[1]), build(PAIRS[3])])
    assert {name: tuple(label.shape) for name, label in batch.labels.items()} == {
        "boxes": (2, 0, 4),
        "box_mask": (2, 0),
        "positive_map": (2, 0, 256),
    }


def test_pixels_are_normalized_by_channel() -> None:
    pixels = torch.tensor([0, 255], dtype=torch.uint8).expand(1, 3, 1, 2)
    mask = torch.tensor([[[True, True]]])
    pixel_values = normalize(pixels, mask, mean=(0.5, 0, 1), std=(0.5, 1, 2))
    assert pixel_values.tolist() == [[[[-1, 1]], [[0, 1]], [[-0.5, 0]]]]
    assert pixels.tolist() == [[[[0, 255]]] * 3]


def test_moving_a_batch_moves_its_tensors() -> None:
    batch = BATCH([build(pair) for pair in PAIRS]).to("meta", non_blocking=True)
    tensors = [*batch.inputs().values(), batch.pixels, *batch.labels.values()]
    assert all(tensor.device.type == "meta" for tensor in tensors)
    assert batch.keys == ["coco/139"] * 4


def test_captions_with_equal_geometry_share_the_image() -> None:
    builder = TrainingSampleBuilder(TOKENIZER, SMALL_EVAL)
    one, other = PAIRS[0], PAIRS[1]
    samples = [builder(pair, np.random.default_rng(0)) for pair in (one, one, other, one)]
    batch = BATCH(samples)
    assert batch.image_index.tolist() == [0, 0, 1, 0]
    assert batch.pixels.shape[0] == batch.pixel_mask.shape[0] == 2
    assert torch.equal(batch.input_ids[0], batch.input_ids[1])

    others = [other._replace(key=f"coco/{number}") for number in range(CACHED_IMAGES)]
    again = [builder(pair, np.random.default_rng(0)) for pair in (one, *others, one)]
    assert BATCH([samples[0], *again]).image_index.tolist()[-1] != 0  # too many came between
    for pair in others:  # what is used is kept
        builder(pair, np.random.default_rng(0))
        last = builder(one, np.random.default_rng(0))
    assert last.pixels is again[-1].pixels

    cropping = TrainingSampleBuilder(TOKENIZER, replace(SMALL_TRAIN, crop_prob=1.0))
    seen = BATCH([cropping(PAIRS[1], np.random.default_rng(seed)) for seed in (0, 1)])
    assert seen.image_index.tolist() == [0, 1]


class _Samples(torch.utils.data.Dataset[TrainingSample]):
    """The samples of the pairs, each with a separate generator."""

    builder = TrainingSampleBuilder(TOKENIZER, SMALL_TRAIN, evaluation=True)

    def __len__(self) -> int:
        return len(PAIRS)

    def __getitem__(self, item: int) -> TrainingSample:
        return self.builder(PAIRS[item], np.random.default_rng(item))


def test_data_workers_build_the_batches_of_one_process() -> None:
    here, there = (
        list(DataLoader(_Samples(), batch_size=2, num_workers=number, collate_fn=BATCH))
        for number in (0, 1)
    )
    assert len(here) == len(there) == 2
    for first, second in zip(here, there, strict=True):
        for a, b in zip(
            chain(first.inputs().values(), first.labels.values()),
            chain(second.inputs().values(), second.labels.values()),
            strict=True,
        ):
            assert torch.equal(a, b)
        assert first.pixels.stride() == second.pixels.stride()


def test_model_trains_on_a_batch() -> None:
    text = TEXT_CONFIG | {"vocab_size": len(TOKENIZER), "max_position_embeddings": 260}
    model = tiny_model(text_config=text)
    batch = BATCH([build(pair) for pair in PAIRS])
    loss = model(**batch.inputs(), labels=batch.labels).loss
    loss.backward()
    assert loss > 0 and torch.isfinite(loss)


@pytest.mark.parametrize(
    ("text", "size", "padded"),
    [
        ("a red bus", (60, 40), set()),
        ("a red bus", (40, 60), {"pixel_mask"}),
        ("a red bus stop", (60, 40), {"attention_mask"}),
        ("a red bus stop", (40, 60), {"pixel_mask", "attention_mask"}),
    ],
)
def test_inputs_have_a_mask_only_where_something_is_padded(
    text: str, size: tuple[int, int], padded: set[str]
) -> None:
    inputs = BATCH([build(make_pair("a red bus")), build(make_pair(text, size=size))]).inputs()
    assert {name for name in ("pixel_mask", "attention_mask") if inputs[name] is not None} == padded
