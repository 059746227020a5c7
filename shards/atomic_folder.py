"""Writes a local folder under a temporary name and renames it when it is complete."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shards import written_files
from shards.atomic import beside, errors_name, locked, unnamed_errors_name


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yields a new folder that is renamed to ``path`` at the end of the block.

    If the block raises, ``path`` stays as it was. A symbolic link is followed. A killed process
    leaves ``.NAME.mdetr-tmp`` and ``.NAME.mdetr-lock``, which the next call removes. While a folder
    is replaced it is ``.NAME.mdetr-old``; if the process is killed in between, the next call with
    ``replace`` puts it back.

    Args:
        path: the folder to write; its parents are created.
        replace: replace a folder that an earlier call with ``replace`` wrote. The files of both are
            recorded (`shards.written_files`).

    Raises:
        FileExistsError: ``path`` is not a folder; it is not empty and not to be replaced; it has
            files that no earlier call wrote; or another process is writing it.
        OSError: a file cannot be written.
    """
    path = _resolved(path)
    _check(path, replace)
    temporary, old = beside(path, "tmp"), beside(path, "old")
    if not path.parent.exists():  # a file there is an error of `locked`, with the right reason
        with errors_name(path):
            path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path):
        if replace:
            _recover(path, old)
        _check(path, replace)
        with errors_name(path):
            _remove(temporary)
            temporary.mkdir()
        try:
            with unnamed_errors_name(path):
                yield temporary
            if replace:
                written_files.record_all(temporary)
                _check(path, replace)  # a file may have been added in the meantime
                if path.exists():
                    path.replace(old)
            try:
                temporary.replace(path)  # replaces an empty folder
            except BaseException:
                if replace and old.exists():
                    old.replace(path)
                raise
        except BaseException:
            _remove(temporary)
            raise
        if replace and old.exists():
            written_files.delete_all(old)


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except RuntimeError as error:
        raise OSError(f"{path}: {error}") from error  # a link that refers to itself


def _recover(path: Path, old: Path) -> None:
    """Completes or takes back the replacement in which a process was killed."""
    if old.exists() and path.exists():
        written_files.delete_all(old)
    elif old.exists():
        old.replace(path)


def _check(path: Path, replace: bool) -> None:
    if replace:
        written_files.check_all(path)
    elif path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} exists already and is not a folder")
    elif path.exists() and any(path.iterdir()):
        raise FileExistsError(f"{path} exists already and is not an empty folder")


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
