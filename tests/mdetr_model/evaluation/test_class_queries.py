"""Detection of many classes in one image."""

import pytest
import torch

from mdetr_model.evaluation.class_queries import ClassQueries, detections_of_image
from mdetr_model.modeling.modeling_mdetr import MdetrForGrounding
from mdetr_model.modeling.postprocess import boxes_in_pixels, object_scores
from mdetr_model.training.tokenizer import train_tokenizer
from tests.mdetr_model.small import TEXT, tiny_model

NAMES = ["red cup", "a very long name of a class", "mug", "blue mug", "cup"]
TOKENIZER = train_tokenizer(NAMES, 300)


def model() -> MdetrForGrounding:
    return tiny_model(text_config=TEXT | {"vocab_size": 320}).eval()


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
def test_batched_classes_equal_single_ones(batch_size: int) -> None:
    mdetr, pixels = model(), torch.randn(1, 3, 48, 64)
    scores, boxes = ClassQueries(mdetr, TOKENIZER, NAMES, batch_size)(pixels, 480, 640)
    assert scores.shape == (5, 5)
    assert boxes.shape == (5, 5, 4)
    for number, name in enumerate(NAMES):
        tokens = TOKENIZER([name], return_tensors="pt")
        with torch.inference_mode():
            outputs = mdetr(pixels, tokens["input_ids"], attention_mask=tokens["attention_mask"])
        torch.testing.assert_close(scores[number], object_scores(outputs.logits)[0])
        expected = boxes_in_pixels(outputs.pred_boxes, torch.tensor([(480, 640)]))[0]
        torch.testing.assert_close(boxes[number], expected, rtol=1e-4, atol=1e-3)
    assert scores[0].sub(scores[2]).abs().max() > 1e-4  # they do depend on the class


def test_end_of_a_long_class_name_is_not_read() -> None:
    text = TEXT | {"vocab_size": 320, "max_position_embeddings": 258}
    mdetr, pixels = tiny_model(text_config=text).eval(), torch.randn(1, 3, 48, 64)
    long = "red cup " * 300
    names = [long, f"{long} blue mug", "mug"]
    scores, boxes = ClassQueries(mdetr, TOKENIZER, names, batch_size=2)(pixels, 480, 640)
    assert scores.isfinite().all()
    assert torch.equal(scores[0], scores[1]) and torch.equal(boxes[0], boxes[1])
    assert not torch.equal(scores[0], scores[2])


def test_image_is_encoded_once() -> None:
    mdetr, calls = model(), []
    queries = ClassQueries(mdetr, TOKENIZER, NAMES, batch_size=2)
    mdetr.mdetr.image_encoder.register_forward_hook(lambda *_: calls.append("image"))
    mdetr.mdetr.text_encoder.register_forward_hook(lambda *_: calls.append("text"))
    queries(torch.randn(1, 3, 48, 64), 480, 640)
    assert calls == ["image"]


@pytest.mark.parametrize("names", [[], ["cup", " "]])
def test_classes_need_names(names: list[str]) -> None:
    with pytest.raises(ValueError, match="every class needs a name"):
        ClassQueries(model(), TOKENIZER, names, batch_size=2)


def test_batch_size_must_be_positive() -> None:
    with pytest.raises(ValueError, match="a batch of 0 classes"):
        ClassQueries(model(), TOKENIZER, NAMES, batch_size=0)


def test_detections_of_an_image_are_rows() -> None:
    scores = torch.tensor([[0.1, 0.9], [0.5, 0.2]])
    boxes = torch.arange(16.0).view(2, 2, 4)
    rows = detections_of_image(7, [30, 31], scores, boxes)
    assert rows.image_ids.tolist() == [7] * 4
    assert rows.category_ids.tolist() == [30, 30, 31, 31]
    assert rows.scores.tolist() == scores.flatten().tolist()
    assert rows.boxes[:, 0].tolist() == [0, 4, 8, 12]
