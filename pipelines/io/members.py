"""The members of an archive, and which of them a path means; the same rules for zips and tars."""

import unicodedata
import zlib
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Iterator
from typing import ClassVar, NamedTuple

import msgspec
import numpy as np

OUTSIDE = 'its name leads out of the archive by ".."'


class AmbiguousNameError(Exception):
    """Several members of archives, with different contents, may be meant by one name."""


class DamagedArchiveError(Exception):
    """An archive, or a member of one, cannot be read."""


class Archive(ABC):
    """An open zip or tar, whose members are known by their numbers."""

    kind: ClassVar[str]
    path: str  # of the archive, for messages

    @abstractmethod
    def names(self) -> "MemberNames":
        """Returns the names of all members but folders, with their numbers."""

    @abstractmethod
    def problem(self, number: int) -> str:
        """Returns why a member is not a file that can be read; empty if it may be one."""

    @abstractmethod
    def sizes(self, number: int) -> tuple[int, int]:
        """Returns the size of a member's content in bytes, and of what is stored of it."""

    @abstractmethod
    def crc(self, number: int) -> int:
        """Returns the CRC-32 of a member's content.

        Raises:
            DamagedArchiveError: It cannot be read.
        """

    @abstractmethod
    def read(self, number: int, size: int) -> bytes:
        """Returns the first ``size`` bytes of a member, in one request if it is remote.

        Raises:
            DamagedArchiveError: It is damaged, encrypted, or packed by an unknown method.
        """

    @abstractmethod
    def blocks(self, number: int) -> Iterator[bytes]:
        """Yields the content of a member in blocks of a few megabytes.

        Raises:
            DamagedArchiveError: As `read`.
        """

    @abstractmethod
    def close(self) -> None:
        """Closes the archive."""


class MemberNames:
    """The names of an archive's members, in 12 bytes and its UTF-8 for each.

    Python's strings in a dict take 200 bytes more, which for a million members is 200 MB.
    """

    def __init__(self, numbered: Iterable[tuple[int, str]]) -> None:
        """Collects names, each with the member's number."""
        text, ends, numbers = bytearray(), array("Q", [0]), array("I")
        for number, name in numbered:
            text += name.encode()
            ends.append(len(text))
            numbers.append(number)
        self._text, self._ends, self._numbers = bytes(text), ends, numbers

    def encode(self) -> bytes:
        """Returns the names as bytes, from which `decode` makes them again."""
        columns = (self._text, self._ends.tobytes(), self._numbers.tobytes())
        return msgspec.msgpack.encode(columns)

    @classmethod
    def decode(cls, content: bytes) -> "MemberNames":
        """Returns the names that were encoded."""
        names = cls(())
        columns = msgspec.msgpack.decode(content, type=tuple[bytes, bytes, bytes])
        names._text = columns[0]
        names._ends, names._numbers = array("Q", columns[1]), array("I", columns[2])
        return names

    def __len__(self) -> int:
        """Returns the number of members."""
        return len(self._numbers)

    def __getitem__(self, position: int) -> tuple[int, str]:
        """Returns the number and the name of a member."""
        start, end = self._ends[position], self._ends[position + 1]
        return self._numbers[position], self._text[start:end].decode()

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """Yields number and name of each member."""
        for position in range(len(self)):
            yield self[position]


class Member(NamedTuple):
    """A member of an archive, with its path below the folder that is searched."""

    archive: Archive
    number: int
    path: str


class MemberIndex:
    """The members of an archive by their paths, hidden ones and macOS's copies left out.

    A name is first searched as the path of a member, or as its path below the folder or folders
    that all members have in common, since archives of the same files differ by them. Names that
    differ in case only are the same file for some systems, so they are never both accepted.
    """

    def __init__(self, archive: Archive, below: str = "") -> None:
        """Indexes an open archive, or the members below one folder in it."""
        self._archive = archive
        self._names = archive.names()
        self._prefix = f"{below.strip('/')}/" if below.strip("/") else ""
        positions, hashes = array("I"), array("I")
        common: str | None = None
        for position, (_, name) in enumerate(self._names):
            if name.startswith(self._prefix):
                path = name[len(self._prefix) :]
                if not is_hidden(path):
                    positions.append(position)
                    hashes.append(_hash(path))
                    folder = path[: path.rfind("/") + 1]
                    common = folder if common is None else _common_folder(common, folder)
        self._common = common or ""
        order = np.argsort(np.frombuffer(hashes, np.uint32), kind="stable")
        self._hashes = np.frombuffer(hashes, np.uint32)[order]
        self._positions = np.frombuffer(positions, np.uint32)[order]

    def __len__(self) -> int:
        """Returns the number of members that are not hidden."""
        return len(self._positions)

    def find(self, path: str) -> Member | None:
        """Returns the member with a path, with or without the common folders.

        Raises:
            AmbiguousNameError: There are several.
            DamagedArchiveError: There are several, and one cannot be read to compare them.
        """
        path = unicodedata.normalize("NFC", path)
        paths = {_folded(path), _folded(f"{self._common}{path}")}
        same = [member for member in self.same_name(path) if _folded(member.path) in paths]
        exact = [m for m in same if m.path in (path, f"{self._common}{path}")]
        return only_content(same, path) if exact else None

    def find_deeper(self, path: str) -> list[Member]:
        """Returns the members whose path ends in ``path``, below any other folders."""
        ending = f"/{unicodedata.normalize('NFC', path)}"
        return [m for m in self.same_name(path) if _folded(m.path).endswith(_folded(ending))]

    def same_name(self, path: str) -> list[Member]:
        """Returns the members with the last part of a path, in any folder."""
        wanted = np.uint32(_hash(path))  # of another type, all hashes would be converted
        first = int(np.searchsorted(self._hashes, wanted, "left"))
        last = int(np.searchsorted(self._hashes, wanted, "right"))
        members = (self._member(int(position)) for position in self._positions[first:last])
        return [member for member in members if _folded(_name(member.path)) == _folded(_name(path))]

    def _member(self, position: int) -> Member:
        number, name = self._names[position]
        return Member(self._archive, number, name[len(self._prefix) :])


def only_content(members: list[Member], path: str) -> Member:
    """Returns the first of members that have all the same content.

    Raises:
        AmbiguousNameError: The contents differ.
        DamagedArchiveError: One cannot be read to compare it.
    """
    first = members[0]
    if len(members) > 1:
        sizes = {member.archive.sizes(member.number)[0] for member in members}
        problems = any(member.archive.problem(member.number) for member in members)
        if (
            problems
            or len(sizes) > 1
            or len({member.archive.crc(member.number) for member in members}) > 1
        ):
            names = ", ".join(sorted(member.path for member in members)[:4])
            kind = first.archive.kind
            raise AmbiguousNameError(f"{path}: {len(members)} files in the {kind}: {names}")
    return first


def normal_name(name: str) -> str:
    """Returns the name of a member without "./", a leading "/" and decomposed accents.

    >>> normal_name("./a//b.jpg"), normal_name("/a/./b.jpg"), normal_name("../b.jpg")
    ('a/b.jpg', 'a/b.jpg', '../b.jpg')
    """
    if name.startswith(("/", "./")) or "//" in name or "/./" in name:
        name = "/".join(part for part in name.split("/") if part not in ("", "."))
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def leads_outside(name: str) -> bool:
    """Returns whether a name has the part ".."."""
    return ".." in name and ".." in name.split("/")


def is_hidden(path: str) -> bool:
    """Returns whether a member is macOS's copy of another, or of its file browser."""
    return path.startswith("__MACOSX/") or _name(path).startswith(("._", ".DS_Store"))


def path_inside(names: MemberNames, name: str, wrapper: str) -> str | None:
    """Returns the path of a file or folder among those of an archive, None if it is not there.

    A folder ``wrapper`` around all files, such as ``CLEVR_v1.0`` in ``CLEVR_v1.0.zip``, may be left
    out; no other.

    >>> path_inside(MemberNames([(0, "a/b/1.jpg")]), "a/b", "c")
    'a/b'
    >>> path_inside(MemberNames([(0, "a/b/1.jpg")]), "b/1.jpg", "a")
    'a/b/1.jpg'
    >>> path_inside(MemberNames([(0, "a/b/1.jpg"), (1, "c/1.txt")]), "b", "a")
    """
    wanted = [name, f"{wrapper}/{name}"]
    is_there = [False, False]
    is_wrapped = True
    for _, path in names:
        for position, each in enumerate(wanted):
            if path.startswith(each) and path[len(each) : len(each) + 1] in ("", "/"):
                is_there[position] = True
        if not path.startswith(f"{wrapper}/") and not path.startswith("__MACOSX/"):
            is_wrapped = False
    if is_there[0]:
        return wanted[0]
    return wanted[1] if is_there[1] and is_wrapped else None


def _hash(path: str) -> int:
    """Returns a hash of the folded last part of a path."""
    return zlib.crc32(_folded(_name(path)).encode("utf-8", "replace"))


def _folded(path: str) -> str:
    return path.lower() if path.isascii() else unicodedata.normalize("NFC", path).casefold()


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _common_folder(one: str, other: str) -> str:
    """Returns the folders that begin two folders, with a slash at the end; empty if there are none.

    >>> _common_folder("a/b/", "a/bc/"), _common_folder("a/", "b/")
    ('a/', '')
    """
    while not other.startswith(one):
        one = one[: one.rfind("/", 0, -1) + 1]
    return one
