"""WebDataset tars of any origin: consecutive members with one name, but for its extension."""

import re
import tarfile
from collections.abc import Iterator
from itertools import groupby, zip_longest
from pathlib import Path
from typing import BinaryIO, NamedTuple

from shards.atomic import atomic_write
from shards.audit.files.annotation_file import (
    DataFile,
    DataFiles,
    Mask,
    check_number,
    check_plain,
    is_compressed,
    open_stream,
)
from shards.audit.files.errors import AuditError
from shards.audit.files.json_stream import MAX_ELEMENT_BYTES
from shards.audit.files.statements import (
    IMAGE_EXTENSION,
    Record,
    Statement,
    decode_records,
    place_of,
    states,
)

#: As `webdataset` divides a name into the key of its sample and an extension.
_MEMBER = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)")
_COPY_BYTES = 4 << 20


class _Member(NamedTuple):
    """A member of a tar: its sample, its extension, and its bytes [start, stop) of the tar."""

    sample: str
    extension: str
    start: int
    stop: int
    content: bytes | None

    @property
    def is_image(self) -> bool:
        """Whether its extension is that of an image file."""
        return IMAGE_EXTENSION.search(f".{self.extension}") is not None


class Tars(DataFiles):
    """A tar, or a folder of tars, of samples that are members with one name."""

    format = "WebDataset tars"
    suffix = ".tar"
    record = "sample"

    def statements(self) -> Iterator[Statement]:
        for file in self._files:
            members = _members(file.path, with_images=self.reading.with_images)
            samples = groupby(members, lambda member: member.sample)
            for number, (sample, of_sample) in enumerate(samples):
                yield from self._statements(sample, list(of_sample), file, number)

    def write(self, output: Path, left_out: Mask) -> list[str]:
        for file in self._files:
            check_plain(file.path)
        return super().write(output, left_out)

    def _statements(
        self, sample: str, members: list[_Member], file: DataFile, number: int
    ) -> Iterator[Statement]:
        """Yields what the JSON of a sample and the name of its image state, for each image."""
        by_extension = {member.extension.lower(): member for member in members}
        json = by_extension.get("json")
        record: Record | None = Record()
        if json is not None and json.content is not None:
            try:
                [record] = decode_records(b"[" + json.content + b"]")
            except ValueError:
                record = None
        images = [member for member in members if member.is_image]
        if record is not None and record.path is None:
            record.path = f"{sample}.{images[0].extension if images else 'jpg'}"
        statements = states(
            record,
            self.reading,
            place_of(number, file.name),
            contains_image=bool(images),
            split=file.split,
        )
        if not statements[0].captions and by_extension.keys() & {"txt", "caption"}:
            statements = [statement._replace(captions=1) for statement in statements]
        # A sample may have its image in several forms: each is compared by its pixels.
        more = len(images) - len(statements)
        statements += [statements[-1]._replace(captions=0, is_further=True)] * more
        for statement, image in zip_longest(statements, images):
            yield statement._replace(content=image.content) if image else statement

    def _write_file(self, path: Path, output: Path, left_out: Mask) -> int:
        """Writes a tar without some samples, and all other bytes as they are."""
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
                    stop = info.offset_data + -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                    member = _Member(sample, extension, info.offset, stop, None)
                    is_json = extension.lower() == "json"
                    if (is_json and with_json) or (member.is_image and with_images):
                        member = member._replace(content=_content(tar, info, path))
                    if is_plain and stop > size:
                        raise AuditError(f"{path} is damaged: it ends inside {info.name}")
                    yield member
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


def _copy(file: BinaryIO, target: BinaryIO, start: int, stop: int) -> None:
    file.seek(start)
    while start < stop:
        content = file.read(min(_COPY_BYTES, stop - start))
        if not content:
            break
        target.write(content)
        start += len(content)
