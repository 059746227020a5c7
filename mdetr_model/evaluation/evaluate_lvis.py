"""``mdetr evaluate lvis``: evaluates a model as a detector of LVIS's classes."""

from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from mdetr_model.data.samples import Batch
from mdetr_model.distributed import distributed_context
from mdetr_model.evaluation.class_queries import ClassQueries, detections_of_image
from mdetr_model.evaluation.evaluate import METRICS, PREDICTIONS, metrics_table
from mdetr_model.evaluation.loop import collect, evaluation_loader, transform_of
from mdetr_model.evaluation.metrics.class_detections import (
    BestOfClasses,
    ClassDetections,
    best_of_each,
    concatenate,
)
from mdetr_model.evaluation.metrics.lvis_ap import (
    MAX_DETECTIONS_OF_CLASS,
    MAX_DETECTIONS_OF_IMAGE,
    LvisGroundTruth,
    evaluated_classes,
    fixed_ap,
    lvis_ap,
    read_lvis,
)
from mdetr_model.json_files import write_json
from mdetr_model.model_folder import read_model
from schemas.class_names import class_name
from shards import written_files
from shards.reading.shard_set import ShardSet
from shards.sampling.dataset import SampleIndex, evaluation_indices


def evaluate_lvis(
    model_folder: Path,
    location: str,
    split: str,
    annotations: Path,
    output: Path,
    *,
    batch_size: int,
    workers: int,
) -> None:
    """Evaluates a model and a baseline on LVIS's classes, each as one caption.

    Prints the metrics; writes them as ``metrics.json`` to the folder ``output``, and the detections
    as ``predictions.json``, which LVIS's own tool reads.

    Args:
        model_folder: folder of the model and its processor.
        location, split: shard set and split of the images; their captions are ignored.
        annotations: LVIS's annotation file of the split, which also states the classes.
        output: folder of the results.
        batch_size: number of classes in one forward pass with an image.
        workers: data loader processes.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: the shard set has no such split, or an image that is not annotated.
    """
    with distributed_context() as context:
        truth = read_lvis(annotations)
        model, processor = read_model(model_folder)
        model.to(context.device)  # type: ignore[arg-type]  # wrapped without its signature
        names = [class_name(category.name) for category in truth.categories]
        queries = ClassQueries(model, processor.tokenizer, names, batch_size)
        shards = ShardSet.open(location)
        indices = _image_indices(shards, split, {image.id for image in truth.images})
        loader = evaluation_loader(
            shards,
            indices[context.rank :: context.world_size],
            processor.tokenizer,
            transform_of(processor),
            batch_size=1,
            workers=workers,
        )
        written_files.check(output, [METRICS, PREDICTIONS])  # on all ranks, before the evaluation
        if context.is_main:
            written_files.add(output, [METRICS, PREDICTIONS])

        category_ids = [category.id for category in truth.categories]
        best_of_classes = BestOfClasses(category_ids, MAX_DETECTIONS_OF_CLASS)

        def detect(batch: Batch) -> list[tuple[int, ClassDetections]]:
            (key,), (ground_truth,) = batch.keys, batch.ground_truths
            assert ground_truth is not None  # evaluation batches have one
            pixels = batch.to(context.device).inputs()["pixel_values"]
            scores, boxes = queries(pixels, *ground_truth.size)
            detections = detections_of_image(_image_id(key), category_ids, scores, boxes)
            best_of_classes.add(detections)
            return [(_image_id(key), _best_of_image(detections))]

        best_of_images = sorted(collect(loader, context, detect), key=itemgetter(0))
        bests_of_classes = context.all_gather(best_of_classes.best())
        if not context.is_main:
            return
        detections = concatenate([detections for _, detections in best_of_images])
        write_json(output / PREDICTIONS, list(_lvis_results(detections)))
        baseline = lvis_ap(truth, random_objects(truth))
        metrics = {
            "classes": {"all": lvis_ap(truth, detections)},
            "fixed AP": {"all": fixed_ap(truth, concatenate(bests_of_classes))},
            "images": len(best_of_images),
            "missing images": len(truth.images) - len(best_of_images),
            "baselines": {"all": {f"random object {name}": ap for name, ap in baseline.items()}},
        }
        print(metrics_table(metrics))
        write_json(output / METRICS, metrics)


def _best_of_image(detections: ClassDetections) -> ClassDetections:
    """Returns the detections of an image that standard AP counts, the best first."""
    rows = best_of_each(detections.image_ids, detections.scores, MAX_DETECTIONS_OF_IMAGE)
    best = detections.take(rows)
    return best.take(np.argsort(-best.scores, kind="stable"))


def _image_indices(shards: ShardSet, split: str, annotated: set[int]) -> list[SampleIndex]:
    """Returns the index of the first caption of every image of a split.

    Raises:
        ValueError: an image is not annotated; detected before any inference.
    """
    keys = {
        shard: shards.rows(shard, ["key"]).column("key").to_pylist()
        for shard in shards.shards_of(split)
    }
    indices = [index for index in evaluation_indices(shards, split) if index.caption_index == 0]
    for index in indices:
        key = keys[index.shard][index.row]
        if _image_id(key) not in annotated:
            raise ValueError(f"the annotations have no image {key}: are they of {split}?")
    return indices


def random_objects(truth: LvisGroundTruth) -> ClassDetections:
    """Returns the detections of a baseline: for each class, a random object of the image."""
    rng = Random(0)
    evaluated = evaluated_classes(truth)
    boxes: dict[int, list[Any]] = {image.id: [] for image in truth.images}
    for annotation in truth.annotations:
        x, y, width, height = annotation.bbox
        boxes[annotation.image_id].append((x, y, x + width, y + height))
    rows = [
        (image_id, category_id, rng.random(), rng.choice(image_boxes))
        for image_id, image_boxes in boxes.items()
        if image_boxes
        for category_id in sorted(evaluated[image_id])
    ]
    return ClassDetections(
        image_ids=np.array([row[0] for row in rows], np.int64),
        category_ids=np.array([row[1] for row in rows], np.int64),
        scores=np.array([row[2] for row in rows], np.float64),
        boxes=np.array([row[3] for row in rows], np.float64).reshape(-1, 4),
    )


def _image_id(key: str) -> int:
    """Returns LVIS's id of an image, which is that of COCO."""
    source, _, number = key.partition("/")
    if source != "coco" or not number.isdigit():
        raise ValueError(f"{key} is not an image of COCO, as all images of LVIS are")
    return int(number)


def _lvis_results(detections: ClassDetections) -> Iterator[dict[str, Any]]:
    """Yields detections in LVIS's result format, with boxes as xywh."""
    columns = (column.tolist() for column in detections)
    for image_id, category_id, score, (x0, y0, x1, y1) in zip(*columns, strict=True):
        yield {
            "image_id": image_id,
            "category_id": category_id,
            "bbox": [round(side, 2) for side in (x0, y0, x1 - x0, y1 - y0)],
            "score": round(score, 5),
        }
