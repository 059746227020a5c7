"""The structure of image files: whether they are whole, and whether they are to be turned."""

import io
import warnings
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_END = b"\xff\xd9"
_START_OF_SCAN = 0xDA
_APP1 = 0xE1  # the segment of EXIF and of XMP
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}  # markers that are not followed by a length
_PNG_METADATA = (b"eXIf", b"iTXt", b"zTXt", b"tEXt")  # the last three may hold EXIF or XMP
_ORIENTATION = 0x0112  # EXIF's tag


def incompleteness(content: bytes) -> str | None:
    r"""Returns why the file of a JPEG or PNG is not whole; None if it is.

    A JPEG needs an end marker after the beginning of its pixels; there may be bytes after it, as in
    some published files. The chunks of a PNG need their CRC-32, up to the last one. A JPEG whose
    pixels are damaged, or that lost some before the end marker, looks whole: libjpeg decodes it
    with a warning that Pillow does not pass on.

    >>> incompleteness(b"\xff\xd8\xff\xda\x00\x02...\xff\xd9") is None
    True
    >>> incompleteness(b"\xff\xd8\xff\xda\x00\x02...")
    '9 bytes without an end marker'
    """
    if content.startswith(_PNG_SIGNATURE):
        return _png_error(content)
    # An embedded thumbnail has an end marker of its own, but before the pixels.
    if content.rfind(_JPEG_END) < _first_scan(content):
        return f"{len(content)} bytes without an end marker"
    return None


def without_orientation(content: bytes | memoryview) -> bytes | memoryview:
    """Returns an image file that every program shows and decodes as its pixels are stored.

    Boxes refer to the pixels as stored. Browsers and many libraries turn an image by the
    orientation that its metadata state, others do not. Of an image that states one, the metadata
    that may (EXIF, XMP) are left out; its pixels stay as they are encoded. All other images are
    returned as they are.
    """
    if not _may_be_turned(content):
        return content
    whole = bytes(content)
    if whole.startswith(_PNG_SIGNATURE):
        chunks = _png_chunks(whole)
        removed = [c for c in chunks if c.name in _PNG_METADATA]
        return _without(whole, [(chunk.start, chunk.stop) for chunk in removed])
    segments = _jpeg_segments(whole)
    return _without(whole, [(start, stop) for marker, start, stop in segments if marker == _APP1])


def _may_be_turned(content: bytes | memoryview) -> bool:
    """Returns whether an image states an orientation, or metadata that Pillow cannot read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged metadata, and about many pixels
            with Image.open(io.BytesIO(content), formats=["JPEG", "PNG"]) as image:
                return bool(image.getexif().get(_ORIENTATION, 1) != 1)
    except UnidentifiedImageError:
        return False
    except Exception:  # Pillow raises many kinds of them for damaged metadata
        return True


def _without(content: bytes, ranges: list[tuple[int, int]]) -> bytes:
    """Returns bytes without some ranges, which are in order."""
    starts = [0, *(stop for _, stop in ranges)]
    stops = [*(start for start, _ in ranges), len(content)]
    return b"".join(content[a:b] for a, b in zip(starts, stops, strict=True))


def _first_scan(content: bytes) -> int:
    """Returns the offset of a JPEG's first scan; half the file if its segments cannot be walked."""
    scans = (start for marker, start, _ in _jpeg_segments(content) if marker == _START_OF_SCAN)
    return next(scans, len(content) // 2)


def _jpeg_segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yields marker, first byte and end of the segments of a JPEG up to its first scan."""
    offset = 2
    while content[offset : offset + 1] == b"\xff":
        marker = content[offset + 1] if offset + 1 < len(content) else None
        if marker == 0xFF:  # padding
            offset += 1
        elif marker in _WITHOUT_LENGTH:
            offset += 2
        else:
            length = int.from_bytes(content[offset + 2 : offset + 4], "big")
            if marker is None or (length < 2 and marker != _START_OF_SCAN):
                return
            yield marker, offset, offset + 2 + length
            if marker == _START_OF_SCAN:
                return
            offset += 2 + length


class _Chunk(NamedTuple):
    """A chunk of a PNG: its name, and the bytes [start, stop) with length and CRC-32."""

    name: bytes
    start: int
    stop: int


def _png_chunks(content: bytes) -> Iterator[_Chunk]:
    """Yields the chunks of a PNG; the last one may end after the file."""
    offset = len(_PNG_SIGNATURE)
    while offset < len(content):
        length = int.from_bytes(content[offset : offset + 4], "big")
        yield _Chunk(content[offset + 4 : offset + 8], offset, offset + 12 + length)
        offset += 12 + length


def _png_error(content: bytes) -> str | None:
    for name, start, stop in _png_chunks(content):
        if stop > len(content):
            break
        # The CRC-32 covers the chunk's name and data.
        actual = zlib.crc32(memoryview(content)[start + 4 : stop - 4])
        stated = int.from_bytes(content[stop - 4 : stop], "big")
        if actual != stated:
            return f"the chunk {name!a} has CRC-32 {actual:08x}, stated is {stated:08x}"
        if name == b"IEND":
            return None
    return f"{len(content)} bytes without an end marker"
