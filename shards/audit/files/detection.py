"""Recognizes the format of an annotation file by its content."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from shards.audit.files.annotation_file import GZIP, ZIP, AnnotationFile, open_stream
from shards.audit.files.coco_layout import CocoLayout
from shards.audit.files.errors import AuditError
from shards.audit.files.gqa import GqaFile
from shards.audit.files.json_lists import JsonLines, JsonList, PickledList, TextList
from shards.audit.files.json_stream import Elements, split_json
from shards.audit.files.parquet import Parquet
from shards.audit.files.shard_sets import ShardSetFile
from shards.audit.files.statements import STATING_FIELDS, Reading
from shards.audit.files.tars import Tars
from shards.format import manifest

_SNIFFED_BYTES = 1 << 20
_SNIFFED_LINES = 20
_OTHER_MAGIC = {
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89PNG": "a PNG image",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: unpack it first",
    b"\xfd7zXZ": "compressed by xz: unpack it first",
    b"BZh": "compressed by bzip2: unpack it first",
    b"\x89HDF": "an HDF5 file",
    b"ARROW1": "an Arrow file: save the dataset as Parquet",
    b"SQLite": "a database of SQLite",
    b"\xff\xfe": "text in UTF-16: save it as UTF-8",
    b"\xfe\xff": "text in UTF-16: save it as UTF-8",
    b"version https://git-lfs": "a pointer of Git LFS, not the file: download it with git lfs pull",
}
_MARKUP = re.compile(rb"\s*<(?:!doctype|html|\?xml|annotation)", re.IGNORECASE)
# A line of a list: no spaces, unless it is the name of a file.
_LIST_LINE = re.compile(r"[^\s,;|]{1,1000}|[^\n]{1,1000}\.(?:jpe?g|png|webp)", re.IGNORECASE)


def open_annotation_file(location: str, reading: Reading) -> AnnotationFile:
    """Opens a file, folder or remote shard set, whose format its content tells.

    Raises:
        AuditError: It is of no format that is read; the message states what it is.
        ShardError: It is a shard set that cannot be read.
        OSError: It cannot be read.
    """
    if "://" in location:
        return ShardSetFile(location, reading)
    path = Path(location)
    if path.is_dir():
        return _open_folder(path, reading)
    if path.name == manifest.NAME:
        raise AuditError(f"{path} is the manifest of a shard set: name its folder, {path.parent}")
    with open_stream(path) as file:
        beginning = file.read(_SNIFFED_BYTES)
    return _open_file(path, beginning, reading)


def _open_folder(path: Path, reading: Reading) -> AnnotationFile:
    if (path / manifest.NAME).exists():
        return ShardSetFile(str(path), reading)
    suffixes = Counter(p.suffix.lower() for p in path.rglob("*") if p.is_file())
    if suffixes[".parquet"] and suffixes[".tar"]:
        raise AuditError(f"{path} has Parquet files and tars: audit each folder of one kind")
    if suffixes[".parquet"]:
        return Parquet(path, reading)
    if suffixes[".tar"]:
        return Tars(path, reading)
    files = ", ".join(
        f"{n:,} {suffix or 'without extension'}" for suffix, n in suffixes.most_common(5)
    )
    raise AuditError(
        f"{path} is a folder of neither a shard set, Parquet files nor tars; its files: "
        f"{files or 'none'}"
    )


def _open_file(path: Path, beginning: bytes, reading: Reading) -> AnnotationFile:
    if not beginning:
        raise AuditError(f"{path} is empty")
    if beginning.startswith(b"PAR1"):
        return Parquet(path, reading)
    if beginning[257:262] == b"ustar":
        return Tars(path, reading)
    for magic, what in _OTHER_MAGIC.items():
        if beginning.startswith(magic):
            raise AuditError(f"{path} is {what}")
    if beginning.startswith((GZIP, ZIP)):
        raise AuditError(f"{path} is compressed twice: unpack it first")
    if _MARKUP.match(beginning):
        raise AuditError(f"{path} is a page of HTML or XML: maybe a failed download")
    if _is_pickle(beginning):
        if reading.role == "train":
            raise AuditError(f"{path} is a pickle, which is read for --against only")
        return PickledList(path, reading)
    text = beginning.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"{"):
        return _open_objects(path, text, reading)
    if text.startswith(b"["):
        _check_list(path)
        return JsonList(path, reading)
    return _open_text(path, beginning, reading)


def _is_pickle(beginning: bytes) -> bool:
    is_binary = beginning[0] == 0x80 and beginning[1] in range(2, 6)
    return is_binary or re.match(rb"\(lp\d*\n|\(dp\d*\n|c[a-z_.]+\n", beginning) is not None


def _open_objects(path: Path, text: bytes, reading: Reading) -> AnnotationFile:
    """Opens JSON lines, or one JSON object."""
    if _is_of_gqa(text):
        return GqaFile(path, reading)
    first_line, _, rest = text.partition(b"\n")
    first = _json_object(first_line)
    if first is not None and (rest.strip() or first.keys() & STATING_FIELDS):
        _check_fields(path, first)
        return JsonLines(path, reading)
    keys: list[str] = []
    with open_stream(path) as file:
        for chunk in split_json(file, str(path)):
            if isinstance(chunk, Elements):
                if chunk.name == "images":
                    first = _json_object(chunk.element(0))
                    return CocoLayout(path, reading, "caption" in (first or {}))
                if chunk.name not in keys:
                    keys.append(chunk.name)
    if (_json_object(text) or {}).get("images") == []:
        raise AuditError(f'{path} has an empty list "images"')
    names = f"; its lists are {', '.join(keys[:8])}" if keys else ""
    raise AuditError(
        f'{path} is a JSON object with neither a list "images" nor the questions or scene graphs '
        f"of GQA{names[:500]}"
    )


def _check_list(path: Path) -> None:
    with open_stream(path) as file:
        for chunk in split_json(file, str(path)):
            if isinstance(chunk, Elements):
                if (first := _json_object(chunk.element(0))) is not None:
                    _check_fields(path, first)
                return


def _check_fields(path: Path, first: dict[str, Any]) -> None:
    """Checks that the first record of a file has a field that states an image."""
    if not first.keys() & STATING_FIELDS:
        fields = ", ".join(map(str, first))[:300] or "none"
        raise AuditError(f"{path}: its records state no image; the fields of the first: {fields}")


def _is_of_gqa(text: bytes) -> bool:
    """Returns whether an object's first value is a question or a scene graph, by its id."""
    decoded, decoder = text.decode("utf-8", "replace"), json.JSONDecoder()
    try:
        id_, stop = decoder.raw_decode(decoded, decoded.index('"'))
        value, _ = decoder.raw_decode(decoded, decoded.index("{", stop))
    except ValueError:
        return False
    return re.fullmatch("n?[0-9]+", id_) is not None and bool(value.keys() & {"imageId", "objects"})


def _json_object(text: bytes) -> dict[str, Any] | None:
    try:
        decoded = json.loads(text.decode("utf-8", "surrogateescape"))
    except ValueError:
        return None
    return decoded if isinstance(decoded, dict) else None


def _open_text(path: Path, beginning: bytes, reading: Reading) -> AnnotationFile:
    complete = beginning
    if len(beginning) == _SNIFFED_BYTES:
        complete = beginning[: beginning.rfind(b"\n") + 1]
    try:
        lines = complete.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        lines = []
    filled = [line.strip() for line in lines if line.strip()]
    if not filled or "\0" in complete.decode("utf-8", "replace"):
        first = beginning[:16].hex(" ")
        raise AuditError(f"{path} is of no format that is read; it begins with the bytes {first}")
    for number, line in enumerate(filled[:_SNIFFED_LINES], 1):
        if not _LIST_LINE.fullmatch(line):
            raise AuditError(
                f"{path} is text, but not a list of ids or file names: line {number} is "
                f"{line[:80]!a}"
            )
    return TextList(path, reading)
