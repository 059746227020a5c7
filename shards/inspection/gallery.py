"""Pictures of a shard set to look at: few, spread over it, and always the same ones."""

import base64
import io
import warnings
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image

from schemas import Caption
from shards.inspection.marked_caption import MarkedCaption, mark
from shards.manifest import ShardError
from shards.shard_set import ShardSet
from shards.spread import spread
from shards.store import NoPictureError, Store

PICTURES = 12
PICTURES_OF_DATASET = 3
LONGEST_SIDE = 480  # pixels
QUALITY = 75  # of JPEG
# A remote shard is fetched whole, to be looked at once.
SHARDS_OF_SPLIT, REMOTE_SHARDS_OF_SPLIT = 8, 1
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP")


class Place(NamedTuple):
    """A picture of the index: its shard, its row there, and the data sets that speak of it."""

    shard: int
    row: int
    datasets: tuple[str, ...]


class Exhibit(NamedTuple):
    """A picture with one of its captions.

    ``source`` is a data: URL, empty where there is nothing to show. ``fault`` says what cannot be
    read of the picture, or of its captions: ``caption`` is None then. ``number`` is that of the
    caption, of ``captions``, counted from 1.
    """

    key: str
    width: int
    height: int
    split: str
    file: str
    row: int
    source: str
    fault: str
    number: int
    captions: int
    caption: Caption | None
    marked: MarkedCaption | None


class Gallery:
    """Chooses among the pictures of some shards of every split, evenly spread over its shards."""

    def __init__(self, shards: ShardSet) -> None:
        self._shards = shards
        self._store = Store(shards)
        self._places = [place for shard in _some_shards(shards) for place in _places(shards, shard)]
        self._shown: set[Place] = set()

    def overall(self) -> list[Exhibit]:
        """Pictures evenly spread over the shards, each with the middle one of its captions."""
        return [self._exhibit(place, None) for place in self._choose(self._places, PICTURES)]

    def of_dataset(self, dataset: str) -> list[Exhibit]:
        """Pictures with a caption that a sentence of a data set is in, if possible new ones.

        There are none where the shards that were looked at have none.
        """
        of = [place for place in self._places if dataset in place.datasets]
        new = [place for place in of if place not in self._shown]
        return [self._exhibit(at, dataset) for at in self._choose(new or of, PICTURES_OF_DATASET)]

    def _choose(self, places: list[Place], most: int) -> list[Place]:
        chosen = spread(places, most)
        self._shown.update(chosen)
        return chosen

    def _exhibit(self, place: Place, dataset: str | None) -> Exhibit:
        entry = self._shards.shards[place.shard]
        at = (entry.split, entry.file, place.row)
        try:
            sample = self._store.sample(place.shard, place.row)
            number = self._caption_of(place, sample.captions, dataset)
        except ShardError as error:
            return Exhibit("", 4, 3, *at, "", str(error), 0, 0, None, None)
        caption = sample.captions[number]
        source, fault = self._picture(place)
        return Exhibit(
            sample.key,
            sample.width,
            sample.height,
            *at,
            source,
            fault,
            number + 1,
            len(sample.captions),
            caption,
            mark(caption),
        )

    def _caption_of(self, place: Place, captions: list[Caption], dataset: str | None) -> int:
        """The middle one of the captions, or of those that have a sentence of a data set."""
        numbers = [
            number
            for number, caption in enumerate(captions)
            if dataset is None or any(part.dataset == dataset for part in caption.parts)
        ]
        if not numbers:
            name = self._shards.name_of(place.shard)
            raise ShardError(f"{name}: picture {place.row} has no sentence of {dataset}")
        return numbers[len(numbers) // 2]

    def _picture(self, place: Place) -> tuple[str, str]:
        """A picture as a data: URL, or why it cannot be shown; neither if the set has none."""
        try:
            return as_url(
                small_jpeg(bytes(self._store.picture(place.shard, place.row).content))
            ), ""
        except NoPictureError:
            return "", ""
        except ShardError as error:
            return "", str(error)
        except UnreadablePictureError as error:
            return "", f"This picture cannot be shown: {error}"


class UnreadablePictureError(ValueError):
    """Bytes that Pillow cannot decode, or does not within its limit of pixels."""


def small_jpeg(picture: bytes) -> bytes:
    """A picture at most ``LONGEST_SIDE`` wide and high, as JPEG.

    It is not turned by what its EXIF data say: boxes are not, either.

    Raises:
        UnreadablePictureError: it is none, is damaged, or has more than Pillow's
            ``MAX_IMAGE_PIXELS``.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(picture), formats=FORMATS) as image:
                image.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))
                small = image.convert("RGB")
        small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        encoded = io.BytesIO()
        small.save(encoded, "JPEG", quality=QUALITY)
    except (
        *(OSError, ValueError, SyntaxError),
        *(Image.DecompressionBombError, Image.DecompressionBombWarning),
    ) as error:
        raise UnreadablePictureError(str(error)) from error
    return encoded.getvalue()


def as_url(jpeg: bytes) -> str:
    """A picture as a data: URL."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _some_shards(shards: ShardSet) -> Iterator[int]:
    most = REMOTE_SHARDS_OF_SPLIT if shards.is_remote else SHARDS_OF_SPLIT
    for split in dict.fromkeys(entry.split for entry in shards.shards):
        yield from spread(shards.shards_of(split), most)


def _places(shards: ShardSet, shard: int) -> Iterator[Place]:
    rows = shards.rows(shard, ["captions", "datasets"]).to_pylist()
    for row, of in enumerate(rows):
        if of["captions"]:
            yield Place(shard, row, tuple(of["datasets"]))
