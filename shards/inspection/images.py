"""Images for HTML pages: formats that browsers show, thumbnails and data: URLs."""

import base64
import io
import re
import warnings
from typing import NamedTuple

from PIL import Image

from schemas.limits import MAX_IMAGE_PIXELS
from shards.format.manifest import ShardError
from shards.reading.reader import MissingImageError, ShardReader

THUMBNAIL_SIZE = 480  # pixels of the longer side
JPEG_QUALITY = 75


class ImageFormat(NamedTuple):
    """An image format: a pattern of its first bytes, its media type and Pillow's name of it."""

    magic: bytes
    media_type: str
    pillow_name: str


IMAGE_FORMATS = (
    ImageFormat(rb"\xff\xd8\xff", "image/jpeg", "JPEG"),
    ImageFormat(rb"\x89PNG\r\n\x1a\n", "image/png", "PNG"),
    ImageFormat(rb"GIF8[79]a", "image/gif", "GIF"),
    ImageFormat(rb"RIFF....WEBP", "image/webp", "WEBP"),
    ImageFormat(rb"BM", "image/bmp", "BMP"),
)


class UnreadableImageError(ValueError):
    """Pillow cannot decode the image, or it has too many pixels."""


def detect_format(content: bytes | memoryview) -> ImageFormat | None:
    """Returns the format of an image by its first bytes; None if browsers do not support it."""
    start = bytes(content[:16])
    return next((f for f in IMAGE_FORMATS if re.match(f.magic, start, re.DOTALL)), None)


def thumbnail(image: bytes) -> bytes:
    """Returns the image as a JPEG of at most ``THUMBNAIL_SIZE`` pixels on its longer side.

    The EXIF orientation is ignored, because boxes are in the coordinates of the stored pixels.

    Raises:
        UnreadableImageError: it is damaged, in another format, or has more than
            ``MAX_IMAGE_PIXELS``.
    """
    formats = [image_format.pillow_name for image_format in IMAGE_FORMATS]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(image), formats=formats) as opened:
                if opened.width * opened.height > MAX_IMAGE_PIXELS:
                    raise ValueError(f"{opened.width}x{opened.height} pixels are too many")
                opened.draft("RGB", (THUMBNAIL_SIZE, THUMBNAIL_SIZE))
                small = opened.convert("RGB")
        small.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE))
        encoded = io.BytesIO()
        small.save(encoded, "JPEG", quality=JPEG_QUALITY)
    except Exception as error:  # Pillow may raise any exception for a damaged file
        raise UnreadableImageError(str(error)) from error
    return encoded.getvalue()


def data_url(jpeg: bytes) -> str:
    """Returns a JPEG as a ``data:`` URL."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def thumbnail_url(reader: ShardReader, shard: int, row: int) -> tuple[str, str]:
    """Returns the image of a shard's ``row``-th sample as a ``data:`` URL, and an error message.

    The URL is '' if there is an error, and both are if the set has no images.
    """
    try:
        return data_url(thumbnail(bytes(reader.image(shard, row).content))), ""
    except MissingImageError:
        return "", ""
    except ShardError as error:
        return "", str(error)
    except UnreadableImageError as error:
        return "", f"This image cannot be shown: {error}"
