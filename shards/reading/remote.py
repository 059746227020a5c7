"""Files of a shard set behind a URL, read through fsspec, with patience."""

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

_CHUNK = 4 << 20  # bytes of a stream that are read at a time
_RANGE = 8 << 20  # bytes of a request
_AT_ONCE = 8  # requests
_SILENCE = 60.0  # seconds without a byte after which an HTTP request is given up
# What is left of a connection that fails, of the library below s3fs: no OSError.
_BOTOCORE = {f"botocore.exceptions.{name}" for name in ("ConnectionError", "HTTPClientError")}
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # where a file is written to


class Retries(NamedTuple):
    """How often a file is asked for, and the seconds before the second time, which then double."""

    attempts: int = 6
    wait: float = 0.5


class Remote:
    """The folder of a shard set behind a URL (``gs://``, ``s3://``, ``https://``, ``memory://``).

    ``options`` are those of fsspec's file system for the URL (credentials, endpoints).
    """

    def __init__(self, url: str, options: Mapping[str, Any], retries: Retries) -> None:
        self.url = url.rstrip("/")
        self._retries = retries
        self._options = dict(options)
        self._over_http = self.url.startswith(("http://", "https://"))
        if self._over_http:
            # aiohttp gives up after five minutes in all, however well a large shard comes along.
            timeout = aiohttp.ClientTimeout(total=None, connect=_SILENCE, sock_read=_SILENCE)
            self._options.setdefault("client_kwargs", {"timeout": timeout})

    def read(self, name: str) -> bytes:
        """The content of a small file.

        Raises:
            FileNotFoundError: there is none.
            ShardError: it could not be read, after all attempts.
        """

        def attempt() -> bytes:
            system, folder = fsspec.url_to_fs(self.url, **self._options)
            return system.cat_file(f"{folder}/{name}")

        return self._persist(name, attempt)

    def download(self, entry: ShardEntry | FileEntry, to: BinaryIO) -> None:
        """Writes a file to ``to``, verified against its entry in the manifest on the way.

        Raises:
            ShardError: the file is missing, is not what the manifest says, or could not be read
                after all attempts.
            OSError: there is no room for it where ``to`` is.
        """

        def attempt() -> None:
            to.seek(0)
            system, folder = fsspec.url_to_fs(self.url, **self._options)
            path = f"{folder}/{entry.file}"
            read = _streamed if self._over_http else _in_ranges
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
                    f"the manifest says {entry.sha256}"
                )

        try:
            self._persist(entry.file, attempt)
        except FileNotFoundError:
            raise ShardError(f"{self.url}/{entry.file} is missing") from None

    def _persist(self, name: str, attempt: Callable[[], T]) -> T:
        """What ``attempt`` returns, once it fails no more with what may pass."""
        attempts, wait = self._retries
        for n in range(1, attempts + 1):
            try:
                return attempt()
            except (FileNotFoundError, ShardError):
                raise
            except Exception as error:
                if isinstance(error, OSError) and error.errno in _NO_ROOM:
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


def _streamed(system: fsspec.AbstractFileSystem, path: str, size: int) -> Iterator[bytes]:
    """A file over HTTP: one stream, because a server may not know ranges. Its size is not asked
    for: every failure of that fsspec takes for a missing file.
    """
    with system.open(path, "rb", block_size=0, size=size) as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _in_ranges(system: fsspec.AbstractFileSystem, path: str, size: int) -> Iterator[bytes]:
    """A file in a bucket: some ranges at once, because each request waits for an answer, and a
    store sends each connection only so much. Of a file that is too long there is a byte too many.
    """
    for first in range(0, size, _RANGE * _AT_ONCE):
        starts = list(range(first, min(first + _RANGE * _AT_ONCE, size), _RANGE))
        ends = [start + _RANGE if start + _RANGE < size else size + 1 for start in starts]
        for chunk in system.cat_ranges([path] * len(starts), starts, ends):
            if _is_beyond_the_end(chunk):
                return
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk


def _is_beyond_the_end(answer: bytes | Exception) -> bool:
    """Whether a store said of a range that the file ends before it: HTTP's 416, which s3fs has in
    the error below its own.
    """
    below = getattr(getattr(answer, "__cause__", None), "response", {})
    status = below.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return 416 in (status, getattr(answer, "code", None))


def is_transient(error: Exception) -> bool:
    """Whether an error of a file system may pass: a status of HTTP that says so, or of a network.

    >>> is_transient(TimeoutError()), is_transient(PermissionError()), is_transient(KeyError())
    (True, False, False)
    """
    status = error.status if hasattr(error, "status") else getattr(error, "code", None)
    if isinstance(status, int):
        return status >= 500 or status in (408, 429)
    if isinstance(error, PermissionError | IsADirectoryError | NotADirectoryError):
        return False
    names = {f"{of.__module__}.{of.__name__}" for of in type(error).__mro__}
    return isinstance(error, OSError | aiohttp.ClientError) or not names.isdisjoint(_BOTOCORE)
