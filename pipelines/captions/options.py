"""The rules by which sentences become captions: two named sets, each field settable in a recipe."""

from typing import Annotated, Literal

import msgspec


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How records become captions. The defaults are the set named ``paper``.

    ``conflict`` and ``threshold``: two sentences share a caption only if no pair of their boxes
    overlaps by more (MDETR appendix: GIoU > 0.5). ``length``: ``joined`` keeps the joined text
    below ``max_length`` characters; ``parts`` lets the sum of the raw parts plus 2 reach it and a
    longer single sentence pass.
    """

    conflict: Literal["giou", "iou"] = "giou"
    threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    max_length: Annotated[int, msgspec.Meta(ge=3)] = 250
    length: Literal["joined", "parts"] = "joined"
    coloring: Literal["best", "first_fit"] = "best"
    flickr30k: Literal["joined", "apart"] = "joined"  # apart: one caption a sentence
    gqa_words: Literal["object", "find"] = "object"  # whose words name a box of a GQA question
    vg_text: Literal["tokens", "characters"] = "tokens"  # how VG spans follow a clean-up
    area: Literal["box", "source"] = "box"  # source: as stated, in the source's own pixels
    boxes: Literal["clip", "as_is"] = "clip"  # clip: to the image, and empty ones are rejected
    same_photo: bool = True  # join images by Flickr photo id as well
    stop_words: str = ""  # file of one word a line; empty: the built-in list


PAPER = Rules()

MDETR = Rules(
    conflict="iou",
    length="parts",
    coloring="first_fit",
    flickr30k="apart",
    gqa_words="find",
    vg_text="characters",
    area="source",
    boxes="as_is",
    same_photo=False,
)

NAMED = {"paper": PAPER, "mdetr": MDETR}
