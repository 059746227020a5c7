"""Images of a shard set to look at: few, spread over it, and always the same ones."""

import base64
import io
import warnings
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from PIL import Image

from schemas import Caption, Sample
from shards.format.manifest import ShardError
from shards.inspection.image_formats import KINDS
from shards.inspection.marked_caption import MarkedCaption, mark
from shards.inspection.spread import spread
from shards.reading.reader import MissingImageError, Store
from shards.reading.shard_set import ShardSet

IMAGES = 12
IMAGES_OF_DATASET = 3
LONGEST_SIDE = 480  # pixels
QUALITY = 75  # of JPEG
LISTED_SHARDS_OF_SPLIT = 200  # whose rows of the index are read
REMOTE_SHARDS = 8  # a remote shard is fetched whole, to be looked at once
FORMATS = tuple(kind.format for kind in KINDS)


class Listed(NamedTuple):
    """An image of the index: its shard, its row there, and the data sets that speak of it."""

    shard: int
    row: int
    datasets: tuple[str, ...]


class Exhibit(NamedTuple):
    """An image with one of its captions.

    ``source`` is a data: URL, empty where there is nothing to show. ``fault`` says what cannot be
    read of the image, or of its captions: ``caption`` is None then. ``number`` is that of the
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
    """Chooses among the images of all shards by the index, and opens the shards of those chosen.

    Of a split of very many shards the index is read for some, evenly spread: there are
    ``captioned`` shards with captions in all, ``listed`` of them were chosen from. Of a remote set
    that is a few, those that show the most. ``faults`` say which rows of the index are damaged.
    """

    def __init__(self, shards: ShardSet) -> None:
        self._shards = shards
        self._store = Store(shards)
        self._broken: dict[int, ShardError] = {}
        self._shown: set[Listed] = set()
        splits = dict.fromkeys(entry.split for entry in shards.shards)
        by_split = [shards.shards_of(split) for split in splits]
        chosen = [shard for of in by_split for shard in spread(of, LISTED_SHARDS_OF_SPLIT)]
        self.faults: list[str] = []
        self._images = self._list(chosen)
        if shards.is_remote:
            middles = [shard for of in by_split for shard in spread(of, 1)]
            few = _few_shards(middles, self._images)
            self._images = [of for of in self._images if of.shard in few]
        self.captioned = sum(map(len, by_split))
        self.listed = len({of.shard for of in self._images})

    def _list(self, shards: Iterable[int]) -> list[Listed]:
        """Their images with captions; a fault that is met twice is one of the whole index."""
        found: list[Listed] = []
        for shard in shards:
            try:
                rows = self._shards.rows(shard, ["captions", "datasets"])
            except ShardError as error:
                if str(error) in self.faults:
                    break
                self.faults.append(str(error))
                continue
            columns = (rows[name].to_pylist() for name in ("captions", "datasets"))
            for row, (captions, datasets) in enumerate(zip(*columns, strict=True)):
                if captions:
                    found.append(Listed(shard, row, tuple(datasets)))
        return found

    def overall(self) -> list[Exhibit]:
        """Images evenly spread over the shards, each with the middle one of its captions."""
        return [self._exhibit(of, None) for of in self._choose(self._images, IMAGES)]

    def of_dataset(self, dataset: str) -> list[Exhibit]:
        """Images with a caption that a sentence of a data set is in, if possible new ones.

        There are none where the shards that were chosen from have none.
        """
        of = [image for image in self._images if dataset in image.datasets]
        new = [image for image in of if image not in self._shown]
        return [self._exhibit(at, dataset) for at in self._choose(new or of, IMAGES_OF_DATASET)]

    def _choose(self, images: list[Listed], most: int) -> list[Listed]:
        chosen = spread(images, most)
        self._shown.update(chosen)
        return chosen

    def _exhibit(self, place: Listed, dataset: str | None) -> Exhibit:
        entry = self._shards.shards[place.shard]
        at = (entry.split, entry.file, place.row)
        try:
            sample = self._sample(place)
            number = self._caption_of(place, sample.captions, dataset)
        except ShardError as error:
            return Exhibit("", 4, 3, *at, "", str(error), 0, 0, None, None)
        caption = sample.captions[number]
        source, fault = self._image(place)
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

    def _sample(self, place: Listed) -> Sample:
        """A shard that cannot be opened is not asked for again: fetching one takes its time."""
        if place.shard in self._broken:
            raise self._broken[place.shard]
        try:
            self._store.open(place.shard)
        except ShardError as error:
            self._broken[place.shard] = error
            raise
        return self._store.sample(place.shard, place.row)

    def _caption_of(self, place: Listed, captions: list[Caption], dataset: str | None) -> int:
        """The middle one of the captions, or of those that have a sentence of a data set."""
        numbers = [
            number
            for number, caption in enumerate(captions)
            if dataset is None or any(part.dataset == dataset for part in caption.provenance)
        ]
        if not numbers:
            name = self._shards.name_of(place.shard)
            raise ShardError(f"{name}: image {place.row} has no sentence of {dataset}")
        return numbers[len(numbers) // 2]

    def _image(self, place: Listed) -> tuple[str, str]:
        """An image as a data: URL, or why it cannot be shown; neither if the set has none."""
        try:
            image = self._store.image(place.shard, place.row).content
            return as_url(small_jpeg(bytes(image))), ""
        except MissingImageError:
            return "", ""
        except ShardError as error:
            return "", str(error)
        except UnreadableImageError as error:
            return "", f"This image cannot be shown: {error}"


class UnreadableImageError(ValueError):
    """Bytes that Pillow cannot decode, or does not within its limit of pixels."""


def small_jpeg(image: bytes) -> bytes:
    """An image at most ``LONGEST_SIDE`` wide and high, as JPEG.

    It is not turned by what its EXIF data say: boxes are not, either.

    Raises:
        UnreadableImageError: it is none, is damaged, or has more than Pillow's
            ``MAX_IMAGE_PIXELS``.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(image), formats=FORMATS) as opened:
                opened.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))
                small = opened.convert("RGB")
        small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        encoded = io.BytesIO()
        small.save(encoded, "JPEG", quality=QUALITY)
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        raise UnreadableImageError(str(error)) from error
    return encoded.getvalue()


def as_url(jpeg: bytes) -> str:
    """An image as a data: URL."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _few_shards(middles: list[int], images: Sequence[Listed]) -> set[int]:
    """The middle shard of every split, and ones of the data sets that those have not."""
    few = set(middles[:REMOTE_SHARDS])
    having: dict[str, set[int]] = {}
    for of in images:
        for dataset in of.datasets:
            having.setdefault(dataset, set()).add(of.shard)
    for shards in having.values():
        if not few & shards and len(few) < REMOTE_SHARDS:
            few.update(spread(sorted(shards), 1))
    return few
