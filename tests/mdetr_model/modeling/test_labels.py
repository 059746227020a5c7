"""The forms of labels: all give the same losses, or an error that names the label."""

from typing import Any

import pytest
import torch

from mdetr_model.modeling.answer_types import CLEVR_ANSWER_HEADS
from mdetr_model.modeling.modeling_mdetr import MdetrForQuestionAnswering
from tests.mdetr_model.small import tiny_model, two_inputs, two_labels


def losses(labels: Any, **fields: Any) -> dict[str, float]:
    outputs = tiny_model(**fields)(**two_inputs(), labels=labels)
    return {name: value.item() for name, value in outputs.loss_dict.items()}


def in_detr_form(labels: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns a dictionary for each caption, with its boxes only."""
    names = ("boxes", "positive_map", *(["is_final"] if "is_final" in labels else []))
    rows = zip(labels["box_mask"], *(labels[name] for name in names), strict=True)
    return [
        {name: value[mask] for name, value in zip(names, values, strict=True)}
        for mask, *values in rows
    ]


def test_other_types_and_padding_give_the_same_losses() -> None:
    labels = two_labels()
    expected = losses(labels)
    padding = ~labels["box_mask"]
    forms: list[dict[str, Any]] = [
        {"boxes": labels["boxes"].double()},
        {"boxes": labels["boxes"].masked_fill(padding[..., None], -100)},
        {"box_mask": labels["box_mask"].long()},
        {"box_mask": labels["box_mask"].long().masked_fill(padding, -100)},
        {"positive_map": labels["positive_map"].to(torch.int8)},
        {"positive_map": labels["positive_map"].long().masked_fill(padding[..., None], -100)},
        {"positive_map": labels["positive_map"] / 3},
        {name: value.numpy() for name, value in labels.items()},
        {name: value.tolist() for name, value in labels.items()},
    ]
    for form in forms:
        assert losses(labels | form) == pytest.approx(expected, abs=1e-6), list(form)


def test_boxes_that_a_trainer_appends_do_not_count() -> None:
    labels = two_labels()
    appended = {
        name: torch.cat([values.float(), torch.full_like(values[:, :2].float(), -100)], dim=1)
        for name, values in labels.items()
    }
    assert losses(appended) == pytest.approx(losses(labels), abs=1e-6)


@pytest.mark.parametrize("fields", [{}, {"predict_final": True}])
def test_labels_may_be_a_dictionary_for_each_caption(fields: dict[str, Any]) -> None:
    labels = two_labels()
    if fields:
        labels["is_final"] = torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    assert losses(in_detr_form(labels), **fields) == pytest.approx(losses(labels, **fields))


def test_boxes_of_one_class_are_named_by_the_whole_caption() -> None:
    labels, inputs = two_labels(), two_inputs()
    ids = inputs["input_ids"].clone()
    ids[:, 0], ids[0, 8], ids[1, 5] = 0, 2, 2  # beginning and end
    boxes = [labels["boxes"][0], torch.zeros(0)]
    by_class = [{"class_labels": torch.full((len(each),), 7), "boxes": each} for each in boxes]
    positive_map = torch.zeros(3, 256)
    positive_map[:, 1:8] = 1
    by_token = [
        {"boxes": boxes[0], "positive_map": positive_map},
        {"boxes": boxes[1], "positive_map": torch.zeros(0, 256)},
    ]
    text = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    model = tiny_model()
    model.config.text_config.update(text)
    results = [model(**inputs | {"input_ids": ids}, labels=form) for form in (by_class, by_token)]
    assert results[0].loss.item() == results[1].loss.item()
    without = [{"boxes": each} for each in boxes]
    assert model(**inputs | {"input_ids": ids}, labels=without).loss == results[0].loss


@pytest.mark.parametrize(
    "change, message",
    [
        ({"boxes": torch.rand(2, 3, 5)}, r"boxes of shape \(2, 3, 5\) instead of \(2, 3, 4\)"),
        ({"boxes": torch.rand(2, 4)}, r"boxes of shape \(2, 4\) instead of \(2, 3, 4\)"),
        ({"box_mask": torch.ones(2, 4)}, r"boxes of shape \(2, 3, 4\) instead of \(2, 4, 4\)"),
        ({"box_mask": torch.ones(2)}, r"box_mask of shape \(2,\)"),
        ({"positive_map": torch.ones(2, 3, 10)}, r"\(2, 3, 10\) instead of \(2, 3, 256\)"),
        ({"boxes": [["a"], ["b"]]}, "boxes is no tensor but list"),
        ({"boxes": "ab"}, "boxes is no tensor but str"),
    ],
)
def test_labels_of_another_shape_or_type_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        losses(two_labels() | change)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"boxes": None}, "caption 0 lack boxes"),
        ({"boxes": torch.tensor([[5.0, 5, 30, 30]] * 3)}, "relative to the image, 0 to 1; not"),
        ({"boxes": torch.full((3, 4), torch.nan)}, "relative to the image, 0 to 1; not"),
        ({"boxes": torch.rand(3, 5)}, r"boxes of shape \(3, 5\)"),
        ({"positive_map": torch.ones(2, 256)}, r"shape \(2, 256\) instead of \(3, 256\)"),
        (
            {"positive_map": None, "class_labels": torch.tensor([0, 1, 1])},
            "caption 0: without positive_map, the whole caption names every box",
        ),
    ],
)
def test_labels_in_detr_form_are_checked(change: dict[str, Any], message: str) -> None:
    labels = in_detr_form(two_labels())
    labels[0] |= change
    with pytest.raises(ValueError, match=message):
        losses(labels)


@pytest.mark.parametrize("labels", [torch.zeros(2), [torch.zeros(3)] * 2, "ab", 3])
def test_labels_that_are_no_dictionaries_are_refused(labels: Any) -> None:
    with pytest.raises(ValueError, match="labels have to be a dictionary"):
        losses(labels)


def test_number_of_dictionaries_is_that_of_captions() -> None:
    with pytest.raises(ValueError, match="labels for 1 captions instead of 2"):
        losses(in_detr_form(two_labels())[:1])


def test_answers_may_have_any_integer_type() -> None:
    model = tiny_model(MdetrForQuestionAnswering, answer_heads=CLEVR_ANSWER_HEADS)
    answers = {head: torch.ones(2, dtype=torch.long) for head, _ in CLEVR_ANSWER_HEADS}
    results = [
        model(**two_inputs(), labels=two_labels() | {"answers": form}).loss.item()
        for form in (answers, {head: values.int() for head, values in answers.items()})
    ]
    assert results[0] == results[1]
