"""Deterministically chooses a few images with captions, evenly spaced over a shard set."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from schemas import Caption, Sample
from shards.evenly_spaced import evenly_spaced
from shards.format.manifest import ShardError
from shards.inspection.caption_markup import MarkedCaption, mark_caption
from shards.inspection.images import thumbnail_url
from shards.reading.reader import ShardReader
from shards.reading.shard_set import ShardSet

IMAGES = 12
IMAGES_PER_DATASET = 3
MAX_LISTED_SHARDS = 200  # shards of a split whose index rows are read
MAX_REMOTE_SHARDS = 8  # a remote shard is downloaded whole


class IndexedImage(NamedTuple):
    """An image of the index: its shard, its row there, and the datasets of its captions."""

    shard: int
    row: int
    datasets: tuple[str, ...]


class GalleryImage(NamedTuple):
    """An image with one of its captions, the ``caption_number``-th (from 1) of ``caption_count``.

    ``source`` is a ``data:`` URL, '' if there is no image. ``error`` states why the image or its
    captions cannot be read; in the latter case ``caption`` and ``marked`` are None.
    """

    split: str
    file: str
    row: int
    key: str = ""
    width: int = 4
    height: int = 3
    source: str = ""
    error: str = ""
    caption_number: int = 0
    caption_count: int = 0
    caption: Caption | None = None
    marked: MarkedCaption | None = None


class Gallery:
    """Chooses images of a shard set by its index, and reads only the shards of those chosen.

    For splits with very many shards, only the index rows of some, evenly spaced, are read; for
    remote sets, only a few shards are downloaded. ``captioned_shards`` is the number of shards with
    captions, ``listed_shards`` the number that images are chosen from. ``errors`` names damaged
    index rows.
    """

    def __init__(self, shards: ShardSet) -> None:
        self._shards = shards
        self._reader = ShardReader(shards)
        self._unreadable: dict[int, ShardError] = {}
        self._shown: set[IndexedImage] = set()
        self.errors: list[str] = []
        splits = dict.fromkeys(entry.split for entry in shards.shards)
        by_split = [shards.shards_of(split) for split in splits]
        self._images = self._list_images(
            shard for split in by_split for shard in evenly_spaced(split, MAX_LISTED_SHARDS)
        )
        if shards.is_remote:
            middles = [shard for split in by_split for shard in evenly_spaced(split, 1)]
            few = _choose_shards(middles, self._images)
            self._images = [image for image in self._images if image.shard in few]
        self.captioned_shards = sum(map(len, by_split))
        self.listed_shards = len({image.shard for image in self._images})

    def overall(self) -> list[GalleryImage]:
        """Returns images evenly spaced over the shards, each with its middle caption."""
        return [self._load(image, None) for image in self._choose(self._images, IMAGES)]

    def for_dataset(self, dataset: str) -> list[GalleryImage]:
        """Returns images with a caption of a dataset, preferably images that are not shown yet.

        Empty if the listed shards have none.
        """
        images = [image for image in self._images if dataset in image.datasets]
        new = [image for image in images if image not in self._shown]
        return [self._load(i, dataset) for i in self._choose(new or images, IMAGES_PER_DATASET)]

    def _list_images(self, shards: Iterable[int]) -> list[IndexedImage]:
        """Returns the images of these shards that have captions."""
        images: list[IndexedImage] = []
        for shard in shards:
            try:
                rows = self._shards.rows(shard, ["captions", "datasets"])
            except ShardError as error:
                if str(error) in self.errors:  # an error of the whole index
                    break
                self.errors.append(str(error))
                continue
            columns = (rows[name].to_pylist() for name in ("captions", "datasets"))
            for row, (captions, datasets) in enumerate(zip(*columns, strict=True)):
                if captions:
                    images.append(IndexedImage(shard, row, tuple(datasets)))
        return images

    def _choose(self, images: list[IndexedImage], limit: int) -> list[IndexedImage]:
        chosen = evenly_spaced(images, limit)
        self._shown.update(chosen)
        return chosen

    def _load(self, image: IndexedImage, dataset: str | None) -> GalleryImage:
        entry = self._shards.shards[image.shard]
        loaded = GalleryImage(split=entry.split, file=entry.file, row=image.row)
        try:
            sample = self._read_sample(image)
            index = self._caption_index(image, sample.captions, dataset)
        except ShardError as error:
            return loaded._replace(error=str(error))
        source, error_message = thumbnail_url(self._reader, image.shard, image.row)
        return loaded._replace(
            key=sample.key,
            width=sample.width,
            height=sample.height,
            source=source,
            error=error_message,
            caption_number=index + 1,
            caption_count=len(sample.captions),
            caption=sample.captions[index],
            marked=mark_caption(sample.captions[index]),
        )

    def _read_sample(self, image: IndexedImage) -> Sample:
        """Reads a sample; a shard that failed to open is not tried again, since downloads are slow.

        Raises:
            ShardError: the shard is missing or damaged.
        """
        if image.shard in self._unreadable:
            raise self._unreadable[image.shard]
        try:
            self._reader.open(image.shard)
        except ShardError as error:
            self._unreadable[image.shard] = error
            raise
        return self._reader.sample(image.shard, image.row)

    def _caption_index(
        self, image: IndexedImage, captions: list[Caption], dataset: str | None
    ) -> int:
        """Returns the middle one of the captions, or of those with a sentence of a dataset."""
        indices = [
            index
            for index, caption in enumerate(captions)
            if dataset is None or any(record.dataset == dataset for record in caption.provenance)
        ]
        if not indices:
            name = self._shards.name_of(image.shard)
            raise ShardError(f"{name}: image {image.row} has no sentence of {dataset}")
        return indices[len(indices) // 2]


def _choose_shards(middles: list[int], images: Sequence[IndexedImage]) -> set[int]:
    """Returns the middle shard of every split, and one for each dataset that those lack."""
    chosen = set(middles[:MAX_REMOTE_SHARDS])
    shards_by_dataset: dict[str, set[int]] = {}
    for image in images:
        for dataset in image.datasets:
            shards_by_dataset.setdefault(dataset, set()).add(image.shard)
    for shards in shards_by_dataset.values():
        if not chosen & shards and len(chosen) < MAX_REMOTE_SHARDS:
            chosen.update(evenly_spaced(sorted(shards), 1))
    return chosen
