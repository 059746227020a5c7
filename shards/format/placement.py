"""Maps an image to its shard: a pure function of its canonical key, the same on every runner.

A crop of an image has a separate key, but is stored in the shard of the image.
"""

import hashlib
import re

_SAFE_KEY = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)+")


def position(key: str, salt: str) -> int:
    """Returns an image's position in its split: 64 bits of a salted hash of its key.

    Images of one source, and neighbors in it, are scattered evenly.
    """
    digest = hashlib.blake2b(key.encode(), key=salt.encode()[:64], digest_size=8).digest()
    return int.from_bytes(digest, "big")


def shard_of(key: str, shards: int, salt: str) -> int:
    """Returns the shard whose range of positions holds the image.

    >>> shard_of("coco/139", 8, "") in range(8)
    True
    """
    return position(key, salt) * shards >> 64


def shard_name(split: str, shard: int, shards: int) -> str:
    """Returns the file name of a shard.

    >>> shard_name("train", 3, 64)
    'train-00003-of-00064.tar'
    """
    return f"{split}-{shard:05d}-of-{shards:05d}.tar"


def index_name(shard: str) -> str:
    """Returns the file name of the index of a shard.

    >>> index_name("train-00003-of-00064.tar")
    'train-00003-of-00064.index.parquet'
    """
    return f"{shard.removesuffix('.tar')}.index.parquet"


def is_safe_key(key: str) -> bool:
    """Returns whether a key can name a tar member.

    It has namespaces and a plain name, no dots, and at most 80 characters.

    >>> is_safe_key("coco/139"), is_safe_key("coco/../139"), is_safe_key("139")
    (True, False, False)
    """
    return len(key) <= 80 and _SAFE_KEY.fullmatch(key) is not None
