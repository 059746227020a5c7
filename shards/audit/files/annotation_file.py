"""What all formats of annotation files have in common, and how their bytes are opened."""

import contextlib
import gzip
import lzma
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from schemas.splits import split_of_path
from shards.atomic_folder import atomic_folder
from shards.audit.files.errors import AuditError
from shards.audit.files.statements import Reading, Statement
from shards.terminal import count_noun

GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"

Mask = npt.NDArray[np.bool_]


class AnnotationFile(ABC):
    """An annotation file, or a folder of files that are one.

    Attributes:
        path: Where it is.
        format: The name of its format in messages.
        not_read: Of a folder, the files that are of no format that is read, below it.
    """

    format: str
    not_read: Sequence[str] = ()

    def __init__(self, path: Path, reading: Reading) -> None:
        self.path = path
        self.reading = reading

    @abstractmethod
    def statements(self) -> Iterator[Statement]:
        """Yields what each record states about its images, in the order of the file.

        Records of a split of the other role are among them, and marked.

        Raises:
            AuditError: It is damaged.
        """

    @abstractmethod
    def write(self, output: Path, left_out: Mask) -> list[str]:
        """Writes the file without some of its records, in the same format and order.

        Args:
            output: The file or folder to write, which does not exist.
            left_out: For each record, whether it is left out.

        Returns:
            Lines that state what was left out.

        Raises:
            AuditError: The file was changed since it was audited, or cannot be written.
            OSError: A file cannot be written.
        """


class DataFile(NamedTuple):
    """One of the files of a format of which a folder may have many.

    ``name`` is its path below the folder, empty for a file without one; ``split`` that which its
    name states.
    """

    path: Path
    name: str = ""
    split: str = ""


def data_files(path: Path, suffix: str, reading: Reading) -> tuple[list[DataFile], list[str]]:
    """Returns the file at a path, or those below it whose names end in a suffix, in any case.

    Their names state splits only if they tell some from others: a folder of one split, as a file,
    is read whatever its name.

    Returns:
        The files, sorted, and the names of all others that the folder has.
    """
    if not path.is_dir():
        return [DataFile(path)], []
    files, others = [], []
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        name = file.relative_to(path)
        if file.suffix.lower() == suffix:
            files.append(DataFile(file, str(name), split_of_path(name)))
        else:
            others.append(str(name))
    if all(reading.other_split(file.split) for file in files):
        files = [file._replace(split="") for file in files]
    return files, others


class DataFiles(AnnotationFile):
    """A file, or all files below a folder whose names end in ``suffix``."""

    suffix: str
    record: str  # what a record is called in messages

    def __init__(self, path: Path, reading: Reading) -> None:
        super().__init__(path, reading)
        self._files, self.not_read = data_files(path, self.suffix, reading)

    def write(self, output: Path, left_out: Mask) -> list[str]:
        if not self.path.is_dir():
            number = self._write_file(self.path, output, left_out)
            check_number(self.path, number, left_out)
        else:
            number = 0
            with atomic_folder(output) as folder:
                for file in self._files:
                    target = folder / file.name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    number += self._write_file(file.path, target, left_out[number:])
                check_number(self.path, number, left_out)
        lines = [left_out_line(int(left_out.sum()), self.record)]
        if self.not_read:
            lines.append(f"not written: {count_noun(len(self.not_read), 'other file')}")
        return lines

    @abstractmethod
    def _write_file(self, path: Path, output: Path, left_out: Mask) -> int:
        """Writes a file without some records; returns how many it has.

        ``left_out`` begins with the file's first record, and may be longer than the file.
        """


@contextlib.contextmanager
def open_stream(path: Path) -> Iterator[BinaryIO]:
    """Opens a file, gzipped file, or the only file in a zip, which its first bytes identify.

    Raises:
        AuditError: A zip has several files, or the compressed data is damaged.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        try:
            if magic.startswith(GZIP):
                with gzip.GzipFile(fileobj=file) as unpacked:
                    yield cast(BinaryIO, unpacked)
            elif magic == ZIP:
                with zipfile.ZipFile(file) as archive, _member(archive, path) as member:
                    yield cast(BinaryIO, member)
            else:
                yield file
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:
            raise AuditError(f"{path} is damaged: {error}") from error


def is_compressed(path: Path) -> bool:
    """Returns whether a file is gzipped or a zip."""
    with path.open("rb") as file:
        return file.read(4).startswith((GZIP, ZIP))


def check_plain(path: Path) -> None:
    """Checks that a file to be written again without some records is not compressed.

    Raises:
        AuditError: It is.
    """
    if is_compressed(path):
        raise AuditError(f"{path} is compressed, so --write cannot keep its form: unpack it first")


def check_number(path: Path, number: int, left_out: Mask) -> None:
    """Checks that a file has as many records as when it was audited.

    Raises:
        AuditError: It has not.
    """
    if number != len(left_out):
        raise AuditError(
            f"{path} was changed while it was audited: {len(left_out)} records before, {number} now"
        )


def left_out_line(number: int, noun: str) -> str:
    """Returns a line that states how many records were left out."""
    return f"left out {count_noun(number, noun)}"


def _member(archive: zipfile.ZipFile, path: Path) -> IO[bytes]:
    files = [member for member in archive.infolist() if not member.is_dir()]
    members = files
    if len(files) > 1:  # beside notes and files of the system
        members = [m for m in files if Path(m.filename).name == path.stem]
    if len(members) != 1:
        raise AuditError(f"{path} is a zip of {len(files)} files: unpack it, and audit each")
    try:
        return archive.open(members[0])
    except (RuntimeError, NotImplementedError) as error:  # a password, an unusual compression
        raise AuditError(f"{path} cannot be unpacked: {error}") from error
