"""The kinds of images that are shown: what their files begin with, and what they are then."""

import re
from typing import NamedTuple


class ImageFormat(NamedTuple):
    """``magic`` is a pattern of the first bytes, ``format`` is what Pillow calls the kind."""

    magic: bytes
    media_type: str
    format: str


KINDS = (
    ImageFormat(rb"\xff\xd8\xff", "image/jpeg", "JPEG"),
    ImageFormat(rb"\x89PNG\r\n\x1a\n", "image/png", "PNG"),
    ImageFormat(rb"GIF8[79]a", "image/gif", "GIF"),
    ImageFormat(rb"RIFF....WEBP", "image/webp", "WEBP"),
    ImageFormat(rb"BM", "image/bmp", "BMP"),
)


def kind_of(content: bytes | memoryview) -> ImageFormat | None:
    """What an encoded image is by its first bytes; None if it is none of these kinds."""
    start = bytes(content[:16])
    return next((kind for kind in KINDS if re.match(kind.magic, start, re.DOTALL)), None)
