"""Reads files of a remote shard set through fsspec; retries transient errors."""

import errno
import hashlib
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple, TypeVar

import aiohttp
import fsspec

from shards.format.manifest import FileEntry, ShardEntry, ShardError

T = TypeVar("T")

_CHUNK_BYTES = 4 << 20  # of a stream, read at a time
_RANGE_BYTES = 8 << 20  # of a request
_CONCURRENT_REQUESTS = 8
_READ_TIMEOUT = 60.0  # seconds without a byte after which an HTTP request fails
# Connection errors of s3fs's HTTP library, which are not OSErrors.
_BOTOCORE = {f"botocore.exceptions.{name}" for name in ("ConnectionError", "HTTPClientError")}
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Retries(NamedTuple):
    """The retry policy: attempts per file, with exponential backoff."""

    attempts: int = 6
    initial_wait: float = 0.5  # seconds


class RemoteFolder:
    """The remote folder of a shard set (``gs://``, ``s3://``, ``hf://``, ``https://``, ``memory://``).

    ``options`` are those of fsspec's file system for the URL (credentials, endpoints).
    """

    def __init__(self, url: str, options: Mapping[str, Any], retries: Retries) -> None:
        self.url = url.rstrip("/")
        self._retries = retries
        self._options = dict(options)
        self._over_http = self.url.startswith(("http://", "https://"))
        if self._over_http:
            # By default, aiohttp fails after five minutes in total, even while data arrives.
            timeout = aiohttp.ClientTimeout(
                total=None, connect=_READ_TIMEOUT, sock_read=_READ_TIMEOUT
            )
            self._options.setdefault("client_kwargs", {"timeout": timeout})

    def read(self, name: str) -> bytes:
        """Returns the content of a small file.

        Raises:
            FileNotFoundError: there is no such file.
            ShardError: the file could not be read in all attempts.
        """

        def attempt() -> bytes:
            system, folder = fsspec.url_to_fs(self.url, **self._options)
            content: bytes = system.cat_file(f"{folder}/{name}")
            return content

        return self._retry(name, attempt)

    def download(self, entry: ShardEntry | FileEntry, to: BinaryIO) -> None:
        """Writes a file to ``to`` and verifies its size and sha256 against the manifest's entry.

        Raises:
            ShardError: the file is missing, is not what the manifest states, or could not be read
                in all attempts.
            OSError: the disk of ``to`` is full.
        """

        def attempt() -> None:
            to.seek(0)
            system, folder = fsspec.url_to_fs(self.url, **self._options)
            path = f"{folder}/{entry.file}"
            read = _read_stream if self._over_http else _read_ranges
            digest, size = hashlib.sha256(), 0
            for chunk in read(system, path, entry.bytes):
                size += len(chunk)
                if size > entry.bytes:
                    break
                digest.update(chunk)
                to.write(chunk)
            if size < entry.bytes:
                raise ConnectionError(f"it ended after {size} of {entry.bytes} bytes")
            if size > entry.bytes:
                raise ShardError(f"{self.url}/{entry.file} has more than {entry.bytes} bytes")
            if digest.hexdigest() != entry.sha256:
                raise ShardError(
                    f"{self.url}/{entry.file} has sha256 {digest.hexdigest()}, "
                    f"the manifest states {entry.sha256}"
                )

        try:
            self._retry(entry.file, attempt)
        except FileNotFoundError:
            raise ShardError(f"{self.url}/{entry.file} is missing") from None

    def _retry(self, name: str, attempt: Callable[[], T]) -> T:
        """Returns the result of ``attempt``, which is repeated after transient errors."""
        attempts, wait = self._retries
        for n in range(1, attempts + 1):
            try:
                return attempt()
            except (FileNotFoundError, ShardError):
                raise
            except Exception as error:
                if isinstance(error, OSError) and error.errno in _DISK_FULL:
                    raise
                reason = f"{type(error).__name__}: {error}"
                if not is_transient(error):
                    raise ShardError(f"{self.url}/{name} cannot be read: {reason}") from error
                if n == attempts:
                    raise ShardError(
                        f"{self.url}/{name} could not be read in {n} attempts: {reason}"
                    ) from error
            time.sleep(wait * 2 ** (n - 1) * random.uniform(0.75, 1.25))
        raise ValueError(f"{attempts} attempts")


def _read_stream(system: fsspec.AbstractFileSystem, path: str, size: int) -> Iterator[bytes]:
    """Yields a file over HTTP from one stream, because a server may not support ranges.

    The size is passed in, because fsspec treats every error of a request for it as a missing file.
    """
    with system.open(path, "rb", block_size=0, size=size) as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _read_ranges(system: fsspec.AbstractFileSystem, path: str, size: int) -> Iterator[bytes]:
    """Yields a file of a bucket in ranges, several at a time.

    Concurrent requests hide the latency of each and the bandwidth limit of a connection. The last
    range requests one byte more than ``size``, to detect a file that is too long.
    """
    batch = _RANGE_BYTES * _CONCURRENT_REQUESTS
    for first in range(0, size, batch):
        starts = list(range(first, min(first + batch, size), _RANGE_BYTES))
        ends = [start + _RANGE_BYTES for start in starts]
        if ends[-1] >= size:
            ends[-1] = size + 1
        for chunk in system.cat_ranges([path] * len(starts), starts, ends):
            if _is_beyond_the_end(chunk):
                return
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk


def _is_beyond_the_end(answer: bytes | Exception) -> bool:
    """Returns whether a range is past the end of the file (HTTP 416; s3fs has it as the cause)."""
    below = getattr(getattr(answer, "__cause__", None), "response", {})
    status = below.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return 416 in (status, getattr(answer, "code", None))


def is_transient(error: Exception) -> bool:
    """Returns whether an error is transient: a network error, or an HTTP status such as 503.

    >>> is_transient(TimeoutError()), is_transient(PermissionError()), is_transient(KeyError())
    (True, False, False)
    """
    status = error.status if hasattr(error, "status") else getattr(error, "code", None)
    if hasattr(error, "response"):  # of the Hugging Face Hub
        status = getattr(error.response, "status_code", status)
    if isinstance(status, int):
        return status >= 500 or status in (408, 429)
    if isinstance(error, PermissionError | IsADirectoryError | NotADirectoryError):
        return False
    names = {f"{cls.__module__}.{cls.__name__}" for cls in type(error).__mro__}
    return isinstance(error, OSError | aiohttp.ClientError) or not names.isdisjoint(_BOTOCORE)
