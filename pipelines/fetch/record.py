"""What was downloaded, in `.mdetr-fetch.json` in the root folder.

It states size and checksums of each file, also of those for which the catalog has none. So a second
machine can check that it has the same files, with ``--expect``.
"""

from pathlib import Path

import msgspec

from schemas.decodable import decodable
from shards.atomic import atomic_write

NAME = ".mdetr-fetch.json"


class RecordError(Exception):
    """A record cannot be read; the message names the file."""


class FetchedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A downloaded file: its content, and from where and when it came (UTC, ISO 8601)."""

    bytes: int
    sha256: str
    md5: str
    address: str
    date: str


class FetchRecord(msgspec.Struct, kw_only=True):
    """The downloaded files by their path below the root folder."""

    files: dict[str, FetchedFile] = {}


def read_record(path: Path) -> FetchRecord:
    """Reads a record.

    Raises:
        RecordError: There is none, or it is no record.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=decodable(FetchRecord))
    except (OSError, msgspec.DecodeError) as error:
        raise RecordError(f"{path}: not a record of downloads: {error}") from error


def add_to_record(path: Path, name: str, fetched: FetchedFile) -> None:
    """Adds a file to a record, which is created if there is none.

    Raises:
        RecordError: The path has something else.
    """
    record = read_record(path) if path.exists() else FetchRecord()
    record.files[name] = fetched
    files = dict(sorted(record.files.items()))
    with atomic_write(path) as file:
        file.write(msgspec.json.format(msgspec.json.encode(FetchRecord(files=files)), indent=2))


def differences(record: FetchRecord, expected: FetchRecord) -> list[str]:
    """Returns a line for each file that two records have with different contents."""
    return [
        f"{name}: sha256 {record.files[name].sha256}, expected {expected.files[name].sha256}"
        for name in sorted(record.files.keys() & expected.files.keys())
        if record.files[name].sha256 != expected.files[name].sha256
    ]
