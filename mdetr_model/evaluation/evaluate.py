"""``mdetr evaluate TASK``: evaluates a model on a split of a shard set."""

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from mdetr_model.distributed import DistributedContext, distributed_context
from mdetr_model.evaluation.evaluate_captions import detect_captions, read_captions
from mdetr_model.evaluation.loop import collect_outputs, evaluation_loader, transform_of
from mdetr_model.evaluation.tasks import (
    EvaluationTask,
    GeneralizedReferringTask,
    PhraseGroundingTask,
    ReferringExpressionTask,
    RefL4Task,
    TextOnlySample,
    make_task,
)
from mdetr_model.inference.drawing import draw_objects, save_image
from mdetr_model.inference.ground import ground
from mdetr_model.json_files import write_json
from mdetr_model.model_folder import read_model
from mdetr_model.modeling.modeling_mdetr import MdetrForGrounding
from mdetr_model.modeling.processing_mdetr import MdetrProcessor
from mdetr_model.precision import Precision, tf32
from shards import written_files
from shards.evenly_spaced import evenly_spaced
from shards.reading.reader import Pair, ShardReader
from shards.reading.shard_set import ShardSet
from shards.sampling.dataset import evaluation_indices

METRICS, PREDICTIONS = "metrics.json", "predictions.json"
MIN_DRAWN_SCORE = 0.5
#: The tasks of detectors that are not MDETR, and of files of predictions.
DETECTOR_TASKS: dict[str, type[PhraseGroundingTask | ReferringExpressionTask]] = {
    "grounding": PhraseGroundingTask,
    "referring": ReferringExpressionTask,
    "grefcoco": GeneralizedReferringTask,
    "ref-l4": RefL4Task,
}


def evaluate(
    task_name: str,
    model_folder: Path,
    location: str,
    split: str,
    output: Path,
    *,
    batch_size: int,
    workers: int,
    num_images: int,
    precision: Precision = "float32",
) -> None:
    """Evaluates a model and baselines on a split of a shard set.

    Prints the metrics; writes them as ``metrics.json`` to the folder ``output``, the predictions as
    ``predictions.json``, and ``num_images`` images with drawn predictions.

    Args:
        task_name: "grounding", "referring", "detection", "rejection" or "answering".
        model_folder: folder of the model and its processor.
        location: folder or URL of the shard set.
        split: of the shard set.
        output: folder of the results.
        batch_size: pairs per forward pass.
        workers: data loader processes.
        num_images: number of images to draw with the model's predictions.
        precision: of matrix products and convolutions on a GPU.

    Raises:
        OSError: a model or shard set cannot be read, or the output not written: it has files of
            others under the names of the results.
        ValueError: the shard set has no such split, or its captions do not fit the task.
    """
    with tf32(precision), distributed_context() as context:
        model, processor = read_model(model_folder)
        task = make_task(task_name, model)
        model.to(context.device)  # type: ignore[arg-type]  # wrapped without its signature
        shards = ShardSet.open(location)
        loader = evaluation_loader(
            shards,
            evaluation_indices(shards, split, rank=context.rank, world_size=context.world_size),
            processor.tokenizer,
            transform_of(processor),
            batch_size=batch_size,
            workers=workers,
        )
        names = [METRICS, PREDICTIONS, *map(image_name, range(num_images))]
        reserve(output, names, context)  # before the evaluation
        results = collect_outputs(
            model,
            loader,
            context,
            lambda outputs, batch: [
                (task.score(outputs, batch), task.predictions(outputs, batch)),
            ],
            precision,
        )
        if not context.is_main:
            return
        _write_results(task, results, shards, split, output)
        for number, pair in enumerate(_evenly_spaced_pairs(shards, split, num_images)):
            _draw(model, processor, pair, output / image_name(number))


def evaluate_detector(
    task_name: str,
    source: str | Path,
    location: str,
    split: str,
    output: Path,
    *,
    batch_size: int,
    workers: int,
) -> None:
    """Evaluates a detector of transformers, or a file of predictions, as `evaluate` does a model.

    Args:
        task_name: one of ``DETECTOR_TASKS``.
        source: folder of a detector or its name in the hub; as a ``Path``, a file of predictions.
        location, split, output, batch_size, workers: see `evaluate`.

    Raises:
        OSError: the detector, the file or the shard set cannot be read, or the output not written.
        ValueError: the shard set has no such split, its captions do not fit the task, or the file
            has an invalid entry or one of another phrase.
    """
    with distributed_context() as context:
        task = DETECTOR_TASKS[task_name]()
        shards = ShardSet.open(location)
        shards.shards_of(split)  # raises for an unknown split
        reserve(output, [METRICS, PREDICTIONS], context)
        counts = {}
        if isinstance(source, Path):
            results, counts["missing phrases"] = read_captions(task, source, shards, split)
        else:
            results = detect_captions(
                task, source, shards, split, context, batch_size=batch_size, workers=workers
            )
        if context.is_main:
            _write_results(task, results, shards, split, output, counts)


def reserve(output: Path, names: Sequence[str], context: DistributedContext) -> None:
    """Checks on all ranks that files may be written, and records them as ours.

    Raises:
        OSError: the folder has files of others under these names.
    """
    written_files.check(output, names)
    if context.is_main:
        written_files.add(output, names)


def _write_results(
    task: EvaluationTask,
    results: Sequence[tuple[list[Any], list[dict[str, Any]]]],
    shards: ShardSet,
    split: str,
    output: Path,
    counts: dict[str, int] | None = None,
) -> None:
    """Prints and writes metrics, with those of baselines, and writes predictions."""
    metrics = task.metrics([score for scores, _ in results for score in scores]) | (counts or {})
    trained = shards.manifest.splits_of_role("train")
    metrics["baselines"] = task.baselines(
        _text_only_samples(shards, [split]), _text_only_samples(shards, trained)
    )
    print(metrics_table(metrics))
    write_json(output / METRICS, metrics)
    predictions = [entry for _, entries in results for entry in entries]
    predictions.sort(key=lambda entry: tuple(entry.values())[:2])
    write_json(output / PREDICTIONS, predictions)


def image_name(number: int) -> str:
    """Returns the name of a drawn image."""
    return f"{number:03d}.png"


def metrics_table(metrics: dict[str, Any]) -> str:
    """Formats metrics as a table, with one line for each group of values."""
    lines = []
    for name, value in metrics.items():
        if not isinstance(value, dict):
            lines.append(f"{name}: {value}")
            continue
        for group, values in value.items():
            columns = "   ".join(f"{metric} {number:.3f}" for metric, number in values.items())
            lines.append(f"{name:13} {group:12} {columns}")
    return "\n".join(lines)


def _text_only_samples(shards: ShardSet, splits: Iterable[str]) -> Iterator[TextOnlySample]:
    """Yields the captions of splits without reading an image."""
    for split in splits:
        for stored in ShardReader(shards).samples(split):
            sample = stored.sample
            for caption in sample.captions:
                yield TextOnlySample(
                    key=sample.key, width=sample.width, height=sample.height, caption=caption
                )


def _evenly_spaced_pairs(shards: ShardSet, split: str, count: int) -> Iterator[Pair]:
    """Yields at most ``count`` pairs, spread evenly over a split."""
    reader = ShardReader(shards)
    for index in evenly_spaced(evaluation_indices(shards, split), count):
        yield reader.pair(index.shard, index.row, index.caption_index)


def _draw(model: MdetrForGrounding, processor: MdetrProcessor, pair: Pair, path: Path) -> None:
    image = Image.open(io.BytesIO(pair.image)).convert("RGB")
    [objects] = ground(image, [pair.caption.text], model, processor, MIN_DRAWN_SCORE)
    save_image(draw_objects(image, pair.caption.text, objects), path)
