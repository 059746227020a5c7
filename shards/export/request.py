"""What is exported: a shard set's splits, image by image."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from shards.reading.reader import ImageFile, Store, Stored
from shards.reading.shard_set import ShardSet

IMAGES = "images"  # the folder of unpacked images


class Written(NamedTuple):
    """A file that was made, and what is in it."""

    path: Path
    captions: int
    boxes: int


@dataclass(frozen=True)
class Request:
    """``splits`` of a shard set, to be written below ``out``, a new folder.

    ``unpack``: images are unpacked as well, to ``out/images/KEY.EXTENSION``. ``no_coco``: without
    the images of COCO, whichever data set speaks of them.
    """

    shards: ShardSet
    out: Path
    splits: list[str]
    unpack: bool = False
    no_coco: bool = False

    def samples(self, split: str) -> Iterator["Exported"]:
        """The samples of a split in the order of the shards.

        Raises:
            ShardError: a shard is missing or damaged, or has no images to unpack.
            OSError: an image cannot be written.
        """
        store = Store(self.shards, open_shards=1)
        images = sum(of.images for of in self.shards.shards if of.split == split)
        with tqdm(total=images, desc=split, unit=" images", disable=None) as bar:
            for stored in store.samples(split):
                if not (self.no_coco and stored.sample.key.startswith("coco/")):
                    yield Exported(self, store, stored)
                bar.update()


class Exported:
    """A sample on its way."""

    def __init__(self, request: Request, store: Store, stored: Stored) -> None:
        self.sample = stored.sample
        self._request = request
        self._store = store
        self._stored = stored

    @property
    def shard(self) -> int:
        """Its shard's place in the manifest."""
        return self._stored.shard

    @property
    def namespace(self) -> str:
        """The data set that the image is of: the first half of its key."""
        return self.sample.key.partition("/")[0]

    def file_name(self) -> str:
        """Where the image is: below ``out/images``, where it is put now, or below its source."""
        if not self._request.unpack:
            return self.sample.file
        image = self.image()
        path = self._request.out / IMAGES / image.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image.content)
        return image.name

    def image(self) -> ImageFile:
        """The image, as it was published."""
        return self._store.image(self._stored.shard, self._stored.row)
