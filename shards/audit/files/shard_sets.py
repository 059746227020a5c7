"""Shard sets of this project, through their index."""

from collections.abc import Iterator
from pathlib import Path

from schemas.image_ids import photo_id_of_url
from shards.audit.files.annotation_file import AnnotationFile, Mask
from shards.audit.files.errors import AuditError
from shards.audit.files.statements import Reading, Statement
from shards.reading.reader import ShardReader
from shards.reading.shard_set import ShardSet


class ShardSetFile(AnnotationFile):
    """The splits of a shard set that are trained on; of an evaluation set, the others."""

    format = "shard set"

    def __init__(self, location: str, reading: Reading) -> None:
        super().__init__(Path(location), reading)
        self._shards = ShardSet.open(location)
        roles = self._shards.manifest.roles
        self._splits = [split for split in roles if roles[split] == reading.role]
        if not self._splits:
            stated = ", ".join(f"{split} ({role})" for split, role in roles.items())
            what = "trained on" if reading.role == "train" else "for evaluation"
            raise AuditError(f"{location} has no split that is {what}; it has {stated}")

    def statements(self) -> Iterator[Statement]:
        reader = ShardReader(self._shards, open_shards=1)
        columns = ["key", "captions", "crop_of", "image_name", "url"]
        for shard, entry in enumerate(self._shards.shards):
            if entry.split not in self._splits:
                continue
            rows = self._shards.rows(shard, columns).to_pylist()
            for row, fields in enumerate(rows):
                content = None
                if self.reading.with_images and fields["image_name"]:
                    content = bytes(reader.image(shard, row).content)
                yield Statement(
                    name=fields["key"],
                    keys=(fields["key"],),
                    links=_links(fields["crop_of"], fields["url"]),
                    file=fields["image_name"],
                    captions=fields["captions"],
                    content=content,
                )

    def write(self, output: Path, left_out: Mask) -> list[str]:
        raise AuditError(
            f"{self.path} is a shard set, whose bytes follow from its recipe: build it again with "
            "the evaluation set under [exclude]"
        )


def _links(crop_of: str, url: str) -> tuple[str, ...]:
    """Returns the image that a crop was made from, and the photo at an image's address."""
    photo = photo_id_of_url(url)
    return tuple(filter(None, (crop_of, f"flickr30k/{photo}" if photo else "")))
