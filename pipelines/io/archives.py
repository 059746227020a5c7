"""Raw files in archives as published, zips and plain tars: found, read by path, unpacked in bounds.

A path may lead into an archive: ``gqa/questions1.2.zip/train_balanced_questions.json``, also into
one that is in another: ``flickr30k_entities-master.zip/flickr30k_entities-master/annotations.zip``.
A path that ends in ``.zip`` or ``.tar``, where a file is expected, stands for the only member with
data.
"""

import contextlib
import functools
import hashlib
import mmap
import os
import shlex
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

import msgspec
from apache_beam.io.filesystems import FileSystems

from pipelines.io.beam_files import atomic_write
from pipelines.io.folders import write_file
from pipelines.io.members import (
    AmbiguousNameError,
    Archive,
    DamagedArchiveError,
    Member,
    MemberIndex,
    MemberNames,
    is_hidden,
    path_inside,
)
from pipelines.io.raw_files import (
    RawFileError,
    exists,
    files_in,
    free_bytes,
    is_folder,
    is_local,
    local_copy,
    map_local,
    open_binary,
    version,
)
from pipelines.io.tars import TarArchive, TarIndex, index_tar, is_tar
from pipelines.io.zips import ZipArchive
from schemas.limits import FREE_UNPACKED_BYTES, MAX_ZIP_RATIO

ENDINGS = (".zip", ".tar")
_INDEX_ENDING = ".tar-index"  # of what `prepared_path` writes
# Of files with data.
_DATA_ENDINGS = (".json", ".jsonl", ".csv", ".p", ".pkl", ".pickle", ".parquet", ".txt")
_BEGINNING = 512  # bytes that show what an archive is
_HEADER_READ_AHEAD = 8 << 20  # bytes of a remote tar that are read at once to index it

#: What packed a file, and the command that unpacks it, by the ending of its name.
_PACKERS = {
    **dict.fromkeys((".gz", ".tgz"), ("gzip", "gunzip")),
    **dict.fromkeys((".bz2", ".tbz2", ".tbz"), ("bzip2", "bunzip2")),
    **dict.fromkeys((".xz", ".txz"), ("xz", "unxz")),
    **dict.fromkeys((".zst", ".tzst"), ("zstd", "unzstd")),
}
_TAR_PACKERS = (".tgz", ".tbz2", ".tbz", ".txz", ".tzst")
#: The first bytes of packed files, with the ending that their names should have.
_SIGNATURES = {
    b"\x1f\x8b": ".gz",
    b"BZh": ".bz2",
    b"\xfd7zXZ\0": ".xz",
    b"\x28\xb5\x2f\xfd": ".zst",
}


_NO_ROOT = "is neither a folder nor a zip nor a plain tar"


# --- paths into archives --------------------------------------------------------------------------


def split_archive_path(path: str) -> tuple[str, str] | None:
    """Returns an archive and the path in it; None for the path of a file or folder itself.

    >>> split_archive_path("gqa/questions1.2.zip/train.json"), split_archive_path("a.json.zip")
    (('gqa/questions1.2.zip', 'train.json'), ('a.json.zip', ''))
    >>> split_archive_path("a.json")
    """
    steps = _steps(path)
    return ("/".join(steps[:-1]), steps[-1]) if steps else None


def real_path(path: str) -> str:
    """Returns a local path without links and ".."; another one as it is."""
    return os.path.realpath(path) if is_local(path) else path


def _steps(path: str) -> list[str]:
    """Returns an archive, the path of an archive in it, and so on; at last the path in the last.

    Empty if the path does not lead into an archive.
    """
    parts = path.split("/")
    bucket = 2 if "://" in path else -1
    for number, part in enumerate(parts, 1):
        if number - 1 > bucket and part.lower().endswith((*ENDINGS, _INDEX_ENDING)):
            archive = "/".join(parts[:number])
            if not (is_local(archive) and Path(archive).is_dir()):
                return [archive, *_steps_inside(archive, parts[number:])]
    return []


def _steps_inside(archive: str, parts: list[str]) -> list[str]:
    for number, part in enumerate(parts, 1):
        inner = "/".join(parts[:number])
        if part.lower().endswith(ENDINGS) and _has_file(archive, inner):
            return [inner, *_steps_inside(f"{archive}/{inner}", parts[number:])]
    return ["/".join(parts)]


def _has_file(archive: str, inside: str) -> bool:
    try:
        with open_member(archive, inside):
            return True
    except (FileNotFoundError, RawFileError):  # which is reported where it is opened
        return False


def version_of(path: str) -> tuple[int, str]:
    """Returns size and modification time of a file or of the archive that has it."""
    return version(outer_file(path))


def outer_file(path: str) -> str:
    """Returns a file itself, or the outermost archive that has it."""
    steps = _steps(path)
    return steps[0] if steps else path


def file_name(path: str) -> str:
    """Returns the name of a file, the same whether it is packed alone, among others, or not at all.

    >>> [file_name(path) for path in ("a/b.json", "a/b.json.zip", "a.zip/b.json", "all.zip")]
    ['b.json', 'b.json', 'b.json', 'all.zip']
    """
    name = PurePosixPath(path).name
    for ending in (_INDEX_ENDING, *ENDINGS):
        if name.removesuffix(ending).endswith(_DATA_ENDINGS):
            return name.removesuffix(ending)
    return name


# --- open archives --------------------------------------------------------------------------------


def open_archive(path: str) -> Archive:
    """Opens a zip or a plain tar, which may be remote, or in another archive.

    Raises:
        FileNotFoundError: There is no such file.
        RawFileError: It is neither, or damaged; of a packed tar, with the command to unpack it.
        StoreError: Its store cannot be reached.
    """
    if path.endswith(_INDEX_ENDING):
        indexed = _read_index(path)
        if version(indexed.path) != indexed.version:
            raise RawFileError(f"{indexed.path}: changed during the build")
        return TarArchive(indexed.path, open_binary(indexed.path, read_ahead=0), indexed.members)
    file = _open_file(path)
    try:
        if path.lower().endswith(".zip"):
            return ZipArchive(path, file)
        beginning = file.read(_BEGINNING)
        if is_tar(beginning):
            return TarArchive(path, file, _tar_index(path, version_of(path)))
        for signature, ending in _SIGNATURES.items():
            if beginning.startswith(signature):
                raise RawFileError(f"{path} {_NO_ROOT}: {_packed_message(path, ending)}")
        if zipfile.is_zipfile(file):
            return ZipArchive(path, file)
        if path.lower().endswith(".tar"):
            raise RawFileError(f"{path}: not a readable tar file: it does not begin with a header")
        raise RawFileError(f"{path} {_NO_ROOT}")
    except BaseException:
        file.close()
        raise


def _open_file(path: str) -> BinaryIO:
    """Opens the file of an archive; of one that is in another, a temporary file without a name."""
    steps = _steps(path)
    if len(steps) <= 2:
        return open_binary(path, read_ahead=0)
    file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - it is returned
    try:
        with open_member("/".join(steps[:-2]), steps[-2]) as member:
            _check_unpacked_size(member, path, tempfile.gettempdir())
            _write_member(member, file)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


@functools.lru_cache(maxsize=16)
def _tar_index(path: str, version: tuple[int, str]) -> TarIndex:
    """Returns the index of a tar, which a process makes once for each version of the file."""
    is_inner = len(_steps(path)) > 2
    with _open_file(path) if is_inner else open_binary(path, read_ahead=_HEADER_READ_AHEAD) as file:
        return index_tar(path, file)


@functools.lru_cache(maxsize=64)
def _member_names(path: str, version: tuple[int, str]) -> MemberNames:
    """Returns the names of an archive's members; a build searches them for each missing file."""
    with contextlib.closing(open_archive(path)) as archive:
        return archive.names()


class _IndexedTar(NamedTuple):
    path: str
    version: tuple[int, str]
    members: TarIndex


@functools.lru_cache(maxsize=16)
def _read_index(path: str) -> _IndexedTar:
    """Reads what `prepared_path` wrote, whose name depends on its content."""
    with open_binary(path) as file:
        content = file.read()
    tar, size, modified, index = msgspec.msgpack.decode(content, type=tuple[str, int, str, bytes])
    return _IndexedTar(tar, (size, modified), TarIndex.decode(index))


def prepared_path(path: str, scratch: str) -> str:
    """Returns a path into an archive that workers can open without reading it whole, each of them.

    A tar is indexed, and an archive in another one is unpacked, both to ``scratch``. Other paths
    are returned as they are.

    Raises:
        FileNotFoundError, RawFileError, StoreError: As `open_archive`.
    """
    steps = _steps(path)
    if not steps:
        return path
    archive = "/".join(steps[:-1])
    # One file has one index, however its path is spelled.
    identity = repr((real_path(archive), version_of(archive))).encode()
    folder = f"{scratch}/{hashlib.sha256(identity).hexdigest()[:16]}"
    if len(steps) > 2:
        unpacked = f"{folder}/{PurePosixPath(archive).name}"
        if not exists(unpacked):
            with open_member("/".join(steps[:-2]), steps[-2]) as member:
                _check_unpacked_size(member, archive, scratch)
                with _scratch_file(unpacked, scratch) as file:
                    _write_member(member, file)
        archive = unpacked
    if archive.lower().endswith(".tar"):
        index = f"{folder}/{PurePosixPath(real_path(archive)).stem}{_INDEX_ENDING}"
        if exists(index) or _write_index(archive, index, scratch):
            archive = index
    return f"{archive}/{steps[-1]}" if steps[-1] else archive


def _write_index(archive: str, target: str, scratch: str) -> bool:
    """Writes the index of a tar; returns whether it is one, and not a zip of another name."""
    current = version(archive)
    with contextlib.closing(open_archive(archive)) as opened:
        if not isinstance(opened, TarArchive):
            return False
    content = (archive, *current, _tar_index(archive, current).encode())
    with _scratch_file(target, scratch) as file:
        file.write(msgspec.msgpack.encode(content))
    return True


@contextlib.contextmanager
def _scratch_file(path: str, scratch: str) -> Iterator[BinaryIO]:
    """Yields a file that is renamed to ``path`` after the block, in a folder of its own."""
    if is_local(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, scratch) as file:
        yield file


# --- where files are ------------------------------------------------------------------------------


class Search(NamedTuple):
    """Where a file or folder is in archives, and why some were not searched."""

    places: list[str]
    skipped: list[str]


def find_in_archives(path: str, top: str) -> Search:
    """Returns where a file or folder would be if every archive were unpacked in its own folder.

    Searches the zips and tars in the path's folder and in the folders above it, up to ``top``; each
    place leads into one. Those that cannot be read are skipped. No folders are added or left out,
    since the archives of several datasets have files of the same name; only a folder of the
    archive's own name around all its files, such as ``CLEVR_v1.0`` in ``CLEVR_v1.0.zip``, may be
    left out.

    A remote tar is searched only if no zip has the file, since all of it is read.
    """
    if not is_local(path):
        in_zips = _find_in(path, top, (".zip",))
        if in_zips.places:
            return in_zips
    return _find_in(path, top, ENDINGS)


def _find_in(path: str, top: str, endings: tuple[str, ...]) -> Search:
    search = Search([], [])
    folder, _, name = path.rpartition("/")
    while folder and (folder == top or folder.startswith(f"{top}/")):
        for file in files_in(folder):
            stem = PurePosixPath(file).stem
            if file.lower().endswith(endings):
                try:
                    inside = path_inside(_member_names(file, version(file)), name, stem)
                except RawFileError as error:
                    search.skipped.append(str(error))
                else:
                    search.places.extend([f"{file}/{inside}"] if inside else [])
            elif (ending := _packer_ending(file)) and (
                _is_packed_tar(file, ending) or file == f"{path}{ending}"
            ):
                search.skipped.append(f"{file} is {_packed_message(file, ending)}")
        folder, _, parent = folder.rpartition("/")
        name = f"{parent}/{name}"
    return search


def check_not_packed(path: str) -> None:
    """Checks that a file is not packed as a whole, by its name.

    Raises:
        RawFileError: It is; the message has the command that unpacks it.
    """
    if (ending := _packer_ending(path)) and not is_folder(path):
        raise RawFileError(f"{path} is {_packed_message(path, ending)}")


def _packer_ending(path: str) -> str:
    suffix = PurePosixPath(path).suffix.lower()
    return suffix if suffix in _PACKERS else ""


def _is_packed_tar(path: str, ending: str) -> bool:
    return ending in _TAR_PACKERS or path.lower().endswith((f".tar{ending}", ".tar"))


def _packed_message(path: str, ending: str) -> str:
    """Returns what packed a file, why it is not read, and what makes a plain one of it."""
    packer, command = _PACKERS[ending]
    if not is_local(path):
        how = f"{command} of a local copy"
    elif _packer_ending(path):
        how = f"{command} -k {shlex.quote(path)}"
    else:
        how = f"{command} -c < {shlex.quote(path)} > NAME.tar"
    if _is_packed_tar(path, ending):
        why, what = "in which no file can be read without all before it", "a plain tar"
    else:
        why, what = "which builds do not read", "a plain file"
    return f"packed by {packer}, {why}; {how} makes {what} of it"


# --- single files ---------------------------------------------------------------------------------


def check_file(path: str) -> None:
    """Checks that a path leads to one file, if it leads into an archive, and is not packed.

    Raises:
        RawFileError: It does not, or is.
    """
    split = split_archive_path(path)
    if split is None:
        check_not_packed(path)
        return
    with open_member(*split):
        pass


def unpack(path: str, scratch: str) -> str:
    """Extracts the file that a path into an archive leads to below ``scratch``; returns its path.

    A path that leads into no archive is returned as it is.

    Raises:
        RawFileError: It is not an archive that can be read, has no or several such members, or the
            member is too large for its packed size or for the disk.
    """
    split = split_archive_path(path)
    if split is None:
        return path
    with open_member(*split) as member:
        name = hashlib.sha256(path.encode()).hexdigest()[:16] + PurePosixPath(member.path).suffix
        target: str = FileSystems.join(scratch, name)
        _check_unpacked_size(member, path, scratch)
        if member.archive.sizes(member.number)[0] == 0:
            write_file(target, b"")  # Beam cannot write an empty file to S3
            return target
        with atomic_write(target, scratch) as file:
            _write_member(member, file)
    return target


def read_whole(path: str, limit: int) -> bytes:
    """Returns the content of a file, which may be in an archive.

    Raises:
        RawFileError: It has more than ``limit`` bytes, or cannot be read; see also `unpack`.
        FileNotFoundError: There is no such file.
    """
    split = split_archive_path(path)
    if split is None:
        with open_binary(path) as file:
            content = file.read(limit + 1)
    else:
        with open_member(*split) as member:
            _check_unpacked_size(member, path)
            content = member.archive.read(member.number, limit + 1)
    if len(content) > limit:
        raise RawFileError(f"{path}: more than {limit} bytes")
    return content


def map_file(path: str) -> mmap.mmap:
    """Maps a whole file into memory; a remote or packed one as a temporary copy.

    Raises:
        RawFileError: It is empty, or cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder, local_copy(unpack(path, folder)) as local:
        if local.is_file() and local.stat().st_size == 0:
            raise RawFileError(f"{path}: empty file")
        return map_local(local)


@contextlib.contextmanager
def open_member(archive_path: str, inside: str) -> Iterator[Member]:
    """Yields the member of an archive with a path, or the only one with data if that is empty.

    Raises:
        RawFileError: There is no such member, or several; or the block finds it damaged.
    """
    with contextlib.closing(open_archive(archive_path)) as archive:
        try:
            member = _data_member(archive, archive_path, inside)
            if problem := archive.problem(member.number):
                raise RawFileError(f"{archive_path}: {member.path}: {problem}")
            yield member
        except DamagedArchiveError as error:
            kind = archive.kind
            raise RawFileError(f"{archive_path}: not a readable {kind} file: {error}") from error


def _data_member(archive: Archive, archive_path: str, inside: str) -> Member:
    """Returns the member with a path, or the only one with data if the path is empty.

    A zip called ``NAME.json.zip`` or ``NAME.zip`` may have other files beside ``NAME.json``.
    """
    if inside:
        try:
            member = MemberIndex(archive).find(inside)
        except AmbiguousNameError as error:
            raise RawFileError(f"{archive_path}: {error}") from error
        if member is None:
            raise RawFileError(f"{archive_path}: there is no {inside} in the {archive.kind}")
        return member
    name = PurePosixPath(archive_path).stem
    suffix = PurePosixPath(name).suffix
    suffix = suffix if suffix in _DATA_ENDINGS else ".json"
    members = [
        Member(archive, number, path)
        for number, path in archive.names()
        if path.endswith(suffix) and not is_hidden(path)
    ]
    named = [m for m in members if PurePosixPath(m.path).name in (name, f"{name}{suffix}")]
    if len(named) != 1 and len(members) != 1:
        message = f"{archive_path}: expected one {suffix} file in the {archive.kind}, found "
        message += str(len(members))
        if members:
            message += f"; the path of one of them is {archive_path}/{members[0].path}"
        raise RawFileError(message)
    return (named if len(named) == 1 else members)[0]


def _check_unpacked_size(member: Member, path: str, folder: str = "") -> None:
    """Checks that a member is not made to fill the disk, and fits on that of ``folder``.

    Raises:
        RawFileError: It is, or does not.
    """
    size, packed = member.archive.sizes(member.number)
    if size > FREE_UNPACKED_BYTES and size > MAX_ZIP_RATIO * max(packed, 1):
        raise RawFileError(
            f"{path}: {size} bytes in {packed} packed ones; expected at most {MAX_ZIP_RATIO} times "
            "as many"
        )
    if folder and is_local(folder) and size > (free := free_bytes(folder)):
        raise RawFileError(
            f"{path}: takes {size} bytes unpacked, but {folder} has {free} bytes free"
        )


def _write_member(member: Member, file: BinaryIO) -> None:
    for block in member.archive.blocks(member.number):
        file.write(block)
