"""The rules by which sentences become captions: two named sets, each field settable in a recipe."""

from typing import Annotated, Literal

import msgspec


class CaptionRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rules by which sentences become captions. The defaults are the set ``paper``.

    Attributes:
        conflict, threshold: Two sentences share a caption only if no pair of their boxes overlaps
            by more (MDETR, appendix A: GIoU > 0.5).
        max_length: Characters, as ``length`` counts them.
        length: "joined": the joined caption is shorter than ``max_length``; "sentences": the
            sentences' lengths plus 2 add up to at most ``max_length``, and a longer single one
            passes.
        coloring: The algorithm in `graph_coloring` that groups sentences.
        flickr30k: Whether its sentences are joined with others, or each is a caption.
        gqa_words: Which words name a box of a GQA question: the object's own, or the first
            occurrence of its text.
        vg_text: How spans of Visual Genome follow a clean-up of the text.
        area: Of a region: of its box, or as the source states it, in pixels of the source.
        boxes: "clip": clipped to the image, empty boxes are rejected; "as_is": unchanged.
        same_photo: Whether images with the same Flickr photo id are duplicates.
        stop_words: A file with one word per line; empty: the built-in list.
    """

    conflict: Literal["giou", "iou"] = "giou"
    threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    max_length: Annotated[int, msgspec.Meta(ge=3)] = 250
    length: Literal["joined", "sentences"] = "joined"
    coloring: Literal["best", "first_fit"] = "best"
    flickr30k: Literal["joined", "separate"] = "joined"
    gqa_words: Literal["object", "find"] = "object"
    vg_text: Literal["tokens", "characters"] = "tokens"
    area: Literal["box", "source"] = "box"
    boxes: Literal["clip", "as_is"] = "clip"
    same_photo: bool = True
    stop_words: str = ""


#: The rules in the paper.
PAPER = CaptionRules()

#: The rules of the published scripts (github.com/ashkamath/mdetr, scripts/).
MDETR = CaptionRules(
    conflict="iou",
    length="sentences",
    coloring="first_fit",
    flickr30k="separate",
    gqa_words="find",
    vg_text="characters",
    area="source",
    boxes="as_is",
    same_photo=False,
)

NAMED_RULES = {"paper": PAPER, "mdetr": MDETR}
