"""The index of a shard against its tar, read as any reader of tars does."""

import tarfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import BinaryIO

from shards.format.index import IndexRow, Member
from shards.verification.errors import Fault, Kind


def tar_faults(file: BinaryIO, rows: Sequence[IndexRow]) -> Iterator[Fault]:
    """Members that the tar or the index has alone, or elsewhere; samples that lie apart; what is no
    plain file; and what lies behind the end, such as a second tar.

    webdataset takes for one sample what follows one another and has one name up to the first dot,
    so the members of an image may have either order.
    """
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            members = list(archive)
            end = archive.offset  # where a header would be next
    except (tarfile.TarError, ValueError) as error:  # the second for odd numbers in headers
        yield Fault(Kind.TAR, f"cannot be read: {error}")
        return
    for of in members:
        if not of.isreg():
            what = f"{of.name} is not a plain file, and webdataset passes over it"
            yield Fault(Kind.MEMBER, what, key=_key(of.name))
    found = [Member(of.name, of.offset_data, of.size) for of in members]
    listed = [member for row in rows for member in row.members()]
    if len(found) < len(listed) and found == listed[: len(found)]:
        # tarfile takes a header that makes no sense for the end.
        yield Fault(Kind.TAR, f"ends after {len(found)} of the {len(listed)} members of the index")
        return
    if _holds_more(file, end):
        yield Fault(Kind.TAR, f"there is more behind its end, at {end}, which no reader gets to")
    in_tar, in_index = set(found), set(listed)
    for member in listed:
        if member not in in_tar:
            yield _fault(member, "the index lists it, the tar has none there")
    for member in found:
        if member not in in_index:
            yield _fault(member, "the tar has it, the index lists none there")
    seen: set[str] = set()
    for key, _ in groupby(found, lambda member: _key(member.name)):
        if key in seen:
            yield Fault(Kind.MEMBER, "its members do not follow one another", key=key)
        seen.add(key)


def _fault(member: Member, what: str) -> Fault:
    name, offset, size = member
    return Fault(Kind.MEMBER, f"{name}, {size} bytes at {offset}: {what}", key=_key(name))


def _key(name: str) -> str:
    return name.partition(".")[0]


def _holds_more(file: BinaryIO, end: int) -> bool:
    """Whether there is anything but zeros, with which a tar is filled up, from ``end`` on."""
    file.seek(end)
    while chunk := file.read(1 << 20):
        if chunk.count(0) < len(chunk):
            return True
    return False
