"""The labels of a batch: the forms in which they come, and the one that the losses take.

Shapes: B captions, N boxes (padded), C = 256 token positions, T tokens.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .configuration_mdetr import MdetrConfig
from .outputs import MdetrOutput

# What transformers' Trainer pads labels and outputs with, where batches differ in size.
PADDING = -100


def prepare_labels(
    labels: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    outputs: MdetrOutput,
    config: MdetrConfig,
) -> dict[str, Any]:
    """Returns labels in the form that the losses take, on the device of the outputs.

    Args:
        labels: as ``MdetrCriterion`` takes them.
        outputs: of the same captions.
        config: of the model.

    Returns:
        ``boxes`` (B, N, 4) float32, ``box_mask`` (B, N) and ``positive_map`` (B, N, C) boolean, and
        the other labels that the losses of the outputs need.

    Raises:
        ValueError: a label is missing, or has another shape or type; the message names it.
    """
    if not isinstance(labels, Mapping):
        labels = _collate(labels, outputs, config)
    _check_lengths(labels, len(outputs.logits))
    _check_missing(labels, outputs)
    device = outputs.logits.device
    prepared = dict(labels)
    for name in ("boxes", "box_mask", "positive_map", "is_final"):
        if prepared.get(name) is not None:
            prepared[name] = _tensor(name, prepared[name], device)
    _check_shapes(prepared, outputs.logits.shape[-1])
    prepared["boxes"] = prepared["boxes"].float()
    for name in ("box_mask", "positive_map"):
        if prepared[name].dtype != torch.bool:
            prepared[name] = prepared[name] > 0
    if outputs.answers is not None:
        answers = prepared["answers"]
        prepared["answers"] = {
            head: _tensor(head, answers[head], device).long() for head in outputs.answers
        }
    return prepared


def _collate(
    labels: Sequence[Mapping[str, Any]], outputs: MdetrOutput, config: MdetrConfig
) -> dict[str, Tensor]:
    """Collates labels in DETR's form: a dictionary for each caption."""
    is_list = isinstance(labels, Sequence) and all(isinstance(each, Mapping) for each in labels)
    if not is_list:
        raise ValueError(
            "labels have to be a dictionary, such as MdetrProcessor.make_labels returns, or a list "
            f"with one for each caption, not {type(labels).__name__}"
        )
    if len(labels) != len(outputs.input_ids):
        raise ValueError(f"labels for {len(labels)} captions instead of {len(outputs.input_ids)}")
    by_name: dict[str, list[Tensor]] = {"boxes": [], "positive_map": []}
    if all("is_final" in each for each in labels) and labels:
        by_name["is_final"] = []
    positions = outputs.logits.shape[-1]
    device = outputs.logits.device
    for item, (each, input_ids) in enumerate(zip(labels, outputs.input_ids, strict=True)):
        boxes = _relative_boxes(item, each, device)
        if each.get("positive_map") is not None:
            rows = _tensor("positive_map", each["positive_map"], device) > 0
        else:
            _check_one_class(item, each)
            rows = _caption_tokens(input_ids, config, positions).expand(len(boxes), -1)
        if rows.shape != (len(boxes), positions):
            raise ValueError(
                f"labels of caption {item}: positive_map of shape {tuple(rows.shape)} instead of "
                f"({len(boxes)}, {positions})"
            )
        by_name["boxes"].append(boxes)
        by_name["positive_map"].append(rows)
        if "is_final" in by_name:
            by_name["is_final"].append(_tensor("is_final", each["is_final"], device).float())
    by_name["box_mask"] = [torch.ones(len(boxes), device=device) for boxes in by_name["boxes"]]
    return {name: pad_sequence(rows, batch_first=True) for name, rows in by_name.items()}


def _relative_boxes(item: int, labels: Mapping[str, Any], device: torch.device) -> Tensor:
    """Returns the boxes (N, 4) of a caption."""
    if labels.get("boxes") is None:
        raise ValueError(f"labels of caption {item} lack boxes")
    boxes = _tensor("boxes", labels["boxes"], device).float()
    if boxes.numel() == 0:
        return boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"labels of caption {item}: boxes of shape {tuple(boxes.shape)}, not N, 4")
    if not ((boxes >= 0) & (boxes <= 1)).all():
        raise ValueError(
            f"labels of caption {item}: boxes have to be center, width and height, relative to the "
            f"image, 0 to 1; not {boxes.tolist()}"
        )
    return boxes


def _check_one_class(item: int, labels: Mapping[str, Any]) -> None:
    """Checks that the boxes of a caption may all be named by the whole caption."""
    classes = labels.get("class_labels")
    if classes is not None and len(torch.as_tensor(classes).unique()) > 1:
        raise ValueError(
            f"labels of caption {item}: without positive_map, the whole caption names every box, "
            "but class_labels has several classes"
        )


def _caption_tokens(input_ids: Tensor, config: MdetrConfig, positions: int) -> Tensor:
    """Returns the mask (1, C) of a caption's tokens without special ones; the last is "none"."""
    names = ("pad_token_id", "bos_token_id", "eos_token_id")
    special = [getattr(config.text_config, name, None) for name in names]
    ids = torch.tensor([each for each in special if each is not None], device=input_ids.device)
    words = ~torch.isin(input_ids, ids)
    tokens = torch.zeros(1, positions, dtype=torch.bool, device=input_ids.device)
    tokens[0, : len(words)] = words[:positions]
    tokens[0, -1] = False
    return tokens


def _tensor(name: str, value: Any, device: torch.device) -> Tensor:
    try:
        return torch.as_tensor(value, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"labels: {name} is no tensor but {type(value).__name__}") from error


def _check_lengths(labels: Mapping[str, Any], captions: int) -> None:
    label_names = ("boxes", "box_mask", "positive_map", "is_final")
    by_name = {name: labels.get(name) for name in label_names} | (labels.get("answers") or {})
    for name, values in by_name.items():
        if values is not None and len(values) != captions:
            raise ValueError(f"labels: {name} for {len(values)} captions instead of {captions}")


def _check_missing(labels: Mapping[str, Any], outputs: MdetrOutput) -> None:
    required = ["boxes", "box_mask", "positive_map"]
    if outputs.is_final is not None:
        required.append("is_final")
    if outputs.answers is not None:
        required.append("answers")
    missing = [name for name in required if labels.get(name) is None]
    if outputs.answers is not None and (answers := labels.get("answers")) is not None:
        heads = [head for head in outputs.answers if answers.get(head) is None]
        missing += [f"answers[{head!r}]" for head in heads]
    if missing:
        message = (
            f"labels lack {', '.join(missing)}; this model's losses need {', '.join(required)}"
        )
        if outputs.answers is not None:
            message += f", the answers of the heads {', '.join(outputs.answers)}"
        raise ValueError(message)


def _check_shapes(labels: Mapping[str, Any], positions: int) -> None:
    captions, boxes = labels["box_mask"].shape[:2] if labels["box_mask"].ndim > 1 else (0, 0)
    expected = {
        "box_mask": (captions, boxes),
        "boxes": (captions, boxes, 4),
        "positive_map": (captions, boxes, positions),
        "is_final": (captions, boxes),
    }
    for name, shape in expected.items():
        values = labels.get(name)
        if values is not None and values.shape != shape:
            raise ValueError(f"labels: {name} of shape {tuple(values.shape)} instead of {shape}")
