"""Measures whether the predicted box moves when one word of the caption changes.

    PYTHONPATH=. python benchmarks/word_change.py MODEL --num-images 1500

Each pair of captions is about two objects of a synthetic image that was not trained on, and differs
in one word: a color ("red circle", "blue circle"), a shape ("red circle", "red star") or a side
("circle on the left", "circle on the right"). A pair counts as moved if the center of each
caption's best box lies in the box of its object (the pointing game), and as correct if both best
boxes have an IoU of at least 0.5 with the object's. A model that detects all objects of the right
class but ignores the word gets at most a quarter of the pairs.
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
from pipelines.synthetic.boxes import scale_to_longest
from pipelines.synthetic.phrases import Language, ObjectDescription
from pipelines.synthetic.render import render
from pipelines.synthetic.scene import SCENE_LONGEST, STYLES, SceneStyle, make_scene
from schemas import Box

MIN_IOU = 0.5
BATCH_SIZE = 32


class GroundingQuery(NamedTuple):
    """A caption and the box (xyxy pixels) of the object that it refers to."""

    caption: str
    box: Box


class Prediction(NamedTuple):
    """Whether the best box has its center in the object's box, and an IoU of at least MIN_IOU."""

    center_is_inside: bool
    is_correct: bool


class CaptionPair(NamedTuple):
    """Two captions about one image that differ in a word of some kind: color, shape or side."""

    kind: str
    first: GroundingQuery
    second: GroundingQuery


def caption_pairs(language: Language) -> list[CaptionPair]:
    """Returns at most one pair of each kind; every caption fits one object of the image only."""
    objects = language.objects
    pairs: dict[str, CaptionPair] = {}
    appearances = [(obj.color, obj.noun) for obj in objects]
    for i, j in permutations(range(len(objects)), 2):
        first, second = objects[i], objects[j]
        distinct = appearances.count(appearances[i]) == appearances.count(appearances[j]) == 1
        captions = [f"{obj.color} {obj.noun}" for obj in (first, second)]
        if distinct and first.noun == second.noun:
            kind = "color"
        elif distinct and first.color == second.color and " " not in first.noun + second.noun:
            kind = "shape"
        elif first.noun == second.noun and _are_unique_by_side(language, left=i, right=j):
            kind = "side"
            captions = [f"{first.noun} on the left", f"{first.noun} on the right"]
        else:
            continue
        queries = map(GroundingQuery, captions, (first.box, second.box))
        pairs.setdefault(kind, CaptionPair(kind, *queries))
    return list(pairs.values())


def _are_unique_by_side(language: Language, left: int, right: int) -> bool:
    """Returns whether the noun with a side fits only the one object, and only the other."""
    noun = ObjectDescription("", "", "", language.objects[left].noun)
    is_left = (noun, "on the left side") in language.unique_by_side[left]
    return is_left and (noun, "on the right side") in language.unique_by_side[right]


def images(
    style: SceneStyle, num_images: int, seed: int
) -> Iterator[tuple[Image.Image, list[CaptionPair]]]:
    """Yields images that have at least one pair, and their pairs."""
    rng = Random(f"word change {seed}")
    while num_images:
        scene = make_scene(rng, style)
        pairs = caption_pairs(Language(scene))
        if pairs:
            num_images -= 1
            yield render(scene, scale_to_longest(scene, SCENE_LONGEST)), pairs


@torch.inference_mode()
def predict(
    model: MdetrForGrounding,
    processor: MdetrProcessor,
    batch: list[tuple[Image.Image, GroundingQuery]],
) -> list[Prediction]:
    """Compares the best box for each caption with the object's box."""
    batch_images, queries = zip(*batch, strict=True)
    texts = [query.caption for query in queries]
    outputs = model(**processor(images=list(batch_images), text=texts, return_tensors="pt"))
    best = object_scores(outputs.logits).argmax(-1)
    sizes = torch.tensor([(image.height, image.width) for image in batch_images])
    boxes = boxes_in_pixels(outputs.pred_boxes, sizes)[torch.arange(len(best)), best]
    target = torch.tensor([query.box for query in queries])
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    center_is_inside = ((target[:, :2] <= center) & (center <= target[:, 2:])).all(-1)
    is_correct = iou(boxes, target) >= MIN_IOU
    return list(map(Prediction, center_is_inside.tolist(), is_correct.tolist()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--scenes", choices=tuple(STYLES), default="varied")
    parser.add_argument("--num-images", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    model, processor = read_model(arguments.model)
    kinds: list[str] = []
    queries: list[tuple[Image.Image, GroundingQuery]] = []
    for image, pairs in images(STYLES[arguments.scenes], arguments.num_images, arguments.seed):
        for pair in pairs:
            kinds.append(pair.kind)
            queries += [(image, pair.first), (image, pair.second)]
    predictions: list[Prediction] = []
    for start in tqdm(range(0, len(queries), BATCH_SIZE), unit="batch", leave=False):
        predictions += predict(model, processor, queries[start : start + BATCH_SIZE])
    results = defaultdict(list)
    for kind, first, second in zip(kinds, predictions[::2], predictions[1::2], strict=True):
        for name in (kind, "all"):
            results[name].append((first, second))
    print("change     pairs  captions correct  pairs correct  pairs moved")
    for name, predicted in sorted(results.items()):
        captions = fmean(prediction.is_correct for pair in predicted for prediction in pair)
        correct = fmean(first.is_correct and second.is_correct for first, second in predicted)
        moved = fmean(
            first.center_is_inside and second.center_is_inside for first, second in predicted
        )
        print(f"{name:8} {len(predicted):7} {captions:17.3f} {correct:14.3f} {moved:12.3f}")


if __name__ == "__main__":
    main()
