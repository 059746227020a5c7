"""Grounds captions in an image: the objects that each refers to, as a list and a table."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from mdetr_model.modeling import MdetrForGrounding, MdetrProcessor
from mdetr_model.modeling.positive_map import NUM_TOKEN_POSITIONS


@dataclass(frozen=True, slots=True)
class GroundedObject:
    """An object that the caption refers to.

    Attributes:
        phrase: the words of the caption that name it; may be empty.
        spans: their half-open character offsets.
        box: xyxy in pixels.
        score: 0 to 1.
    """

    phrase: str
    spans: tuple[tuple[int, int], ...]
    box: tuple[float, float, float, float]
    score: float


@torch.inference_mode()
def ground(
    image: Image.Image,
    captions: Sequence[str],
    model: MdetrForGrounding,
    processor: MdetrProcessor,
    threshold: float,
) -> list[list[GroundedObject]]:
    """Returns for each caption the objects of a score above ``threshold``, best first.

    The captions are one batch, and share one pass of the image encoder.
    """
    inputs = processor(images=image, text=list(captions), return_tensors="pt").to(model.device)
    results = processor.post_process_grounded_object_detection(
        model(**inputs, image_index=torch.zeros_like(inputs["input_ids"][:, 0])),
        threshold=threshold,
        target_sizes=[(image.height, image.width)] * len(captions),
        text=captions,
    )
    return [
        [
            GroundedObject(phrase=phrase, spans=tuple(spans), box=tuple(box), score=score)
            for phrase, spans, box, score in zip(
                result["text_labels"],
                result["spans"],
                result["boxes"].tolist(),
                result["scores"].tolist(),
                strict=True,
            )
        ]
        for result in results
    ]


def check_caption(caption: str, processor: MdetrProcessor) -> None:
    """Checks that all of a caption is read.

    Raises:
        ValueError: it has no words, characters that are not Unicode, or more tokens than a model
            reads.
    """
    if not caption.strip():
        raise ValueError("the caption is empty")
    if re.search(r"[\ud800-\udfff]", caption):  # bytes of the command line that are not UTF-8
        raise ValueError(f"the caption has characters that are not Unicode: {caption[:40]!r}")
    tokens = len(processor.tokenizer(caption, verbose=False)["input_ids"])
    if tokens > NUM_TOKEN_POSITIONS:
        raise ValueError(
            f"the caption has {tokens} tokens, and a model reads {NUM_TOKEN_POSITIONS}: "
            f"{caption[:40]!r}..."
        )


def format_table(objects: Iterable[GroundedObject]) -> str:
    """Formats one line for each object: score, left, top, right, bottom, phrase."""
    lines = ["score   left    top  right bottom  phrase"]
    for obj in objects:
        box = " ".join(f"{side:6.0f}" for side in obj.box)
        lines.append(f"{obj.score:5.2f} {box}  {obj.phrase or '-'}")
    return "\n".join(lines)
