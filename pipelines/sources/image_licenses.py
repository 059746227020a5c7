"""The licenses and web addresses that image tables in COCO's layout state of their images.

Layout: ``licenses`` is a list of id, name and url beside ``images``, whose ``license`` is an id.
"""

from collections import Counter
from collections.abc import Iterator

import msgspec

from pipelines.io.archives import file_name
from pipelines.io.json_records import BadRecord, Id, decode_list, decode_record
from pipelines.io.slices import Slice
from schemas import UNKNOWN_LICENSE, License, Rejected
from schemas.licenses import MALFORMED_LICENSE, UNKNOWN_LICENSE_ID
from schemas.limits import MAX_REPORTED_CHARACTERS

#: The key of the table, for `Input.beside`.
KEY = "licenses"


class _Row(msgspec.Struct, gc=False):
    id: Id
    name: str = ""
    url: str = ""


class LicenseTable:
    """The licenses of a file, by the ids in the rows of its images.

    Args:
        source: The name of the source, for what is rejected.
        raw_slice: A slice of the file's images, with the table beside it.
    """

    def __init__(self, source: str, raw_slice: Slice) -> None:
        self._source = source
        self._path = raw_slice.input.path
        self._is_first_slice = raw_slice.first == 0  # which reports the errors of the table
        try:
            rows, bad = decode_list(raw_slice.beside or b"[]", _Row)
            self._bad_rows = [BadRecord(f"{KEY}/{position}", error) for position, error in bad]
        except ValueError as error:
            rows, self._bad_rows = [], [BadRecord(KEY, str(error))]
        self._licenses: dict[int, License] = {}
        for row in rows:
            license = License(row.name, row.url)
            if self._licenses.setdefault(row.id, license) != license:
                repeated = f"license {row.id} is there twice, and differs: the first one was kept"
                self._bad_rows.append(BadRecord(KEY, repeated))
        # The licenses by an image's field, as it is in the file; None: it is no id of the table.
        self._by_json: dict[bytes, License | None] = {}
        self._unknown: Counter[bytes] = Counter()

    def license(self, field: msgspec.Raw) -> License:
        """Returns the license that an image states by its id; unknown if it states none.

        An id that the table does not have is unknown, too, and is counted for `rejected`.
        """
        json = bytes(field)
        if json not in self._by_json:
            self._by_json[json] = self._decode(json)
        license = self._by_json[json]
        if license is None:
            self._unknown[json] += 1
            return UNKNOWN_LICENSE
        return license

    def _decode(self, json: bytes) -> License | None:
        if json in (b"", b"null"):
            return UNKNOWN_LICENSE
        try:
            return self._licenses.get(decode_record(json, Id))
        except ValueError:
            return None

    def rejected(self) -> Iterator[Rejected]:
        """Yields the rows of the table that cannot be used, and the ids that it lacks."""
        file = file_name(self._path)
        if self._is_first_slice:
            for record, error in self._bad_rows:
                yield Rejected(
                    self._source, record, MALFORMED_LICENSE, f"{file}: {error}", records=0
                )
        for json, count in sorted(self._unknown.items()):
            license = ascii(json.decode(errors="replace")[:MAX_REPORTED_CHARACTERS])[1:-1]
            detail = f"{file}: {KEY} has no such id; images that state it: {count}"
            yield Rejected(
                self._source, f"license {license}", UNKNOWN_LICENSE_ID, detail, records=0
            )


def web_address(*fields: "str | msgspec.Raw") -> str:
    """Returns the first of several fields that states anything; empty if none does."""
    for field in fields:
        text = field if isinstance(field, str) else _text(field)
        if text:
            return text
    return ""


def _text(field: msgspec.Raw) -> str:
    json = bytes(field)
    if json in (b"", b"null"):
        return ""
    try:
        return decode_record(json, str)
    except ValueError:
        return json.decode(errors="replace")
