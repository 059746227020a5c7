"""The page of ``mdetr play``: an image, a caption, and the boxes that the caption names."""

import io
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from mdetr_model.inference.ground import GroundedObject, check_caption, ground
from mdetr_model.inference.images import decode_image, open_image
from mdetr_model.modeling import MdetrForGrounding, MdetrProcessor
from schemas import Caption, Region
from schemas.limits import MAX_IMAGE_FILE_BYTES
from shards.evenly_spaced import evenly_spaced
from shards.inspection.caption_markup import mark_caption
from shards.inspection.images import data_url
from shards.inspection.rendering import render

MAX_CAPTION_CHARACTERS = 2000  # which a URL can hold; a model reads 256 tokens
MAX_EXAMPLES = 24
SHOWN_SIZE, THUMBNAIL_SIZE = 1333, 240  # pixels of the longer side


class ObjectRow(NamedTuple):
    """An object in the table; ``number`` and ``color`` are those of its words, None without any."""

    number: int | None
    color: int | None
    object: GroundedObject


class PlayPages:
    """Renders the page, its results, and the images to choose from.

    The model is behind a lock: one image is decoded and grounded at a time.
    """

    def __init__(
        self,
        name: str,
        model: MdetrForGrounding,
        processor: MdetrProcessor,
        examples: Sequence[Path],
        threshold: float,
    ) -> None:
        self._name = name
        self._model = model
        self._processor = processor
        self._examples = evenly_spaced(examples, MAX_EXAMPLES)
        self._threshold = threshold
        self._lock = threading.Lock()

    def page(self) -> str:
        """Returns the page without a result."""
        return self.file(
            "play.html",
            name=self._name,
            examples=[path.name for path in self._examples],
            threshold=self._threshold,
            max_bytes=MAX_IMAGE_FILE_BYTES,
            max_characters=MAX_CAPTION_CHARACTERS,
        )

    def file(self, template: str, **values: object) -> str:
        """Returns a file of ``templates/`` with its values filled in."""
        return render(template, "mdetr_model.inference", **values)

    def result(self, content: bytes, caption: str, threshold: float) -> str:
        """Returns the part of the page that shows the objects of a caption.

        Args:
            content: the image file.
            caption: the words to ground.
            threshold: objects of a higher score are shown.

        Raises:
            ImageError: the file is not an image that can be decoded.
            ValueError: the caption is empty or too long.
        """
        check_caption(caption, self._processor)
        with self._lock:
            image = decode_image(content)
            start = time.perf_counter()
            [objects] = ground(image, [caption], self._model, self._processor, threshold=0.0)
            seconds = time.perf_counter() - start
        shown = [obj for obj in objects if obj.score > threshold]
        marked = mark_caption(
            Caption(caption, [Region(list(obj.spans), obj.box) for obj in shown], [], [])
        )
        of_region = {outline.region: outline for outline in marked.outlines}
        return self.file(
            "play_result.html",
            image=data_url(_jpeg(image, SHOWN_SIZE)),
            width=image.width,
            height=image.height,
            marked=marked,
            rows=[
                ObjectRow(of_region[index].number, of_region[index].color, obj)
                for index, obj in enumerate(shown)
            ],
            threshold=threshold,
            highest=max((obj.score for obj in objects), default=0.0),
            seconds=seconds,
        )

    def example(self, number: int) -> bytes:
        """Returns the file of an image to choose from.

        Raises:
            IndexError: there is no such image.
            OSError: it cannot be read.
        """
        return self._examples[number].read_bytes()

    def thumbnail(self, number: int) -> bytes:
        """Returns a small JPEG of an image to choose from.

        Raises:
            IndexError: there is no such image.
            OSError: it cannot be read.
            ImageError: it cannot be decoded.
        """
        path = self._examples[number]
        with self._lock:
            image = open_image(path)
        return _jpeg(image, THUMBNAIL_SIZE)


def _jpeg(image: Image.Image, size: int) -> bytes:
    image = image.copy()
    image.thumbnail((size, size))
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=90)
    return encoded.getvalue()
