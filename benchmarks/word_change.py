r"""Whether a model reads: does a caption that is changed by one word move the box?

    PYTHONPATH=. python benchmarks/word_change.py MODEL --images 1500

In new images of the generated world, two objects that differ in one word only: a color ("red
circle", "blue circle"), a shape ("red circle", "red star") or the side ("circle on the left",
"circle on the right"). A pair counts as moved if the middle of each caption's best box lies in the
box of its own object (the pointing game), and as right if the two also have an IoU of at least 0.5.
Of a model that finds all objects of the right kind but does not read the word, at most a quarter of
the pairs would count.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from random import Random
from statistics import fmean
from typing import NamedTuple

import torch
from PIL import Image
from tqdm import tqdm

from mdetr_model.model_folder import read_model
from mdetr_model.modeling.box_ops import iou
from mdetr_model.modeling.modeling_mdetr import MdetrForGrounding
from mdetr_model.modeling.postprocess import boxes_in_pixels, object_scores
from mdetr_model.modeling.processing_mdetr import MdetrProcessor
from pipelines.synthetic.boxes import copy_of
from pipelines.synthetic.phrases import Description, Language
from pipelines.synthetic.render import render
from pipelines.synthetic.scene import LONGEST, Box, compose

LEAST_IOU = 0.5
BATCH = 32


class Question(NamedTuple):
    """A caption, and the box of what it names, in pixels of the image."""

    caption: str
    box: Box


class Answer(NamedTuple):
    """Of the best box for a caption: whether its middle lies in the object's box, and both fit."""

    on_object: bool
    fits: bool


class Change(NamedTuple):
    kind: str
    first: Question
    second: Question


def changes(language: Language) -> list[Change]:
    """Up to one pair of each kind; each caption fits one object of the image alone."""
    objects = language.objects
    found: dict[str, Change] = {}
    looks = [(obj.color, obj.noun) for obj in objects]
    for i, j in permutations(range(len(objects)), 2):
        first, second = objects[i], objects[j]
        plain = looks.count(looks[i]) == looks.count(looks[j]) == 1
        if plain and first.noun == second.noun:
            kind = "color"
        elif plain and first.color == second.color and " " not in first.noun + second.noun:
            kind = "shape"
        elif first.noun == second.noun and _apart(language, i, j):
            kind = "side"
        else:
            continue
        captions = [f"{obj.color} {obj.noun}" for obj in (first, second)]
        if kind == "side":
            captions = [f"{first.noun} on the left", f"{first.noun} on the right"]
        questions = map(Question, captions, (first.box, second.box))
        found.setdefault(kind, Change(kind, *questions))
    return list(found.values())


def _apart(language: Language, left: int, right: int) -> bool:
    """Whether the noun alone with the side names the one and the other object."""
    noun = Description("", "", "", language.objects[left].noun)
    is_left = (noun, "on the left side") in language.told_by_side[left]
    return is_left and (noun, "on the right side") in language.told_by_side[right]


def images(number: int, seed: int) -> Iterator[tuple[Image.Image, list[Change]]]:
    """New images with their pairs, as many of them as have any."""
    rng = Random(f"word change {seed}")
    while number:
        scene = compose(rng)
        found = changes(Language(scene))
        if found:
            number -= 1
            yield render(scene, copy_of(scene, LONGEST)), found


@torch.inference_mode()
def found(
    model: MdetrForGrounding, processor: MdetrProcessor, asked: list[tuple[Image.Image, Question]]
) -> list[Answer]:
    """How the best box for each caption answers it."""
    images, questions = zip(*asked, strict=True)
    texts = [question.caption for question in questions]
    outputs = model(**processor(images=list(images), text=texts, return_tensors="pt"))
    best = object_scores(outputs.logits).argmax(-1)
    sizes = torch.tensor([(image.height, image.width) for image in images])
    boxes = boxes_in_pixels(outputs.pred_boxes, sizes)[torch.arange(len(best)), best]
    truth = torch.tensor([question.box for question in questions])
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    on_object = ((truth[:, :2] <= middle) & (middle <= truth[:, 2:])).all(-1)
    fits = iou(boxes, truth) >= LEAST_IOU
    return list(map(Answer, on_object.tolist(), fits.tolist()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    model, processor = read_model(arguments.model)
    asked: list[tuple[str, Image.Image, Question]] = []
    for image, of_image in images(arguments.images, arguments.seed):
        for change in of_image:
            asked += [(change.kind, image, change.first), (change.kind, image, change.second)]
    answers: list[Answer] = []
    for start in tqdm(range(0, len(asked), BATCH), unit="batch", leave=False):
        part = asked[start : start + BATCH]
        answers += found(model, processor, [(image, question) for _, image, question in part])
    results = defaultdict(list)
    for (kind, _, _), one, other in zip(asked[::2], answers[::2], answers[1::2], strict=True):
        for name in (kind, "all"):
            results[name].append((one, other))
    print("change     pairs   captions right   pairs right   pairs moved")
    for name, pairs in sorted(results.items()):
        captions = fmean(answer.fits for pair in pairs for answer in pair)
        right = fmean(one.fits and other.fits for one, other in pairs)
        moved = fmean(one.on_object and other.on_object for one, other in pairs)
        print(f"{name:8} {len(pairs):7} {captions:16.3f} {right:13.3f} {moved:13.3f}")


if __name__ == "__main__":
    main()
