"""Perceptual hashes of images, by which near-duplicates are found that no id links."""

import io

import numpy as np
from PIL import Image

from schemas.limits import MAX_HASHED_PIXELS

#: The maximum Hamming distance of the hashes of near-duplicates, unless a recipe states another.
DEFAULT_DISTANCE = 6
_FORMATS = ["JPEG", "PNG"]
_SIDE = 32  # pixels of the reduced image
_NUM_FREQUENCIES = 8  # of each axis, the lowest ones
# The lowest rows of the matrix of the discrete cosine transform (DCT-II).
_COSINES = 2 * np.cos(np.pi / _SIDE * np.outer(np.arange(_NUM_FREQUENCIES), np.arange(_SIDE) + 0.5))


class ImageHashError(ValueError):
    """The pixels of an image cannot be decoded: a short, fixed reason, and details."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def perceptual_hash(content: bytes) -> int:
    """Returns 64 bits that near-duplicates share, at any size and JPEG quality.

    They are those of ``imagehash.phash``, whose transform needs SciPy: whether each of the lowest
    frequencies of the reduced gray image exceeds their median.

    Raises:
        ImageHashError: Its pixels cannot be decoded, or take too much memory.
    """
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            # Of other JPEGs, only a reduced image is decoded.
            is_whole = image.format == "PNG" or "progressive" in image.info
            if is_whole and image.width * image.height > MAX_HASHED_PIXELS:
                detail = f"{image.width}x{image.height} pixels, to be compared with others"
                raise ImageHashError("image too large", detail)
            image.draft("L", (64, 64))
            gray = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    except ImageHashError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageHashError("not an image", str(error)) from error
    # Rounded, because frequencies that are zero in theory differ between processors.
    frequencies = (_COSINES @ np.asarray(gray, np.float64) @ _COSINES.T).round(6)
    bits = frequencies > np.median(frequencies)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
