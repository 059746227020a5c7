"""Writes whole files through Beam's file systems: local folders and buckets.

Beam creates and renames files by literal names. Its ``match`` takes a name for a pattern, in which
``[1]`` is a set of characters, and so does its ``delete`` in folders and on Google Cloud Storage;
`pipelines.io.folders` lists and deletes instead.
"""

import contextlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.io.folders import delete_file
from pipelines.io.lease import Lease, LeaseLostError, check

SCRATCH = ".mdetr-build"  # the folder of temporary files in the output of a build


def scratch_folder(output: str, lease: Lease | None = None) -> str:
    """Returns the folder of temporary files of a build into ``output``.

    Builds that hold a lease have folders of their own, since several may be running.
    """
    return f"{output}/{SCRATCH}/{lease.token}" if lease else f"{output}/{SCRATCH}"


@contextmanager
def atomic_write(path: str, scratch: str, lease: Lease | None = None) -> Iterator[BinaryIO]:
    """Yields a file in the folder ``scratch``, which is renamed to ``path`` after the block.

    After an error there is no file ``path``, and one may be left in ``scratch``. Several processes
    may write the same ``path``.

    Raises:
        LeaseLostError: Another build has taken over the lease that this one held.
    """
    if FileSystems._pipeline_options is None:  # as in a worker of a worker pool
        FileSystems.set_options(PipelineOptions([]))  # S3 is refused without any
    name = FileSystems.split(path)[1]
    temporary = FileSystems.join(scratch, f"{name}.{uuid.uuid4().hex}")
    with FileSystems.create(temporary, compression_type="uncompressed") as file:
        yield file
    try:
        if lease:
            check(lease)  # when the temporary file is complete: see `pipelines.io.lease`
        FileSystems.rename([temporary], [path])
    except Exception:
        if lease:
            _check_after_error(lease, temporary)
        raise


def _check_after_error(lease: Lease, temporary: str) -> None:
    """Raises `LeaseLostError` if a lease is lost, which explains why a file is gone."""
    try:
        check(lease)
    except LeaseLostError:
        with contextlib.suppress(FileNotFoundError):
            delete_file(temporary)
        raise
