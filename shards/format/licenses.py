"""The licenses of images, as the manifest lists them and the index refers to them by their ids."""

from collections.abc import Iterable, Sequence

import msgspec

from schemas import UNKNOWN_LICENSE, ImageInfo, License

#: The license that is not stated: its name, also as the terms of a dataset, and its id.
UNKNOWN = "unknown"
UNKNOWN_ID = 0


class LicenseEntry(msgspec.Struct):
    """A license: the number of images that have it, and the sources whose tables state it.

    ``name`` and ``url`` are those of the raw files; those of id 0 are "unknown" and empty.
    """

    id: int
    name: str
    url: str
    images: int = 0
    stated_by: list[str] = []


class LicenseCounter:
    """Counts the licenses of the images of one shard, and numbers them."""

    def __init__(self) -> None:
        self.entries = [LicenseEntry(UNKNOWN_ID, UNKNOWN, "")]
        self._by_license: dict[License, LicenseEntry] = {}

    def add(self, rows: Iterable[ImageInfo]) -> list[int]:
        """Counts an image whose photo is that of ``rows``, the first of which is of its file.

        Returns the ids of the licenses that the rows state, in their order; if they state none,
        that of the unknown license.

        >>> row = ImageInfo("coco/139", "coco", "139.jpg", license=License("CC BY", "http://cc/by"))
        >>> counter = LicenseCounter()
        >>> counter.add([row, row]), counter.add([])
        ([1], [0])
        """
        ids: list[int] = []
        for row in rows:
            if row.license != UNKNOWN_LICENSE:
                entry = self._entry(row.license)
                if row.source not in entry.stated_by:
                    entry.stated_by.append(row.source)
                if entry.id not in ids:
                    ids.append(entry.id)
        ids = ids or [UNKNOWN_ID]
        for id_ in ids:
            self.entries[id_].images += 1
        return ids

    def _entry(self, license: License) -> LicenseEntry:
        entry = self._by_license.get(license)
        if entry is None:
            entry = LicenseEntry(len(self.entries), license.name, license.url)
            self._by_license[license] = entry
            self.entries.append(entry)
        return entry


def total_licenses(
    shards: Iterable[Sequence[LicenseEntry]],
) -> tuple[list[LicenseEntry], list[list[int]]]:
    """Returns the licenses of all shards, sorted by name and URL, and the new ids of each shard.

    The new id of a shard's license is at the index of its old id.
    """
    shards = list(shards)
    total = [LicenseEntry(UNKNOWN_ID, UNKNOWN, "")]
    distinct = sorted({(entry.name, entry.url) for entries in shards for entry in entries[1:]})
    ids = {license: id_ for id_, license in enumerate(distinct, start=1)}
    total += [LicenseEntry(id_, name, url) for (name, url), id_ in ids.items()]
    new_ids: list[list[int]] = []
    for entries in shards:
        of_shard = [UNKNOWN_ID, *(ids[entry.name, entry.url] for entry in entries[1:])]
        for entry, id_ in zip(entries, of_shard, strict=True):
            total[id_].images += entry.images
            total[id_].stated_by = sorted({*total[id_].stated_by, *entry.stated_by})
        new_ids.append(of_shard)
    return total, new_ids
