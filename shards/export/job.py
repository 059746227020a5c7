"""The input and output of an export: splits of a shard set, read sample by sample."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from schemas.image_ids import namespace_of
from shards.export.statements import Statements
from shards.format.image_files import without_orientation
from shards.format.manifest import ShardError
from shards.reading.reader import ImageMember, ShardReader, StoredSample
from shards.reading.shard_set import ShardSet

IMAGE_FOLDER = "images"  # unpacked images are written below it


class ExportedFile(NamedTuple):
    """A file or folder that an export wrote, and how many captions and boxes it holds.

    ``left_out`` is the number of absent phrases for which the format has no place.
    """

    path: Path
    captions: int
    boxes: int
    left_out: int = 0


@dataclass(frozen=True)
class ExportJob:
    """An export: ``splits`` of a shard set, written to ``output_folder``, which is empty.

    ``with_images`` also unpacks the images, to ``output_folder/images/KEY.EXTENSION``. ``no_coco``
    leaves out the images of COCO and crops of them, whichever dataset their captions come from.
    ``statements`` are those of the people who publish the export.
    """

    shards: ShardSet
    output_folder: Path
    splits: list[str]
    with_images: bool = False
    no_coco: bool = False
    statements: Statements = field(default_factory=Statements)

    def has_images(self) -> bool:
        """Returns whether the shards of the splits hold images."""
        shards = (shard for split in self.splits for shard in self.shards.shards_of(split))
        tables = (self.shards.rows(shard, ["image_name"]) for shard in shards)
        return any(table["image_name"][0].as_py() for table in tables)

    def samples(self, split: str) -> Iterator["ExportedSample"]:
        """Yields the samples of a split in the order of the shards.

        Raises:
            ShardError: a shard is missing or damaged, or has no images to unpack.
            OSError: an image cannot be written.
        """
        reader = ShardReader(self.shards, open_shards=1)
        image_count = sum(entry.images for entry in self.shards.shards if entry.split == split)
        with tqdm(total=image_count, desc=split, unit=" images", disable=None) as bar:
            for shard in self.shards.shards_of(split):
                crop_of = self.shards.rows(shard, ["crop_of"])["crop_of"].to_pylist()
                for row, original in enumerate(crop_of):
                    sample = reader.sample(shard, row)
                    if not (self.no_coco and "coco" in map(namespace_of, (sample.key, original))):
                        yield ExportedSample(self, reader, StoredSample(shard, row, sample))
                    bar.update()


def link_tar(job: ExportJob, link: Path) -> None:
    """Links the tar of a local set that has the name of ``link``; those of remote sets are not.

    Raises:
        ShardError: the tar is missing.
    """
    if job.shards.is_remote:
        return
    target = Path(job.shards.location, link.name).resolve()
    if not target.exists():
        raise ShardError(f"{target} is missing")
    link.symlink_to(target)


class ImageOrigins:
    """The licenses and web addresses of the images of a shard, by the row.

    Raises:
        ShardError: the index is missing or damaged, or an id is not of the manifest's licenses.
    """

    def __init__(self, shards: ShardSet, shard: int) -> None:
        table = shards.rows(shard, ["licenses", "url"])
        names = {entry.id: entry.name or entry.url for entry in shards.manifest.licenses}
        self._urls: list[str] = table["url"].to_pylist()
        try:
            self._licenses = [[names[id_] for id_ in ids] for ids in table["licenses"].to_pylist()]
        except KeyError as error:
            name = shards.shards[shard].file
            raise ShardError(f"the manifest lists no license {error}, which {name} has") from error

    def licenses(self, row: int) -> list[str]:
        """Returns the names of an image's licenses, "unknown" if no source states one."""
        return self._licenses[row]

    def url(self, row: int) -> str:
        """Returns an image's address, or an empty string."""
        return self._urls[row]


class ExportedSample:
    """A sample of an `ExportJob`, with access to its image."""

    def __init__(self, job: ExportJob, reader: ShardReader, stored: StoredSample) -> None:
        self.sample = stored.sample
        self.shard = stored.shard  # index in the manifest's list of shards
        self._job = job
        self._reader = reader
        self.row = stored.row  # in the shard

    @property
    def namespace(self) -> str:
        """The first part of the image's key: ``coco``, ``vg``, ``flickr30k``."""
        return namespace_of(self.sample.key)

    def file_name(self) -> str:
        """Returns the name by which an annotation refers to the image.

        With images, the image is unpacked now and the name is relative to ``images/``; otherwise
        it is relative to the image folder of the source.
        """
        if not self._job.with_images:
            return self.sample.file
        image = self.read_image()
        path = self._job.output_folder / IMAGE_FOLDER / image.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image.content)
        return image.name

    def read_image(self) -> ImageMember:
        """Returns the image file, which every reader decodes as its pixels are stored."""
        image = self._reader.image(self.shard, self.row)
        return image._replace(content=memoryview(without_orientation(image.content)))
