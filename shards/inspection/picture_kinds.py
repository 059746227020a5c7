"""The kinds of pictures that are shown: what their files begin with, and what they are then."""

import re
from typing import NamedTuple


class PictureKind(NamedTuple):
    """``magic`` is a pattern of the first bytes, ``format`` is what Pillow calls the kind."""

    magic: bytes
    media_type: str
    format: str


KINDS = (
    PictureKind(rb"\xff\xd8\xff", "image/jpeg", "JPEG"),
    PictureKind(rb"\x89PNG\r\n\x1a\n", "image/png", "PNG"),
    PictureKind(rb"GIF8[79]a", "image/gif", "GIF"),
    PictureKind(rb"RIFF....WEBP", "image/webp", "WEBP"),
    PictureKind(rb"BM", "image/bmp", "BMP"),
)


def kind_of(content: bytes | memoryview) -> PictureKind | None:
    """What an encoded picture is by its first bytes; None if it is none of these kinds."""
    start = bytes(content[:16])
    return next((kind for kind in KINDS if re.match(kind.magic, start, re.DOTALL)), None)
