"""``mdetr ground`` of several images or captions: a drawing of each pair, and one JSON file."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from mdetr_model.inference.drawing import draw_objects, save_image
from mdetr_model.inference.ground import GroundedObject, check_caption, ground
from mdetr_model.inference.images import open_image
from mdetr_model.inference.pairs import ImageCaption
from mdetr_model.json_files import write_json
from mdetr_model.model_folder import read_model
from mdetr_model.modeling import MdetrForGrounding, MdetrProcessor
from shards.atomic_folder import atomic_folder
from shards.terminal import count_noun, error_text, listed, printable

GROUNDED = "grounded.json"
CAPTIONS_PER_BATCH = 8
_STEM_CHARACTERS = 40  # of an image, in the name of its drawing


class _GroundedPair(NamedTuple):
    """A pair with its image and the objects; ``error`` states why the image cannot be read."""

    pair: ImageCaption
    image: Image.Image | None
    objects: list[GroundedObject]
    error: str = ""


def ground_pairs(
    pairs: Sequence[ImageCaption], model_folder: Path, threshold: float, output: Path
) -> None:
    """Grounds pairs, and writes a drawing of each and ``grounded.json`` to a new folder.

    Prints a line for each pair. The JSON is a list with an entry for each pair, in their order:

    - ``image``, ``caption``; ``width`` and ``height`` of the image, turned by its EXIF orientation
    - ``drawing``: a file in the same folder
    - ``predictions``, best first: ``box`` (xyxy in pixels of the image), ``score`` (0 to 1),
      ``phrase`` (the words of the caption that name the object; may be empty) and ``spans`` (their
      half-open character offsets)

    Of an image that cannot be read, the entry has ``image``, ``caption`` and ``error``; the other
    images are grounded.

    Raises:
        OSError: the model cannot be read; the folder cannot be written, or is not empty.
        ValueError: a caption is empty or too long, which is checked before any work; or images
            could not be read, after all others were grounded.
    """
    unreadable: dict[str, None] = {}
    with atomic_folder(output) as folder:
        model, processor = read_model(model_folder)
        for pair in pairs:
            check_caption(pair.caption, processor)
        entries: list[dict[str, Any]] = []
        for number, grounded in enumerate(_ground_each(pairs, model, processor, threshold)):
            image, caption = grounded.pair
            entry: dict[str, Any] = {"image": str(image), "caption": caption}
            if grounded.image is None:
                unreadable[str(image)] = None
                entries.append(entry | {"error": grounded.error})
                print(printable(grounded.error), flush=True)
                continue
            drawing = f"{number:03d}-{image.stem[:_STEM_CHARACTERS]}.png"
            save_image(draw_objects(grounded.image, caption, grounded.objects), folder / drawing)
            entry |= {"width": grounded.image.width, "height": grounded.image.height}
            predictions = [_prediction(obj) for obj in grounded.objects]
            entries.append(entry | {"drawing": drawing, "predictions": predictions})
            count = count_noun(len(predictions), "object")
            print(printable(f"{output / drawing}: {count}"), flush=True)
        write_json(folder / GROUNDED, entries)
    print(output / GROUNDED)
    if unreadable:
        count = count_noun(len(unreadable), "image")
        raise ValueError(f"{count} could not be read: {printable(listed([*unreadable]))}")


def _ground_each(
    pairs: Sequence[ImageCaption],
    model: MdetrForGrounding,
    processor: MdetrProcessor,
    threshold: float,
) -> Iterator[_GroundedPair]:
    """Yields the pairs with their objects; captions of an image that follow each other are batched.

    Images are not: each would be padded to the largest, which costs time, and changes the results
    of models whose image encoder sees the padding.
    """
    for path, group in groupby(pairs, key=lambda pair: pair.image):
        of_image = list(group)
        try:
            image = open_image(path)
        except (OSError, ValueError) as error:
            yield from (_GroundedPair(pair, None, [], error_text(error)) for pair in of_image)
            continue
        for start in range(0, len(of_image), CAPTIONS_PER_BATCH):
            batch = of_image[start : start + CAPTIONS_PER_BATCH]
            captions = [pair.caption for pair in batch]
            results = ground(image, captions, model, processor, threshold)
            for pair, objects in zip(batch, results, strict=True):
                yield _GroundedPair(pair, image, objects)


def _prediction(obj: GroundedObject) -> dict[str, Any]:
    return {
        "box": [round(side, 2) for side in obj.box],
        "score": round(obj.score, 4),
        "phrase": obj.phrase,
        "spans": obj.spans,
    }
