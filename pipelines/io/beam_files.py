"""Writes whole files through Beam's file systems: local folders and buckets.

Beam creates and renames files by literal names. Its ``match`` takes a name for a pattern, in which
``[1]`` is a set of characters, and so does its ``delete`` in folders and on Google Cloud Storage;
`pipelines.io.folders` lists and deletes instead.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

SCRATCH = ".mdetr-build"  # the folder of temporary files in the output of a build


def scratch_folder(output: str) -> str:
    """Returns the folder of temporary files of a build into ``output``."""
    return f"{output}/{SCRATCH}"


@contextmanager
def atomic_write(path: str, scratch: str) -> Iterator[BinaryIO]:
    """Yields a file in the folder ``scratch``, which is renamed to ``path`` after the block.

    After an error there is no file ``path``, and one may be left in ``scratch``. Several processes
    may write the same ``path``.
    """
    if FileSystems._pipeline_options is None:  # as in a worker of a worker pool
        FileSystems.set_options(PipelineOptions([]))  # S3 is refused without any
    name = FileSystems.split(path)[1]
    temporary = FileSystems.join(scratch, f"{name}.{uuid.uuid4().hex}")
    with FileSystems.create(temporary, compression_type="uncompressed") as file:
        yield file
    FileSystems.rename([temporary], [path])
