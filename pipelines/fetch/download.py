"""Downloads one file: resumed where it stopped, from the first of its addresses that has it.

The standard library's HTTP client does all that one stream at a time needs. Ranges, mirrors,
checks and retries are here.
"""

import gzip
import http.client
import re
import ssl
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from pipelines.fetch.partial_file import Origin, PartialFile
from schemas.package_version import package_version

_BEGINNING = 512  # bytes that tell what a file is
_CHUNK = 1 << 20
_ENOUGH_PROGRESS = 64 << 10  # bytes after which earlier failures of an address do not count
_RETRIED = {408, 425, 429}  # statuses below 500 that another try may change
_MAX_RETRY_AFTER = 60.0  # seconds that a server may ask to wait
_HTML = (b"<!doctype html", b"<html", b"<head", b"<body", b"<!--", b"<?xml", b"<script")

#: Called with the number of bytes that came, negative for bytes that are dropped.
Advance = Callable[[int], object]


class FetchError(Exception):
    """No address of a file gave it; the message has a line for each, with what it did."""


class Patience(NamedTuple):
    """How long to try an address.

    Attributes:
        tries: How often, without progress in between.
        pause: Seconds before the second try, doubled before each further one.
        timeout: Seconds without a byte after which a connection counts as stalled.
        min_rate: Bytes per second, in a period of ``timeout``, below which it counts as stalled.
    """

    tries: int = 5
    pause: float = 1.0
    timeout: float = 60.0
    min_rate: int = 1024


_PATIENCE = Patience()


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A file to download, with what is known about it; empty or None where nothing is known."""

    name: str
    addresses: Sequence[str]
    bytes: int | None = None
    sha256: str = ""
    md5: str = ""

    @property
    def has_checksum(self) -> bool:
        """Whether the content can be checked."""
        return bool(self.sha256 or self.md5)


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was downloaded and checked."""

    bytes: int
    sha256: str
    md5: str
    address: str


class _Decoder(Protocol):
    """What unpacks an answer that the server packed."""

    @property
    def eof(self) -> bool:
        """Whether the end of the packed bytes came."""
        ...

    def decompress(self, data: bytes, /) -> bytes:
        """Returns the bytes that packed ones stand for."""
        ...


class _MirrorError(Exception):
    """An address does not have the file, or not in a usable state: the next one is tried."""


class _PassingError(Exception):
    """A failure that another try may not have; ``wait`` is what the server asks for, in seconds."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


def download(
    wanted: Wanted,
    target: Path,
    advance: Advance,
    *,
    before_rename: Callable[[Fetched], object],
    patience: Patience = _PATIENCE,
) -> Fetched:
    """Downloads a file to a path that does not exist, and returns what came.

    The caller has made sure that no other process downloads to the same path.

    Args:
        wanted: the file.
        target: where to put it; its folder is created.
        advance: called as bytes come; first, with those that an earlier process left.
        before_rename: called with the result when the file is whole, before it has its name.
        patience: how long to try an address.

    Raises:
        FetchError: No address gave the file.
        DiskError: The disk is full or cannot be written.
    """
    with PartialFile(target) as part:
        advance(part.size)
        failures: list[str] = []
        for address in wanted.addresses:
            try:
                _Mirror(address, wanted, part, advance, patience).complete()
            except _MirrorError as error:
                failures.append(f"  {address}: {error}")
                continue
            fetched = Fetched(bytes=part.size, address=address, **part.checksums())
            before_rename(fetched)
            part.finish()
            return fetched
        if part.size == 0:
            part.discard()
    raise FetchError("\n".join([f"{wanted.name}: no address gave the file", *failures]))


class _Mirror:
    """One address of a file, from which its partial file is completed."""

    def __init__(
        self,
        address: str,
        wanted: Wanted,
        part: PartialFile,
        advance: Advance,
        patience: Patience,
    ) -> None:
        self._address = address
        self._wanted = wanted
        self._part = part
        self._advance = advance
        self._patience = patience

    def complete(self) -> None:
        """Downloads what is missing, and checks the whole.

        Raises:
            _MirrorError: The address does not have the file, or does not give it.
        """
        resumed = self._may_continue()
        self._connect_until_complete()
        error = _content_error(self._wanted, self._part)
        if error is not None and resumed:  # bytes of two files, perhaps: all from this address
            self._restart()
            self._connect_until_complete()
            error = _content_error(self._wanted, self._part)
        if error is not None:
            self._restart()
            raise _MirrorError(error)

    def _connect_until_complete(self) -> None:
        """Connects until all bytes are there, or tries are used up."""
        failed, furthest = 0, self._part.size
        while not self._is_complete():
            try:
                self._transfer()
                return
            except _PassingError as error:
                if self._part.size >= furthest + _ENOUGH_PROGRESS:
                    failed = 0
                furthest = max(furthest, self._part.size)
                failed += 1
                if failed >= self._patience.tries:
                    raise _MirrorError(f"{error} (tried {failed} times)") from error
                time.sleep(max(error.wait, self._patience.pause * 2 ** (failed - 1)))

    def _may_continue(self) -> bool:
        """Returns whether the bytes so far may be continued from this address.

        A remote file may have changed since, and mirrors may differ: either the server can tell, or
        the checksum of the whole will.
        """
        origin = self._part.origin
        can_tell = origin.address == self._address and origin.validator != ""
        return self._part.size > 0 and (can_tell or self._wanted.has_checksum)

    def _is_complete(self) -> bool:
        sizes = (self._wanted.bytes, self._part.origin.total)
        return self._may_continue() and self._part.size in sizes

    def _restart(self) -> None:
        self._advance(-self._part.size)
        self._part.restart()

    def _append(self, content: bytes) -> None:
        self._part.append(content)
        self._advance(len(content))

    def _transfer(self) -> None:
        """Appends what one connection gives.

        Raises:
            _PassingError: Not all bytes came.
            _MirrorError: The address does not have the file.
        """
        begin = self._part.size if self._may_continue() else 0
        with self._open(begin) as response:
            begin, total = self._range_of(response, begin)
            decoder = None
            if _is_packed_on_the_way(response, self._wanted):
                if begin:
                    self._restart()
                    raise _PassingError("a range of a packed answer")
                decoder, total = zlib.decompressobj(31), None  # the length is of packed bytes
            validator = "" if decoder else _validator(response)
            origin = Origin(address=self._address, validator=validator, total=total)
            try:
                if begin:
                    self._check_total(total)
                    self._part.continue_from(origin)
                else:
                    self._receive_beginning(response, origin, decoder)
                self._receive(response, decoder)
            except (OSError, http.client.HTTPException) as error:
                raise _PassingError(self._reason(error)) from error
            self._check_end(response, decoder)

    def _open(self, begin: int) -> http.client.HTTPResponse:
        headers = {
            "User-Agent": f"mdetr-build/{package_version()}",
            "Accept-Encoding": "identity",
        }
        origin = self._part.origin
        if begin:
            headers["Range"] = f"bytes={begin}-"
            if origin.address == self._address and origin.validator:
                headers["If-Range"] = origin.validator
        request = urllib.request.Request(self._address, headers=headers)
        try:
            response: http.client.HTTPResponse = urllib.request.urlopen(
                request, timeout=self._patience.timeout
            )
            return response
        except urllib.error.HTTPError as error:
            error.close()
            status = f"{error.code} {error.reason}"
            if error.code == 416:  # more bytes than the remote file has
                self._restart()
                raise _PassingError(status) from error
            if error.code >= 500 or error.code in _RETRIED:
                wait = _retry_after(error.headers.get("Retry-After"))
                raise _PassingError(status, wait) from error
            raise _MirrorError(status) from error
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise _MirrorError(f"certificate: {error.reason.verify_message}") from error
            raise _PassingError(self._reason(error.reason)) from error
        except (OSError, http.client.HTTPException) as error:
            raise _PassingError(self._reason(error)) from error

    def _range_of(self, response: http.client.HTTPResponse, begin: int) -> tuple[int, int | None]:
        """Returns the offset at which an answer begins, and the size of the whole file."""
        length = response.headers.get("Content-Length", "")
        if response.status == 200:
            return 0, int(length) if length.isdecimal() else None
        if response.status != 206:
            raise _MirrorError(f"{response.status} {response.reason}")
        stated = response.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", stated)
        total = int(match[2]) if match and match[2] != "*" else None
        origin = self._part.origin
        is_other = origin.total is not None and total not in (None, origin.total)
        if origin.address == self._address and origin.validator:
            is_other |= _validator(response) not in ("", origin.validator)
        if not begin or not match or int(match[1]) != begin or is_other:
            self._restart()
            raise _PassingError(f"bytes {stated or 'of no range'} where {begin}- were asked for")
        return begin, total if total is not None else origin.total

    def _receive_beginning(
        self, response: http.client.HTTPResponse, origin: Origin, decoder: _Decoder | None
    ) -> None:
        """Replaces all bytes by the beginning of an answer, if a file of this name begins so."""
        beginning = b""
        while len(beginning) < _BEGINNING and (packed := response.read1(_BEGINNING)):
            beginning += _decoded(packed, decoder)
        is_short = len(beginning) < _BEGINNING
        if is_short and (not decoder.eof if decoder else len(beginning) < (origin.total or 0)):
            raise _PassingError(f"the connection ended after {len(beginning)} bytes")
        _check_beginning(self._wanted.name, beginning)
        self._check_total(origin.total)
        self._restart()
        self._part.continue_from(origin)
        self._append(beginning)

    def _check_total(self, total: int | None) -> None:
        if total is not None and self._wanted.bytes not in (None, total):
            raise _MirrorError(f"a file of {total} bytes, expected {self._wanted.bytes}")

    def _receive(self, response: http.client.HTTPResponse, decoder: _Decoder | None) -> None:
        """Appends the rest of an answer."""
        period, received = time.monotonic(), 0
        while packed := response.read1(_CHUNK):
            self._append(_decoded(packed, decoder))
            received += len(packed)
            seconds = time.monotonic() - period
            if seconds >= self._patience.timeout:
                if received < self._patience.min_rate * seconds:
                    raise _PassingError(f"{received} bytes in {seconds:.0f} s")
                period, received = time.monotonic(), 0

    def _check_end(self, response: http.client.HTTPResponse, decoder: _Decoder | None) -> None:
        """Raises an error if the end of an answer may not be that of the file."""
        size, total = self._part.size, self._part.origin.total
        if decoder is not None and not decoder.eof:
            self._restart()
            raise _PassingError("the connection ended in the middle of a packed answer")
        if total is not None and size < total:
            raise _PassingError(f"the connection ended after {size} of {total} bytes")
        wanted = self._wanted
        states_end = decoder is not None or total is not None or response.chunked
        if not (states_end or wanted.bytes or wanted.has_checksum or _has_end(wanted.name)):
            self._restart()
            raise _MirrorError("states no length, so it is not known whether all bytes came")

    def _reason(self, error: object) -> str:
        if isinstance(error, TimeoutError):
            return f"no byte for {self._patience.timeout:g} s"
        if isinstance(error, http.client.IncompleteRead):
            return "the connection ended in the middle of the file"
        strerror = error.strerror if isinstance(error, OSError) else None
        return strerror or str(error) or type(error).__name__


# --- answers --------------------------------------------------------------------------------------


def _decoded(packed: bytes, decoder: _Decoder | None) -> bytes:
    if decoder is None:
        return packed
    try:
        return decoder.decompress(packed)
    except zlib.error as error:
        raise _MirrorError(f"cannot unpack its answer: {error}") from error


def _is_packed_on_the_way(response: http.client.HTTPResponse, wanted: Wanted) -> bool:
    """Returns whether the server packed the file, although it was asked not to.

    Some servers say so of a file that is a .gz itself.
    """
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    if encoding in ("identity", "") or wanted.name.endswith((".gz", ".tgz")):
        return False
    if encoding not in ("gzip", "x-gzip"):
        raise _MirrorError(f"answers in the encoding {encoding}, which was not asked for")
    return True


def _validator(response: http.client.HTTPResponse) -> str:
    """Returns what changes with the remote file, in the form of If-Range; empty if unknown."""
    tag: str = response.headers.get("ETag", "")
    modified: str = response.headers.get("Last-Modified", "")
    return tag if tag.startswith('"') else modified  # a weak tag does not stand for equal bytes


def _retry_after(text: str | None) -> float:
    """Returns the seconds that a server asks to wait; 0 if it states none, or a date."""
    return min(float(text), _MAX_RETRY_AFTER) if text and text.isdecimal() else 0.0


# --- checks ---------------------------------------------------------------------------------------


def _check_beginning(name: str, content: bytes) -> None:
    """Raises ``_MirrorError`` if a file of this name does not begin so."""
    kind = Path(name).suffix.removeprefix(".")
    if not content:
        raise _MirrorError("an empty answer")
    is_right = {
        "zip": content.startswith((b"PK\x03\x04", b"PK\x05\x06")),
        "gz": content.startswith(b"\x1f\x8b"),
        "tgz": content.startswith(b"\x1f\x8b"),
        "json": content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["),
    }.get(kind, not _is_html(content))
    if not is_right:
        what = "HTML" if _is_html(content) else f"{content[:8]!r}..."
        raise _MirrorError(f"{what} where a {kind} file was expected")


def _is_html(content: bytes) -> bool:
    return content.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_HTML)


def _content_error(wanted: Wanted, part: PartialFile) -> str | None:
    """Returns what is wrong with a complete file, None if nothing is."""
    part.sync()
    if wanted.bytes is not None and part.size != wanted.bytes:
        return f"{part.size} bytes, expected {wanted.bytes}"
    checksums = part.checksums()
    for kind, expected in (("sha256", wanted.sha256), ("md5", wanted.md5)):
        if expected and checksums[kind] != expected:
            return f"{kind} {checksums[kind]}, expected {expected}"
    if not wanted.has_checksum:
        return _structure_error(wanted.name, part.path)
    return None


def _has_end(name: str) -> bool:
    """Returns whether a file of this name shows by itself that it is complete."""
    return name.endswith((".zip", ".gz", ".tgz"))


def _structure_error(name: str, path: Path) -> str | None:
    """Returns what is wrong with a file that shows by itself whether it is complete."""
    try:
        if name.endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
                return f"damaged in {damaged}" if damaged else None
        elif _has_end(name):
            with gzip.open(path) as file:
                while file.read(_CHUNK):
                    pass
    except (zipfile.BadZipFile, EOFError, zlib.error, gzip.BadGzipFile, RuntimeError) as error:
        return f"not a readable {Path(name).suffix} file: {error}"
    return None
