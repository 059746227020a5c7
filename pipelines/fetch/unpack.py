"""Extracts the files that recipes read from a downloaded archive that builds do not read."""

import tarfile
import zlib
from pathlib import Path, PurePosixPath

from pipelines.fetch.catalog import PublishedFile
from pipelines.fetch.partial_file import DiskError
from shards.atomic import atomic_write

_CHUNK = 16 << 20


class UnpackError(Exception):
    """An archive cannot be unpacked; the message names it."""


def unpack(root: Path, file: PublishedFile) -> list[str]:
    """Extracts the files that a ``.tar.gz`` provides, and returns the paths of the new ones.

    The archive is read once, and stays. Files that exist are not replaced.

    Raises:
        UnpackError: The archive is damaged, or lacks one of the files.
        DiskError: The disk is full or cannot be written.
    """
    missing = {PurePosixPath(path).name: path for path in file.provides}
    missing = {name: path for name, path in missing.items() if not (root / path).exists()}
    extracted = []
    try:
        with tarfile.open(root / file.path, "r|gz") as archive:
            for member in archive:
                path = missing.get(PurePosixPath(member.name).name)
                content = archive.extractfile(member) if path and member.isfile() else None
                if path is None or content is None:
                    continue
                with atomic_write(root / path) as target:
                    while chunk := content.read(_CHUNK):
                        target.write(chunk)
                del missing[PurePosixPath(path).name]
                extracted.append(path)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise UnpackError(f"{file.path}: cannot be unpacked: {error}") from error
    except OSError as error:
        raise DiskError(f"{file.path}: cannot be unpacked: {error.strerror or error}") from error
    if missing:
        raise UnpackError(f"{file.path}: has no {', '.join(missing)}")
    return extracted
