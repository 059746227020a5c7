"""Small files that are written or deleted only if they are of a known version.

A version is the ETag of an object on S3, which is a digest of its content, and its generation on
Google Cloud Storage. Both stores are strongly consistent: of several processes that replace one
version, one succeeds. Beam's extras ``aws`` and ``gcp`` install the clients. In a folder, which
several machines may share, a process locks the file that it replaces.
"""

import contextlib
import datetime
import fcntl
import functools
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from apache_beam.io.filesystems import FileSystems

from pipelines.io.folders import version_of
from pipelines.io.raw_files import StoreError


class ChangedError(Exception):
    """A file is not of the version that was to be replaced or deleted."""


class StoredFile(NamedTuple):
    """A file, as it was read."""

    content: bytes
    version: str
    written: datetime.datetime  # by the clock of the store, or of the disk


class _Store(Protocol):
    def read(self, bucket: str, name: str) -> StoredFile | None: ...

    def write(self, bucket: str, name: str, content: bytes, version: str | None) -> str: ...

    def delete(self, bucket: str, name: str, version: str) -> None: ...


def has_conditions(path: str) -> bool:
    """Returns whether a path is in a store that this module knows."""
    return FileSystems.get_scheme(path) in _STORES


def read(path: str) -> StoredFile | None:
    """Reads a file; None if there is none.

    Raises:
        StoreError: Its store cannot be reached.
    """
    stored: StoredFile | None = _call(path, "read")
    return stored


def write(path: str, content: bytes, version: str | None) -> str:
    """Writes a file in place of a version of it, and returns the new version.

    A client repeats a request whose answer was lost, and is then refused, although the first one
    was carried out. So contents must differ between writers and between versions.

    Args:
        path: The file.
        content: What no other writer writes.
        version: The version to replace; None if there must be no file.

    Raises:
        ChangedError: The file is of another version.
        StoreError: Its store cannot be reached.
    """
    try:
        return str(_call(path, "write", content, version))
    except ChangedError:
        stored = read(path)
        if stored is None or stored.content != content:
            raise
        return stored.version


def delete(path: str, version: str) -> None:
    """Deletes a version of a file; one that is gone already is no error.

    Raises:
        ChangedError: The file is of another version.
        StoreError: Its store cannot be reached.
    """
    try:
        _call(path, "delete", version)
    except ChangedError:
        if read(path) is not None:
            raise


def _call(path: str, method: str, *arguments: Any) -> Any:
    """Calls a method of the store that has a path."""
    scheme = FileSystems.get_scheme(path)
    bucket, _, name = path.partition("://")[2].partition("/") if scheme else ("", "", path)
    try:
        return getattr(_STORES[scheme](), method)(bucket, name, *arguments)
    except ChangedError:
        raise
    except Exception as error:  # the exceptions of stores have no common base class
        raise StoreError(f"{path}: {type(error).__name__}: {error}") from error


class _Folder:
    """Files of the local file system; the bucket is empty, and the name is a path."""

    def read(self, bucket: str, name: str) -> StoredFile | None:
        try:
            with Path(name).open("rb") as file:
                status, content = os.fstat(file.fileno()), file.read()
        except FileNotFoundError:
            return None
        written = datetime.datetime.fromtimestamp(status.st_mtime, datetime.UTC)
        return StoredFile(content, version_of(status), written)

    def write(self, bucket: str, name: str, content: bytes, version: str | None) -> str:
        complete = Path(f"{name}.{uuid.uuid4().hex}")
        try:
            complete.write_bytes(content)
            written = version_of(complete.stat())
            if version is None:
                Path(name).hardlink_to(complete)  # which replaces no file, as renaming does
            else:
                with self._locked(name, version):
                    complete.rename(name)
        except FileExistsError as error:
            raise ChangedError(name) from error
        finally:
            complete.unlink(missing_ok=True)
        return written

    def delete(self, bucket: str, name: str, version: str) -> None:
        with self._locked(name, version):
            Path(name).unlink()

    @contextlib.contextmanager
    def _locked(self, name: str, version: str) -> Iterator[None]:
        """Prevents others from replacing or deleting a version of a file in the block."""
        try:
            with Path(name).open("r+b") as file:  # NFS locks no other
                fcntl.flock(file, fcntl.LOCK_EX)
                present = Path(name).stat()
                if not os.path.samestat(os.fstat(file.fileno()), present):
                    raise ChangedError(name)
                if version_of(present) != version:
                    raise ChangedError(name)
                yield
        except FileNotFoundError as error:
            raise ChangedError(name) from error


class _S3:
    def __init__(self) -> None:
        import boto3
        from botocore.exceptions import ClientError

        self._client = boto3.client("s3")
        self._error = ClientError

    def read(self, bucket: str, name: str) -> StoredFile | None:
        try:
            answer = self._client.get_object(Bucket=bucket, Key=name)
        except self._error as error:
            if error.response["Error"]["Code"] == "NoSuchKey":
                return None
            raise
        return StoredFile(answer["Body"].read(), answer["ETag"], answer["LastModified"])

    def write(self, bucket: str, name: str, content: bytes, version: str | None) -> str:
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        try:
            answer = self._client.put_object(Bucket=bucket, Key=name, Body=content, **condition)
        except self._error as error:
            raise self._changed(error, name) from error
        return str(answer["ETag"])

    def delete(self, bucket: str, name: str, version: str) -> None:
        try:
            self._client.delete_object(Bucket=bucket, Key=name, IfMatch=version)
        except self._error as error:
            raise self._changed(error, name) from error

    def _changed(self, error: Any, name: str) -> Any:
        """Returns the exception as which an error of the client is to be raised."""
        code = error.response["Error"]["Code"]
        # The second is of a condition that failed because another request was being carried out.
        if code in ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"):
            return ChangedError(name)
        return error


class _GoogleCloudStorage:
    def __init__(self) -> None:
        from google.api_core import exceptions
        from google.cloud import storage

        self._client = storage.Client()
        self._errors = exceptions

    def read(self, bucket: str, name: str) -> StoredFile | None:
        latest = self._client.bucket(bucket).blob(name)
        while latest.exists():
            try:
                latest.reload()
                version, written = latest.generation, latest.updated
                blob = self._client.bucket(bucket).blob(name, generation=version)
                return StoredFile(blob.download_as_bytes(), str(version), written)
            except self._errors.NotFound:
                continue  # it was replaced in between
        return None

    def write(self, bucket: str, name: str, content: bytes, version: str | None) -> str:
        blob = self._client.bucket(bucket).blob(name)
        try:
            blob.upload_from_string(content, if_generation_match=int(version or 0))
        except self._errors.PreconditionFailed as error:
            raise ChangedError(name) from error
        return str(blob.generation)

    def delete(self, bucket: str, name: str, version: str) -> None:
        blob = self._client.bucket(bucket).blob(name)
        try:
            blob.delete(if_generation_match=int(version))
        except (self._errors.PreconditionFailed, self._errors.NotFound) as error:
            raise ChangedError(name) from error


@functools.cache
def _folder() -> _Store:
    return _Folder()


@functools.cache
def _s3() -> _Store:
    return _S3()


@functools.cache
def _google_cloud_storage() -> _Store:
    return _GoogleCloudStorage()


def forget_clients() -> None:
    """Makes the next call read the configuration of the stores again."""
    for client in _STORES.values():
        client.cache_clear()


# Clients are created once in a process, which takes a tenth of a second.
_STORES = {None: _folder, "s3": _s3, "gs": _google_cloud_storage}
