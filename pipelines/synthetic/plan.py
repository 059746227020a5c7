"""Which images the world has, in which datasets each of them lies, and under which names.

Everything about an image follows from its number (and the seed), so that any image can be
made alone. The shares below mirror the overlaps of the real datasets: about half of Visual
Genome are COCO images, some Flickr30k photos are in COCO or in Visual Genome, and a few
images lie in two datasets with no id that tells it.
"""

from functools import cache
from itertools import accumulate
from math import sqrt
from typing import Literal, NamedTuple

Split = Literal["", "train", "val", "test"]


class Kind(NamedTuple):
    """A combination of datasets; ``told``: whether their ids admit that it is one image."""

    vg: bool = False
    coco: Split = ""
    flickr30k: Split = ""
    told: bool = True


#: Images of each kind in every hundred. GQA's testdev images are COCO's unpublished "test".
PER_HUNDRED: dict[Kind, int] = {
    Kind(vg=True, coco="train"): 20,
    Kind(vg=True): 30,
    Kind(vg=True, coco="val"): 10,
    Kind(coco="train"): 14,
    Kind(coco="val"): 4,
    Kind(coco="test"): 3,
    Kind(flickr30k="train"): 8,
    Kind(flickr30k="val"): 1,
    Kind(flickr30k="test"): 1,
    Kind(coco="train", flickr30k="train"): 2,
    Kind(coco="train", flickr30k="val"): 1,
    Kind(coco="train", flickr30k="test"): 1,
    Kind(vg=True, flickr30k="train"): 1,
    Kind(vg=True, flickr30k="test"): 1,
    Kind(vg=True, coco="train", flickr30k="test"): 1,
    Kind(vg=True, flickr30k="val", told=False): 1,
    Kind(vg=True, coco="val", told=False): 1,
}

#: Shares of Visual Genome's images in GQA; the rest is in none of GQA's files.
GQA_SHARES = {"train": 0.72, "val": 0.10, "testdev": 0.02}
#: Shares of COCO's train2014 images in RefCOCO and RefCOCO+, and in RefCOCOg.
REFCOCO_SHARES = {"train": 0.43, "val": 0.04, "testA": 0.02, "testB": 0.02}
REFCOCOG_SHARES = {"train": 0.40, "val": 0.03, "test": 0.06}
#: Share of Visual Genome in PhraseCut's val and test, and of COCO in LVIS minival.
PHRASECUT_SHARE, LVIS_MINIVAL_SHARE = 0.05, 0.04
#: Share of Visual Genome's own images (in no other dataset) that have a Flickr photo id.
PHOTO_ID_SHARE = 0.5

COCO_LONGEST, FLICKR30K_LONGEST = 640, 500
VG_LONGEST = (500, 800, 1024)

#: Ids are a number times a factor modulo a prime: distinct for as many images as the prime.
COCO_IDS, VG_IDS, PHOTO_IDS = (104729, 581891), (1299709, 2417983), (2654435761, 7999999957)
MOST_IMAGES = COCO_IDS[1]

#: One prime for each decision that `_spread` makes.
_VG_SIZE, _PHOTO, _GQA, _REFCOCO, _REFCOCOG, _PHRASECUT, _LVIS = 2, 3, 5, 7, 11, 13, 17

_SLOTS = [kind for kind, share in PER_HUNDRED.items() for _ in range(share)]
#: Kinds in an order that mixes them, so that a small world has many kinds.
_CYCLE = [_SLOTS[37 * place % 100] for place in range(100)]


class SyntheticImage(NamedTuple):
    """One physical image and its names; an id of 0 or "" means: not in that dataset."""

    number: int
    coco: Split
    coco_id: int
    vg_id: int
    vg_longest: int
    vg_coco_id: int | None
    vg_flickr_id: int | None
    vg_ordinal: int
    gqa: str
    flickr30k: Split
    photo_id: int
    refcoco: str
    refcocog: str
    phrasecut: bool
    lvis_minival: bool

    @property
    def gqa_id(self) -> str:
        """GQA's name of the image: Visual Genome's id, or ``n`` and COCO's."""
        return f"n{self.coco_id}" if self.coco == "test" else str(self.vg_id)


def image(number: int, seed: int) -> SyntheticImage:
    """The image of that number, counted from 0."""
    kind = _CYCLE[number % 100]
    coco_id = _id(number, seed, COCO_IDS)
    photo_id = _id(number, seed, PHOTO_IDS)
    return SyntheticImage(
        number=number,
        coco=kind.coco,
        coco_id=coco_id,
        vg_id=_id(number, seed, VG_IDS) if kind.vg else 0,
        vg_longest=VG_LONGEST[int(3 * _spread(number, seed, _VG_SIZE))],
        vg_coco_id=coco_id if kind.coco and kind.told else None,
        vg_flickr_id=photo_id if _has_photo_id(number, seed, kind) else None,
        vg_ordinal=_images_of_vg_before(number),
        gqa=_gqa_split(number, seed, kind),
        flickr30k=kind.flickr30k,
        photo_id=photo_id,
        refcoco=_references_split(REFCOCO_SHARES, _spread(number, seed, _REFCOCO), kind),
        refcocog=_references_split(REFCOCOG_SHARES, _spread(number, seed, _REFCOCOG), kind),
        phrasecut=kind.vg and _spread(number, seed, _PHRASECUT) < PHRASECUT_SHARE,
        lvis_minival=kind.coco in ("train", "val")
        and _spread(number, seed, _LVIS) < LVIS_MINIVAL_SHARE,
    )


def _id(number: int, seed: int, ids: tuple[int, int]) -> int:
    factor, prime = ids
    return 1 + (number + 1009 * (seed + 1)) * factor % prime


def _spread(number: int, seed: int, root: int) -> float:
    """Numbers in [0, 1) that fill it evenly, unlike random ones: shares hold in small worlds.

    They rotate by the square root of ``root``; different primes give independent numbers.
    """
    return (number + 17 * seed) * sqrt(root) % 1.0


def _draw(shares: dict[str, float], position: float) -> str:
    """The name whose interval holds ``position``, or ""."""
    for name, border in zip(shares, accumulate(shares.values()), strict=True):
        if position < border:
            return name
    return ""


def _has_photo_id(number: int, seed: int, kind: Kind) -> bool:
    if not kind.told:
        return False
    return bool(kind.flickr30k) or _spread(number, seed, _PHOTO) < PHOTO_ID_SHARE


def _gqa_split(number: int, seed: int, kind: Kind) -> str:
    if kind.coco == "test":
        return "testdev"
    return _draw(GQA_SHARES, _spread(number, seed, _GQA)) if kind.vg else ""


def _references_split(shares: dict[str, float], position: float, kind: Kind) -> str:
    return _draw(shares, position) if kind.coco == "train" else ""


@cache
def _vg_before_in_cycle() -> list[int]:
    return list(accumulate((kind.vg for kind in _CYCLE), initial=0))


def _images_of_vg_before(number: int) -> int:
    before = _vg_before_in_cycle()
    return number // 100 * before[100] + before[number % 100]
