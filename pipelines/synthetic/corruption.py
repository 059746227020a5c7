"""The malformed records and the sloppy texts of the real files, planted in known shares.

Malformed records are few: the shares of one source sum to less than 1 %, the default limit of
rejected records, and they are spread evenly over the images, so that a small world keeps below
the limit as well. Sloppy texts are still usable, and as frequent as in Visual Genome.
"""

from math import floor
from random import Random

from pipelines.synthetic.phrases import Mention, Sentence

#: Malformed regions of Visual Genome, as shares of all regions.
REGIONS = {
    "empty phrase": 0.0005,
    "ellipsis": 0.0005,
    "newline": 0.001,
    "spaced hyphen": 0.001,
    "underscore": 0.0005,
    "inner dots": 0.0005,
    "zero width": 0.001,
    "reaches outside": 0.001,
    "negative corner": 0.001,
}
#: Questions of GQA's train split that name an object which the scene graph does not have.
QUESTIONS = {"unknown object": 0.006}
#: Referring expressions: shares of the sentences of training images.
REFERENCES = {"empty sentence": 0.002, "unknown annotation": 0.0007}
#: Annotations of COCO.
ANNOTATIONS = {"zero area": 0.002, "crossed polygon": 0.002}
#: Sentences of Flickr30k Entities: a box of one of its phrases starts at 0.
SENTENCES = {"box at 0": 0.003}

#: About so many first records of a source have no defect: one would be over 1 % of a small world.
FREE_RECORDS = 1000

#: Sloppy but usable texts of Visual Genome.
TRAILING_DOT, UPPER_START, DOUBLE_SPACE = 0.10, 0.12, 0.02
LEADING_SPACE, TRAILING_SPACE, ALL_UPPER = 0.02, 0.025, 0.004


def plan(
    rng: Random, shares: dict[str, float], ordinal: int, average: float, count: int
) -> dict[int, str]:
    """Which of an image's ``count`` records get which defect.

    A defect is due whenever the records so far, ``average`` an image for ``ordinal`` images,
    pass another multiple of 1/share, each defect at its own phase.
    """
    before, after = ordinal * average, (ordinal + 1) * average
    if before < FREE_RECORDS:
        return {}
    due = [
        defect
        for place, (defect, share) in enumerate(shares.items())
        for phase in [place / len(shares)]
        for _ in range(floor(after * share + phase) - floor(before * share + phase))
    ]
    if not due:
        return {}
    places = rng.sample(range(count), min(len(due), count))
    return dict(zip(places, due, strict=False))


def malform_text(rng: Random, clean: Sentence, defect: str) -> Sentence:
    """The sentence with a defect of its text; mentions keep pointing at their words."""
    if defect == "empty phrase":
        return Sentence("", [])
    if defect == "ellipsis":
        return Sentence("...", [])
    inserted = {
        "newline": "\n",
        "spaced hyphen": " - ",
        "underscore": "_",
        "inner dots": ".. ",
    }.get(defect)
    return clean if inserted is None else _replace_a_space(rng, clean, inserted)


def malform_box(
    box: tuple[int, int, int, int], width: int, height: int, defect: str
) -> tuple[int, int, int, int]:
    """An (x, y, width, height) box with a defect of its place in an image of that size."""
    x, y, w, h = box
    if defect == "zero width":
        return x, y, 0, h
    if defect == "reaches outside":
        return x, y, width - x + 25, height - y + 25
    if defect == "negative corner":
        return -6, -4, x + w + 6, y + h + 4
    return box


def make_sloppy(rng: Random, clean: Sentence) -> Sentence:
    """The sentence as a hasty annotator types it; mentions keep pointing at their words."""
    sloppy = clean
    if rng.random() < UPPER_START:
        sloppy = Sentence(sloppy.text[:1].upper() + sloppy.text[1:], sloppy.mentions)
    elif rng.random() < ALL_UPPER:
        sloppy = Sentence(sloppy.text.upper(), sloppy.mentions)
    if rng.random() < DOUBLE_SPACE:
        sloppy = _replace_a_space(rng, sloppy, "  ")
    if rng.random() < LEADING_SPACE:
        shifted = [Mention(m.objects, m.start + 1, m.noun + 1, m.stop + 1) for m in sloppy.mentions]
        sloppy = Sentence(" " + sloppy.text, shifted)
    if rng.random() < TRAILING_DOT:
        sloppy = Sentence(sloppy.text + ".", sloppy.mentions)
    elif rng.random() < TRAILING_SPACE:
        sloppy = Sentence(sloppy.text + " ", sloppy.mentions)
    return sloppy


def _replace_a_space(rng: Random, clean: Sentence, inserted: str) -> Sentence:
    spaces = [i for i, character in enumerate(clean.text) if character == " "]
    if not spaces:
        return clean
    at = rng.choice(spaces)
    text = clean.text[:at] + inserted + clean.text[at + 1 :]
    longer = len(inserted) - 1

    def moved(offset: int) -> int:
        return offset + longer if offset > at else offset

    mentions = [Mention(m.objects, *map(moved, m[1:])) for m in clean.mentions]
    return Sentence(text, mentions)
