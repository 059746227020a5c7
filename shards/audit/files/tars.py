"""WebDataset tars of any origin: consecutive members with one name, but for its extension."""

import re
import tarfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, NamedTuple

from shards.atomic import atomic_write
from shards.atomic_folder import atomic_folder
from shards.audit.files.annotation_file import (
    AnnotationFile,
    Mask,
    Reading,
    check_number,
    check_plain,
    is_compressed,
    left_out_line,
    open_stream,
)
from shards.audit.files.errors import AuditError
from shards.audit.files.json_stream import MAX_ELEMENT_BYTES
from shards.audit.files.statements import Record, Statement, decode_records, state

#: As `webdataset` divides a name into the key of its sample and an extension.
_MEMBER = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)")
_IMAGES = frozenset({"jpg", "jpeg", "png", "webp"})
_COPY_BYTES = 4 << 20


class _Member(NamedTuple):
    """A member of a tar: its sample, its extension, and its bytes [start, stop) of the tar."""

    sample: str
    extension: str
    start: int
    stop: int
    content: bytes | None


class Tars(AnnotationFile):
    """A tar, or a folder of tars, of samples that are members with one name."""

    format = "WebDataset tars"

    def __init__(self, path: Path, reading: Reading) -> None:
        super().__init__(path, reading)
        self._files = sorted(path.rglob("*.tar")) if path.is_dir() else [path]

    def statements(self) -> Iterator[Statement]:
        number = 0
        for path in self._files:
            members = _members(path, with_images=self.reading.with_images)
            for sample, of_sample in groupby(members, lambda member: member.sample):
                statement = self._statement(sample, list(of_sample), number)
                if statement is not None:
                    yield statement
                number += 1

    def write(self, output: Path, left_out: Mask) -> list[str]:
        for path in self._files:
            check_plain(path)
        number = 0
        if not self.path.is_dir():
            number = _write_tar(self.path, output, left_out)
            check_number(self.path, number, left_out)
            return [left_out_line(int(left_out.sum()), "sample")]
        with atomic_folder(output) as folder:
            for path in self._files:
                target = folder / path.relative_to(self.path)
                target.parent.mkdir(parents=True, exist_ok=True)
                number += _write_tar(path, target, left_out[number:])
            check_number(self.path, number, left_out)
        others = sum(1 for path in self.path.rglob("*") if path.is_file()) - len(self._files)
        lines = [left_out_line(int(left_out.sum()), "sample")]
        if others:
            lines.append(f"not written: {others:,} files of {self.path} that are no tars")
        return lines

    def _statement(self, sample: str, members: list[_Member], number: int) -> Statement | None:
        """Returns what the JSON of a sample and the name of its image state."""
        by_extension = {member.extension.lower(): member for member in members}
        json = by_extension.get("json")
        record: Record | None = Record()
        if json is not None and json.content is not None:
            try:
                [record] = decode_records(b"[" + json.content + b"]")
            except ValueError:
                record = None
        if record is None:
            return state(None, "", number=number)
        if self.reading.role == "eval" and record.is_of_train():
            return None
        image = next((m for m in members if m.extension.rpartition(".")[2] in _IMAGES), None)
        if record.path is None:
            record.path = f"{sample}.{image.extension if image else 'jpg'}"
        statement = state(record, self.reading.namespace, number=number)
        if not statement.captions and by_extension.keys() & {"txt", "caption"}:
            statement = statement._replace(captions=1)
        if image is not None and image.content is not None:
            statement = statement._replace(content=image.content)
        return statement


def _members(path: Path, *, with_images: bool = False, with_json: bool = True) -> Iterator[_Member]:
    """Yields the files of a tar, whose sample is empty where its name has no extension."""
    is_plain, size = not is_compressed(path), path.stat().st_size
    with open_stream(path) as file:
        try:
            with tarfile.open(fileobj=file, mode="r|") as tar:
                for info in tar:
                    if not info.isfile():
                        continue
                    match = _MEMBER.fullmatch(info.name)
                    sample, extension = match.groups() if match else (info.name, "")
                    is_image = extension.lower().rpartition(".")[2] in _IMAGES
                    is_wanted = (extension.lower() == "json" and with_json) or (
                        is_image and with_images
                    )
                    content = _content(tar, info, path) if is_wanted else None
                    stop = info.offset_data + -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                    if is_plain and stop > size:
                        raise AuditError(f"{path} is damaged: it ends inside {info.name}")
                    yield _Member(sample, extension, info.offset, stop, content)
                _check_end(tar, path)
        except tarfile.TarError as error:
            raise AuditError(f"{path} is not a tar, or a damaged one: {error}") from error


def _check_end(tar: tarfile.TarFile, path: Path) -> None:
    assert tar.fileobj is not None  # it is open
    while block := tar.fileobj.read(_COPY_BYTES):
        if block.count(0) != len(block):
            raise AuditError(
                f"{path}: bytes follow its end mark, as in tars that were concatenated; join the "
                "tars with `tar --concatenate`"
            )


def _content(tar: tarfile.TarFile, info: tarfile.TarInfo, path: Path) -> bytes:
    if info.size > MAX_ELEMENT_BYTES:
        raise AuditError(f"{path}: {info.name} has more than {MAX_ELEMENT_BYTES >> 20} MiB")
    member = tar.extractfile(info)
    assert member is not None  # it is a file
    content = member.read()
    if len(content) != info.size:
        raise AuditError(f"{path} is damaged: it ends inside {info.name}")
    return content


def _write_tar(path: Path, output: Path, left_out: Mask) -> int:
    """Writes a tar without some samples; other bytes as they are. Returns its number of samples."""
    number = -1
    with path.open("rb") as file, atomic_write(output) as target:
        position, sample = 0, None
        for member in _members(path, with_json=False):
            if member.sample != sample:
                number, sample = number + 1, member.sample
                check_number(path, max(number + 1, len(left_out)), left_out)
            _copy(file, target, position, member.start)
            if not left_out[number]:
                _copy(file, target, member.start, member.stop)
            position = member.stop
        _copy(file, target, position, path.stat().st_size)
    return number + 1


def _copy(file: BinaryIO, target: BinaryIO, start: int, stop: int) -> None:
    file.seek(start)
    while start < stop:
        content = file.read(min(_COPY_BYTES, stop - start))
        if not content:
            break
        target.write(content)
        start += len(content)
