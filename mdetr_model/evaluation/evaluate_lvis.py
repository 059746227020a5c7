"""``mdetr evaluate lvis``: evaluates a model as a detector of LVIS's classes."""

from collections.abc import Callable, Iterator, Sequence, Sized
from operator import itemgetter
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mdetr_model.data.samples import Batch
from mdetr_model.distributed import distributed_context
from mdetr_model.evaluation.class_queries import ClassQueries, detections_of_image
from mdetr_model.evaluation.detectors import Detections, is_other_detector, read_detector
from mdetr_model.evaluation.evaluate import METRICS, PREDICTIONS, metrics_table, reserve
from mdetr_model.evaluation.evaluate_captions import LoadedPair, image_loader
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
from mdetr_model.evaluation.predictions import read_class_predictions
from mdetr_model.json_files import write_json
from mdetr_model.model_folder import read_model
from mdetr_model.precision import tf32
from schemas.class_names import class_name
from shards.reading.shard_set import ShardSet
from shards.sampling.dataset import SampleIndex, evaluation_indices

#: Detects all classes in the image of a batch: its key, scores (C, Q) and boxes (C, Q, 4).
DetectClasses = Callable[[Any], tuple[str, Tensor, Tensor]]


def evaluate_lvis(
    model: str,
    location: str,
    split: str,
    annotations: Path,
    output: Path,
    *,
    batch_size: int,
    workers: int,
) -> None:
    """Evaluates a model, in float32, and a baseline on LVIS's classes.

    Prints the metrics; writes them as ``metrics.json`` to the folder ``output``, and the detections
    as ``predictions.json``, which LVIS's own tool reads.

    Args:
        model: folder of an MDETR model, which reads each class as one caption; or of a detector of
            transformers, or its name in the hub.
        location, split: shard set and split of the images; their captions are ignored.
        annotations: LVIS's annotation file of the split, which also states the classes.
        output: folder of the results.
        batch_size: number of classes, or of a detector's texts, in one forward pass with an image.
        workers: data loader processes.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: the shard set has no such split, or an image that is not annotated.
    """
    with tf32("float32"), distributed_context() as context:
        truth = read_lvis(annotations)
        names = [class_name(category.name) for category in truth.categories]
        shards = ShardSet.open(location)
        indices = _image_indices(shards, split, {image.id for image in truth.images})
        of_rank = indices[context.rank :: context.world_size]
        prepare = _other_detector if is_other_detector(model) else _mdetr
        loader, detect_classes = prepare(
            model, names, shards, of_rank, context.device, batch_size=batch_size, workers=workers
        )
        reserve(output, [METRICS, PREDICTIONS], context)  # before the evaluation
        category_ids = [category.id for category in truth.categories]
        best_of_classes = BestOfClasses(category_ids, MAX_DETECTIONS_OF_CLASS)

        def detect(batch: Any) -> list[tuple[int, ClassDetections]]:
            key, scores, boxes = detect_classes(batch)
            detections = detections_of_image(_image_id(key), category_ids, scores, boxes)
            best_of_classes.add(detections)
            return [(_image_id(key), _best_of_image(detections))]

        best_of_images = sorted(collect(loader, context, detect), key=itemgetter(0))
        bests_of_classes = context.all_gather(best_of_classes.best())
        if context.is_main:
            detections = concatenate([detections for _, detections in best_of_images])
            write_json(output / PREDICTIONS, list(_lvis_results(detections)))
            _write_metrics(truth, detections, concatenate(bests_of_classes), indices, output)


def evaluate_lvis_predictions(predictions: Path, annotations: Path, output: Path) -> None:
    """Evaluates detections in LVIS's result format as `evaluate_lvis` does those of a model.

    Args:
        predictions: file of all detections; standard AP takes the best 300 of an image.
        annotations, output: see `evaluate_lvis`.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: a file is invalid, or has a detection of an unknown image or class.
    """
    with distributed_context() as context:
        truth = read_lvis(annotations)
        detections = read_class_predictions(predictions)
        reserve(output, [METRICS], context)
        if context.is_main:
            images = np.unique(detections.image_ids)
            _write_metrics(truth, detections, detections, images, output)


def _mdetr(
    folder: str,
    names: Sequence[str],
    shards: ShardSet,
    indices: Sequence[SampleIndex],
    device: torch.device,
    *,
    batch_size: int,
    workers: int,
) -> tuple[DataLoader[Any], DetectClasses]:
    """Returns a loader of images, and the function that detects classes in a batch of one."""
    model, processor = read_model(Path(folder))
    model.to(device)  # type: ignore[arg-type]  # wrapped without its signature
    queries = ClassQueries(model, processor.tokenizer, names, batch_size)
    transform = transform_of(processor)
    options = {"batch_size": 1, "workers": workers}
    loader = evaluation_loader(shards, indices, processor.tokenizer, transform, **options)

    def detect_classes(batch: Batch) -> tuple[str, Tensor, Tensor]:
        (key,), (ground_truth,) = batch.keys, batch.ground_truths
        assert ground_truth is not None  # evaluation batches have one
        pixels = batch.to(device).inputs()["pixel_values"]
        return key, *queries(pixels, *ground_truth.size)

    return loader, detect_classes


def _other_detector(
    source: str,
    names: Sequence[str],
    shards: ShardSet,
    indices: Sequence[SampleIndex],
    device: torch.device,
    *,
    batch_size: int,
    workers: int,
) -> tuple[DataLoader[Any], DetectClasses]:
    """Returns the same of a detector of transformers."""
    detector = read_detector(source, device)
    prompts = detector.class_prompts(names)
    loader = image_loader(shards, indices, batch_size=1, workers=workers)

    def detect_classes(pairs: Sequence[LoadedPair]) -> tuple[str, Tensor, Tensor]:
        [pair] = pairs
        image = pair.open_image()
        detections: list[Detections] = []
        for first in range(0, len(prompts), batch_size):
            batch = prompts[first : first + batch_size]
            for phrases in detector.detect([image] * len(batch), batch):
                detections += phrases
        scores = torch.stack([of_class.scores for of_class in detections])
        return pair.key, scores, torch.stack([of_class.boxes for of_class in detections])

    return loader, detect_classes


def _write_metrics(
    truth: LvisGroundTruth,
    detections: ClassDetections,
    detections_for_fixed_ap: ClassDetections,
    images: Sized,
    output: Path,
) -> None:
    """Prints and writes metrics, with those of a baseline."""
    baseline = lvis_ap(truth, random_objects(truth))
    metrics = {
        "classes": {"all": lvis_ap(truth, detections)},
        "fixed AP": {"all": fixed_ap(truth, detections_for_fixed_ap)},
        "images": len(images),
        "missing images": len(truth.images) - len(images),
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
