"""Near-duplicates: images of train whose perceptual hash is near that of a held-out image."""

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
import numpy as np

from pipelines.io.images import UnusableImageError
from shards.format import perceptual_hash as image_hash


class NearDuplicates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The treatment of images of train whose perceptual hash is near that of a held-out image.

    ``distance``: the maximum Hamming distance of the 64-bit hashes.
    """

    action: Literal["off", "report", "exclude"] = "off"
    distance: Annotated[int, msgspec.Meta(ge=0, le=64)] = image_hash.DEFAULT_DISTANCE


class HashedImage(msgspec.Struct, array_like=True):
    """The perceptual hash of a held-out image."""

    hash: int
    eval_set: str
    key: str


class HeldOutHashes:
    """The perceptual hashes of all held-out images, searched within a distance."""

    def __init__(self, images: Iterable[HashedImage], distance: int) -> None:
        # An image may be hashed from several folders.
        self._images = [*{(h.eval_set, h.key, h.hash): h for h in images}.values()]
        self._hashes = np.array([h.hash for h in self._images], np.uint64)
        self._distance = distance

    def near(self, content: bytes) -> list[HashedImage]:
        """Returns the held-out images whose hash is within the distance of an encoded image's.

        Raises:
            UnusableImageError: Its pixels cannot be decoded.
        """
        if not self._images:
            return []
        distances = np.bitwise_count(self._hashes ^ np.uint64(perceptual_hash(content)))
        return [self._images[i] for i in np.flatnonzero(distances <= self._distance)]


def perceptual_hash(content: bytes) -> int:
    """Returns the hash of an encoded image, see `shards.format.perceptual_hash`.

    Raises:
        UnusableImageError: Its pixels cannot be decoded, or take too much memory.
    """
    try:
        return image_hash.perceptual_hash(content)
    except image_hash.ImageHashError as error:
        raise UnusableImageError(error.reason, error.detail) from error
