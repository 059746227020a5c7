"""Perceptual hashes of images, by which near-duplicates are found that no id links."""

import io

import numpy as np
from PIL import Image

from schemas.limits import MAX_HASHED_PIXELS

#: The maximum Hamming distance of the hashes of near-duplicates, unless a recipe states another.
DEFAULT_DISTANCE = 6
_FORMATS = ["JPEG", "PNG"]


class ImageHashError(ValueError):
    """The pixels of an image cannot be decoded: a short, fixed reason, and details."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def perceptual_hash(content: bytes) -> int:
    """Returns 64 bits that near-duplicates share, at any size and JPEG quality.

    It is ``imagehash.phash`` of a reduced image.

    Raises:
        ImageHashError: Its pixels cannot be decoded, or take too much memory.
    """
    import imagehash

    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            # Of other JPEGs, only a reduced image is decoded.
            is_whole = image.format == "PNG" or "progressive" in image.info
            if is_whole and image.width * image.height > MAX_HASHED_PIXELS:
                detail = f"{image.width}x{image.height} pixels, to be compared with others"
                raise ImageHashError("image too large", detail)
            image.draft("L", (64, 64))
            bits = imagehash.phash(image).hash
    except ImageHashError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageHashError("not an image", str(error)) from error
    return int.from_bytes(np.packbits(bits.ravel()).tobytes(), "big")
