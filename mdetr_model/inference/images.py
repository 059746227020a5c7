"""Reads image files as a user has them: turned, gray, with a palette, of 16 bits."""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from schemas.limits import MAX_IMAGE_PIXELS

# Pillow has decoders of more formats; that of EPS starts another program.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
MAX_ASPECT_RATIO = 50  # beyond which resizing may leave no pixel of the shorter side


class ImageError(ValueError):
    """A file is not an image that can be read."""


def open_image(path: Path) -> Image.Image:
    """Reads an image file, see `decode_image`.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ImageError: it is not an image that can be decoded; the message names the file.
    """
    content = path.read_bytes()
    try:
        return decode_image(content)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def decode_image(content: bytes) -> Image.Image:
    """Decodes an image to RGB, with its EXIF orientation applied.

    Transparency is dropped, as in training; of an animation, the first frame is read.

    Raises:
        ImageError: it is in none of the formats that are read, is damaged, has more than
            ``MAX_IMAGE_PIXELS``, one side of more than ``MAX_ASPECT_RATIO`` times the other, or 32
            bits per pixel, whose range is unknown.
    """
    Image.init()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged metadata, and about many pixels
            formats = [name for name in _FORMATS if name in Image.OPEN]
            with Image.open(io.BytesIO(content), formats=formats) as image:
                if image.width * image.height > MAX_IMAGE_PIXELS:
                    raise ImageError(f"{image.width} x {image.height} pixels are too many")
                if max(image.size) > MAX_ASPECT_RATIO * min(image.size):
                    raise ImageError(f"{image.width} x {image.height} pixels are too narrow")
                if image.mode in ("I", "F"):
                    raise ImageError("pixels of 32 bits; 8 or 16 can be read")
                return _to_8_bits(ImageOps.exif_transpose(image)).convert("RGB")
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"not an image of a known format ({', '.join(_FORMATS)})") from error
    except Exception as error:  # Pillow may raise any exception for a damaged file
        raise ImageError(f"the image cannot be decoded: {error}") from error


def image_extensions() -> list[str]:
    """Returns the extensions of the files that can be read, in lower case, with their dots."""
    extensions = Image.registered_extensions()
    return sorted(extension for extension, name in extensions.items() if name in _FORMATS)


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Scales an image of 16 bits per pixel, which conversion to RGB would clip to white."""
    if not image.mode.startswith("I;16"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
