"""The boxes of a slice, by image and class, as captions that are names of classes."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

import msgspec

from pipelines.sources.base import SliceItem
from schemas import GroundedCaption, ImageRecord, RawCounts, Region, Rejected
from schemas.limits import MAX_CHARACTERS, MAX_NAME_CHARACTERS


class ClassGroups(msgspec.Struct):
    """The captions of a slice of a detection dataset.

    Attributes:
        source: the name of the source, for what is rejected.
        dataset: the dataset of the captions.
        split: the split of the slice's file.
        names: the caption of each class, by its id.
        boxes: how many boxes the slice has, whatever becomes of them.
        has_relative_boxes: as of `ImageRecord`.
        has_local_ids: whether ids of images and classes are those of one file, so that a caption is
            named by its image's key and its text.
    """

    source: str
    dataset: str
    split: str
    names: Mapping[str, str]
    boxes: int = 0
    has_relative_boxes: bool = False
    has_local_ids: bool = False
    _groups: dict[tuple[str, str], dict[str, list[Region]]] = msgspec.field(
        default_factory=lambda: defaultdict(dict)
    )

    def add(self, image: str, image_id: str, class_id: str, region: Region | None) -> None:
        """Adds a box of a class, without its words; ``None`` is one that cannot be used.

        A caption may have no boxes: other slices may have some (`class_captions.unite`).

        ``image`` is the image's key, empty if its id is none, ``image_id`` its id in the file.
        """
        regions = self._groups[image, image_id].setdefault(class_id, [])
        if region is not None:
            regions.append(region)

    def items(self) -> Iterator[SliceItem]:
        """Yields the record of each image, what is rejected, and what the slice states."""
        for (image, image_id), classes in self._groups.items():
            record = ImageRecord(image, self.source, self.split)
            record.has_relative_boxes = self.has_relative_boxes
            for class_id, regions in sorted(classes.items()):
                record_id, count = f"{image_id}:{class_id[:MAX_NAME_CHARACTERS]}", len(regions)
                name = self.names.get(class_id)
                error = _error(image, name)
                if self.has_local_ids and not error:
                    record_id = f"{image.partition('/')[2]}:{name}"
                if name is None or error:
                    id_ = f"{self.dataset}/{record_id}"
                    yield Rejected(self.source, id_, error, "", image, boxes=count)
                    continue
                for region in regions:
                    region.spans = [(0, len(name))]
                record.captions.append(
                    GroundedCaption(name, regions, [], self.dataset, record_id, of_class=True)
                )
            if record.captions:
                yield record
        captions = sum(map(len, self._groups.values()))
        yield RawCounts(self.source, captions=captions, boxes=self.boxes)


def _error(image: str, name: str | None) -> str:
    """Returns why a caption cannot be used; empty if it can."""
    if not image:
        return "bad image id"
    if name is None:
        return "unknown class"
    return "" if 0 < len(name) <= MAX_CHARACTERS else "unusable class name"
