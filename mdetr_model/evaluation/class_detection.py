"""``python -m mdetr_model evaluate lvis``: a model asked for every class on every image."""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from mdetr_model.data.samples import Batch
from mdetr_model.distributed import joined_ranks
from mdetr_model.evaluation.class_queries import ClassQueries, best_of_all
from mdetr_model.evaluation.evaluate import evaluation_loader, of_all, table, view_of
from mdetr_model.evaluation.metrics.lvis_ap import (
    MOST_FOUND,
    FoundBox,
    Lvis,
    judged_classes,
    lvis_ap,
    read_lvis,
)
from mdetr_model.json_files import write_json
from mdetr_model.model_folder import read_model
from schemas.class_names import class_name
from shards.reading.shard_set import ShardSet
from shards.sampling.dataset import SampleIndex, every_pair


def evaluate_classes(
    model_folder: Path,
    location: str,
    split: str,
    annotations: Path,
    output: Path,
    *,
    together: int,
    workers: int,
) -> None:
    """A model measured as a detector of the classes of LVIS, beside a blind baseline.

    Prints the metrics; writes them as ``metrics.json`` to the folder ``output``, and what was found
    as ``predictions.json``, which LVIS's own tool reads.

    Args:
        location, split: where the images are; their captions do not matter.
        annotations: LVIS's file about them, with the classes that are asked for.
        together: classes that an image is asked for at a time.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: the shard set has no such split, or an image that the file does not know.
    """
    with joined_ranks() as ranks:
        truth = read_lvis(annotations)
        model, processor = read_model(model_folder)
        model.to(ranks.device)
        names = [class_name(of.name) for of in truth.categories]
        queries = ClassQueries(model, processor.tokenizer, names, together)
        shards = ShardSet.open(location)
        images = _images(shards, split, {of.id for of in truth.images})
        own = images[ranks.rank :: ranks.world_size]
        loader = evaluation_loader(
            shards, own, processor.tokenizer, view_of(processor), batch=1, workers=workers
        )

        def found(batch: Batch) -> list[tuple[int, list[FoundBox]]]:
            (key,), (reference,) = batch.keys, batch.references
            assert reference is not None  # batches of evaluation have one
            pixels = batch.to(ranks.device).inputs()["pixel_values"]
            best = best_of_all(*queries(pixels, *reference.size), MOST_FOUND)
            boxes = [FoundBox(truth.categories[n].id, score, box) for n, score, box in best]
            return [(_image_id(key), boxes)]

        everything = sorted(of_all(loader, ranks, found))
        if not ranks.is_first:
            return
        write_json(output / "predictions.json", list(_results(everything)))
        of_blind = lvis_ap(truth, blind(truth))
        metrics = {
            "classes": {"all": lvis_ap(truth, everything)},
            "images": len(everything),
            "images not in the shards": len(truth.images) - len(everything),
            "blind": {"all": {f"random object {name}": ap for name, ap in of_blind.items()}},
        }
        print(table(metrics))
        write_json(output / "metrics.json", metrics)


def _images(shards: ShardSet, split: str, known: set[int]) -> list[SampleIndex]:
    """The images of a split, each by its first caption.

    Raises:
        ValueError: one of them is not known: told before hours of work.
    """
    keys = {
        shard: shards.rows(shard, ["key"]).column("key").to_pylist()
        for shard in shards.shards_of(split)
    }
    places = [place for place in every_pair(shards, split) if place.number == 0]
    for place in places:
        key = keys[place.shard][place.row]
        if _image_id(key) not in known:
            raise ValueError(f"the annotations have no image {key}: are they of {split}?")
    return places


def blind(truth: Lvis) -> Iterator[tuple[int, list[FoundBox]]]:
    """What finds all objects but reads no names: a random one of the image for each class."""
    rng = Random(0)
    judged = judged_classes(truth)
    boxes: dict[int, list[Any]] = {image.id: [] for image in truth.images}
    for of in truth.annotations:
        x, y, width, height = of.bbox
        boxes[of.image_id].append((x, y, x + width, y + height))
    for image, of_image in boxes.items():
        if of_image:
            asked = sorted(judged[image])
            yield image, [FoundBox(of, rng.random(), rng.choice(of_image)) for of in asked]


def _image_id(key: str) -> int:
    """LVIS's id of an image: that of COCO."""
    source, _, number = key.partition("/")
    if source != "coco" or not number.isdigit():
        raise ValueError(f"{key} is no image of COCO: LVIS knows no others")
    return int(number)


def _results(found: list[tuple[int, list[FoundBox]]]) -> Iterator[dict[str, Any]]:
    for image, of_image in found:
        for category, score, (x0, y0, x1, y1) in of_image:
            bbox = [round(side, 2) for side in (x0, y0, x1 - x0, y1 - y0)]
            yield {
                "image_id": image,
                "category_id": category,
                "bbox": bbox,
                "score": round(score, 5),
            }
