"""The record of the files that this project wrote in a folder: only those may it replace or delete.

The record is a file in the folder, ``.mdetr-files.json``. It is written before the files that it
lists, so a killed process leaves no file that is not listed.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import msgspec

from schemas.decodable import decodable
from shards.atomic import atomic_write
from shards.terminal import listed

NAME = ".mdetr-files.json"
_LISTED = 3  # files named in a message


class _Record(msgspec.Struct, forbid_unknown_fields=True):
    files: list[str]


def read(folder: Path) -> set[str]:
    """Returns the recorded files of a folder, as paths below it; none if there is no record.

    Raises:
        ValueError: the record is damaged.
    """
    try:
        content = (folder / NAME).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return set()
    try:
        names = set(msgspec.json.decode(content, type=decodable(_Record)).files)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"{folder / NAME} is not a record of written files: {error}") from error
    for name in names:  # the folder may come from somebody else
        if ".." in PurePosixPath(name).parts or name.startswith("/") or not name:
            raise ValueError(f"{folder / NAME} is not a record of written files: {name[:80]!a}")
    return names


def check(folder: Path, names: Iterable[str]) -> None:
    """Checks that no files of others have these names.

    Raises:
        FileExistsError: one has.
        ValueError: the record is damaged.
    """
    recorded = read(folder)
    _refuse(folder, [n for n in names if n not in recorded and os.path.lexists(folder / n)])


def add(folder: Path, names: Iterable[str]) -> None:
    """Records files that are about to be written; creates the folder if there is none.

    Raises:
        FileExistsError: a file of others has one of the names.
        OSError: the record cannot be written.
        ValueError: the record is damaged.
    """
    names = set(names)
    check(folder, names)
    folder.mkdir(parents=True, exist_ok=True)
    recorded = read(folder)
    if not names <= recorded:
        _write(folder, recorded | names)


def delete(folder: Path, names: Iterable[str]) -> None:
    """Deletes those of the files that are recorded, and removes them from the record.

    Raises:
        OSError: a file cannot be deleted, or the record not written.
        ValueError: the record is damaged.
    """
    recorded = read(folder)
    deleted = recorded.intersection(names)
    for name in sorted(deleted):
        (folder / name).unlink(missing_ok=True)
    if deleted:
        _write(folder, recorded - deleted)


def record_all(folder: Path) -> None:
    """Records all files of a folder, in which no other program has written.

    Raises:
        OSError: the record cannot be written.
    """
    _write(folder, {*_files(folder), *_empty_folders(folder)} - {NAME})


def check_all(folder: Path) -> None:
    """Checks that a folder has no files of others; it may be missing.

    Raises:
        FileExistsError: it has, or is not a folder.
        ValueError: the record is damaged.
    """
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} exists already and is not a folder")
    recorded = read(folder)
    if not recorded and folder.exists():  # somebody's, and maybe large
        _refuse(folder, sorted(path.name for path in folder.iterdir() if path.name != NAME))
    # Folders of recorded files are empty after a process was killed while it deleted the files.
    folders = {str(parent) for name in recorded for parent in PurePosixPath(name).parents}
    foreign = {*_files(folder)} - {NAME} | {*_empty_folders(folder)} - folders
    _refuse(folder, sorted(foreign - recorded))


def delete_all(folder: Path) -> None:
    """Deletes a folder with the recorded files, if it has no others.

    Raises:
        FileExistsError: it has.
        OSError: a file cannot be deleted.
        ValueError: the record is damaged.
    """
    check_all(folder)
    for name in sorted(read(folder)):
        path = folder / name
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
    for parent, _, _ in os.walk(folder, topdown=False):
        if Path(parent) != folder:
            Path(parent).rmdir()
    (folder / NAME).unlink(missing_ok=True)
    folder.rmdir()


def _files(folder: Path) -> Iterator[str]:
    """Yields the files below a folder. A link is a file."""
    for parent, folders, files in os.walk(folder):
        links = (name for name in folders if (Path(parent) / name).is_symlink())
        for name in (*files, *links):
            yield (Path(parent) / name).relative_to(folder).as_posix()


def _empty_folders(folder: Path) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        if not folders and not files and Path(parent) != folder:
            yield Path(parent).relative_to(folder).as_posix()


def _refuse(folder: Path, foreign: list[str]) -> None:
    if foreign:
        raise FileExistsError(
            f"{folder} has files that are not listed in its {NAME}: {listed(foreign, _LISTED)}; "
            "they would be lost: move them, or write to another folder"
        )


def _write(folder: Path, names: set[str]) -> None:
    with atomic_write(folder / NAME) as file:
        file.write(msgspec.json.encode(_Record(sorted(names))) + b"\n")
