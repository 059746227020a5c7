"""Plans the images of the synthetic dataset: the datasets that contain each, and its ids.

Everything about an image follows from its number and the seed, so that any image can be generated
independently. The shares mirror the overlaps of the real datasets: about half of Visual Genome are
COCO images, some Flickr30k photos are in COCO or in Visual Genome, and a few images are in two
datasets although no id links them.
"""

from functools import cache
from itertools import accumulate
from math import sqrt
from typing import Literal, NamedTuple

Split = Literal["", "train", "val", "test"]


class Membership(NamedTuple):
    """The datasets that contain an image; ``linked``: whether their ids show that it is one."""

    vg: bool = False
    coco: Split = ""
    flickr30k: Split = ""
    linked: bool = True


#: Images of each membership per hundred. GQA's testdev images are COCO's unpublished "test".
PER_HUNDRED: dict[Membership, int] = {
    Membership(vg=True, coco="train"): 20,
    Membership(vg=True): 30,
    Membership(vg=True, coco="val"): 10,
    Membership(coco="train"): 14,
    Membership(coco="val"): 4,
    Membership(coco="test"): 3,
    Membership(flickr30k="train"): 8,
    Membership(flickr30k="val"): 1,
    Membership(flickr30k="test"): 1,
    Membership(coco="train", flickr30k="train"): 2,
    Membership(coco="train", flickr30k="val"): 1,
    Membership(coco="train", flickr30k="test"): 1,
    Membership(vg=True, flickr30k="train"): 1,
    Membership(vg=True, flickr30k="test"): 1,
    Membership(vg=True, coco="train", flickr30k="test"): 1,
    Membership(vg=True, flickr30k="val", linked=False): 1,
    Membership(vg=True, coco="val", linked=False): 1,
}

#: Shares of Visual Genome's images in GQA; the rest is in none of GQA's files.
GQA_SHARES = {"train": 0.72, "val": 0.10, "testdev": 0.02, "test": 0.02, "challenge": 0.01}
#: Shares of COCO's train2014 images in RefCOCO and RefCOCO+, and in RefCOCOg.
REFCOCO_SHARES = {"train": 0.43, "val": 0.04, "testA": 0.02, "testB": 0.02}
REFCOCOG_SHARES = {"train": 0.40, "val": 0.03, "test": 0.06}
#: Share of Visual Genome in PhraseCut's val and test, and of COCO in LVIS minival.
PHRASECUT_SHARE, LVIS_MINIVAL_SHARE = 0.05, 0.04
#: Share of the images in Visual Genome, and in no other dataset, that have a Flickr photo id.
PHOTO_ID_SHARE = 0.5

#: Pixels of the longest side.
COCO_LONGEST, FLICKR30K_LONGEST = 640, 500
VG_LONGEST = (500, 800, 1024)

#: An id is a number times a factor modulo a prime: distinct for as many images as the prime.
COCO_IDS, VG_IDS, PHOTO_IDS = (104729, 581891), (1299709, 2417983), (2654435761, 7999999957)
MAX_IMAGES = COCO_IDS[1]

#: One prime for each use of `_spread`.
_VG_SIZE, _PHOTO, _GQA, _REFCOCO, _REFCOCOG, _PHRASECUT, _LVIS = 2, 3, 5, 7, 11, 13, 17

_SLOTS = [membership for membership, count in PER_HUNDRED.items() for _ in range(count)]
#: The memberships of images 0 to 99, shuffled so that a small dataset has many of them.
_CYCLE = [_SLOTS[37 * number % 100] for number in range(100)]


class SyntheticImage(NamedTuple):
    """One image and its ids; an id of 0 or "" means that the dataset does not contain it.

    Attributes:
        number: counted from 0.
        coco: its split of COCO 2014; "test" is the unpublished one of GQA's testdev.
        vg_longest: pixels of the longest side in Visual Genome.
        vg_coco_id: COCO's id as Visual Genome states it.
        vg_flickr_id: Flickr's photo id as Visual Genome states it.
        vg_ordinal: how many earlier images Visual Genome contains.
        gqa: its split of GQA's questions; those of test and challenge have no answers.
        flickr30k: its split of Flickr30k.
        photo_id: Flickr's photo id.
        refcoco: its split of RefCOCO and RefCOCO+.
        refcocog: its split of RefCOCOg.
        phrasecut: whether it is in PhraseCut's val or test.
        lvis_minival: whether it is in LVIS minival.
    """

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
        """GQA's id of the image: that of Visual Genome, or ``n`` and that of COCO."""
        return f"n{self.coco_id}" if self.coco == "test" else str(self.vg_id)


def plan_image(number: int, seed: int) -> SyntheticImage:
    """Returns the image of a number, counted from 0."""
    membership = _CYCLE[number % 100]
    coco_id = _id(number, seed, COCO_IDS)
    photo_id = _id(number, seed, PHOTO_IDS)
    return SyntheticImage(
        number=number,
        coco=membership.coco,
        coco_id=coco_id,
        vg_id=_id(number, seed, VG_IDS) if membership.vg else 0,
        vg_longest=VG_LONGEST[int(3 * _spread(number, seed, _VG_SIZE))],
        vg_coco_id=coco_id if membership.coco and membership.linked else None,
        vg_flickr_id=photo_id if _vg_has_photo_id(number, seed, membership) else None,
        vg_ordinal=_vg_images_before(number),
        gqa=_gqa_split(number, seed, membership),
        flickr30k=membership.flickr30k,
        photo_id=photo_id,
        refcoco=_refs_split(REFCOCO_SHARES, _spread(number, seed, _REFCOCO), membership),
        refcocog=_refs_split(REFCOCOG_SHARES, _spread(number, seed, _REFCOCOG), membership),
        phrasecut=membership.vg and _spread(number, seed, _PHRASECUT) < PHRASECUT_SHARE,
        lvis_minival=membership.coco in ("train", "val")
        and _spread(number, seed, _LVIS) < LVIS_MINIVAL_SHARE,
    )


def _id(number: int, seed: int, ids: tuple[int, int]) -> int:
    factor, prime = ids
    return 1 + (number + 1009 * (seed + 1)) * factor % prime


def _spread(number: int, seed: int, prime: int) -> float:
    """Returns numbers in [0, 1) that fill it evenly, so that shares hold in small datasets.

    The sequence rotates by the square root of ``prime``; different primes give independent ones.
    """
    return (number + 17 * seed) * sqrt(prime) % 1.0


def _draw(shares: dict[str, float], position: float) -> str:
    """Returns the name whose interval contains ``position``, or ""."""
    for name, border in zip(shares, accumulate(shares.values()), strict=True):
        if position < border:
            return name
    return ""


def _vg_has_photo_id(number: int, seed: int, membership: Membership) -> bool:
    if not membership.linked:
        return False
    return bool(membership.flickr30k) or _spread(number, seed, _PHOTO) < PHOTO_ID_SHARE


def _gqa_split(number: int, seed: int, membership: Membership) -> str:
    if membership.coco == "test":
        return "testdev"
    return _draw(GQA_SHARES, _spread(number, seed, _GQA)) if membership.vg else ""


def _refs_split(shares: dict[str, float], position: float, membership: Membership) -> str:
    return _draw(shares, position) if membership.coco == "train" else ""


@cache
def _vg_images_before_in_cycle() -> list[int]:
    return list(accumulate((membership.vg for membership in _CYCLE), initial=0))


def _vg_images_before(number: int) -> int:
    before = _vg_images_before_in_cycle()
    return number // 100 * before[100] + before[number % 100]
