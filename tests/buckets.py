"""Buckets of both kinds of stores, on the loopback interface."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.io import conditional_files
from tests.google_cloud import serve_gcs
from tests.s3_server import serve_s3


@contextmanager
def serve_bucket(scheme: str, folder: Path) -> Iterator[str]:
    """Yields the URL of an empty bucket, which this process and its children can access.

    Args:
        scheme: ``s3`` or ``gs``.
        folder: gets what the store writes, and has the orders of one of S3.
    """
    FileSystems.set_options(PipelineOptions([]))
    with (
        serve_s3(orders=folder) if scheme == "s3" else serve_gcs(folder) as environment,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in environment.items():
            patch.setenv(name, value)
        _forget_clients(scheme)
        store(f"{scheme}://made").mkdir("made")
        yield f"{scheme}://made"
        _forget_clients(scheme)


def store(url: str) -> fsspec.AbstractFileSystem:
    """Returns the file system of a URL, which lists what is there now."""
    return fsspec.filesystem(url.partition(":")[0], use_listings_cache=False)


def _forget_clients(scheme: str) -> None:
    """Makes the next access find the store of the environment."""
    fsspec.filesystem(scheme).clear_instance_cache()
    conditional_files.forget_clients()
