"""Corrupted records and careless texts like those of the real files, inserted in known shares.

Corrupted records are rare: the shares of one source sum to less than 1 %, the default limit of
rejected records, and they are spread evenly over the images, so that a small dataset stays below
the limit as well. Careless texts are still usable, and as frequent as in Visual Genome.
"""

from math import floor
from random import Random

from pipelines.synthetic.phrases import Mention, Sentence

#: Corruptions of Visual Genome's regions, as shares of all regions.
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

#: The first records of a source are intact: one would be over 1 % of a small dataset.
INTACT_RECORDS = 1000

#: Shares of careless but usable texts in Visual Genome.
TRAILING_DOT, UPPER_START, DOUBLE_SPACE = 0.10, 0.12, 0.02
LEADING_SPACE, TRAILING_SPACE, ALL_UPPER = 0.02, 0.025, 0.004


def plan_corruption(
    rng: Random, shares: dict[str, float], ordinal: int, mean_count: float, count: int
) -> dict[int, str]:
    """Returns which of an image's records get which corruption.

    A corruption is due whenever the number of records so far passes another multiple of 1/share;
    each has a different phase.

    Args:
        rng: chooses the records.
        shares: corruption -> share of records.
        ordinal: how many images the source has before this one.
        mean_count: records of an image on average.
        count: records of this image.

    Returns:
        Index of a record -> key of ``shares``.
    """
    before, after = ordinal * mean_count, (ordinal + 1) * mean_count
    if before < INTACT_RECORDS:
        return {}
    due = [
        corruption
        for number, (corruption, share) in enumerate(shares.items())
        for phase in [number / len(shares)]
        for _ in range(floor(after * share + phase) - floor(before * share + phase))
    ]
    if not due:
        return {}
    records = rng.sample(range(count), min(len(due), count))
    return dict(zip(records, due, strict=False))


def corrupt_text(rng: Random, clean: Sentence, corruption: str) -> Sentence:
    """Returns the sentence with a corruption of its text; mentions follow their words."""
    if corruption == "empty phrase":
        return Sentence("", [])
    if corruption == "ellipsis":
        return Sentence("...", [])
    inserted = {
        "newline": "\n",
        "spaced hyphen": " - ",
        "underscore": "_",
        "inner dots": ".. ",
    }.get(corruption)
    return clean if inserted is None else _replace_a_space(rng, clean, inserted)


def corrupt_box(
    box: tuple[int, int, int, int], width: int, height: int, corruption: str
) -> tuple[int, int, int, int]:
    """Returns an (x, y, width, height) box, corrupted if the corruption is one of boxes.

    ``width`` and ``height`` are those of the image.
    """
    x, y, w, h = box
    if corruption == "zero width":
        return x, y, 0, h
    if corruption == "reaches outside":
        return x, y, width - x + 25, height - y + 25
    if corruption == "negative corner":
        return -6, -4, x + w + 6, y + h + 4
    return box


def make_careless(rng: Random, clean: Sentence) -> Sentence:
    """Returns the sentence as a hasty annotator types it; mentions follow their words."""
    careless = clean
    if rng.random() < UPPER_START:
        careless = Sentence(careless.text[:1].upper() + careless.text[1:], careless.mentions)
    elif rng.random() < ALL_UPPER:
        careless = Sentence(careless.text.upper(), careless.mentions)
    if rng.random() < DOUBLE_SPACE:
        careless = _replace_a_space(rng, careless, "  ")
    if rng.random() < LEADING_SPACE:
        shifted = [mention.shifted(1) for mention in careless.mentions]
        careless = Sentence(" " + careless.text, shifted)
    if rng.random() < TRAILING_DOT:
        careless = Sentence(careless.text + ".", careless.mentions)
    elif rng.random() < TRAILING_SPACE:
        careless = Sentence(careless.text + " ", careless.mentions)
    return careless


def _replace_a_space(rng: Random, clean: Sentence, inserted: str) -> Sentence:
    spaces = [i for i, character in enumerate(clean.text) if character == " "]
    if not spaces:
        return clean
    at = rng.choice(spaces)
    text = clean.text[:at] + inserted + clean.text[at + 1 :]
    longer = len(inserted) - 1

    def moved(offset: int) -> int:
        return offset + longer if offset > at else offset

    mentions = [
        Mention(m.objects, moved(m.start), moved(m.noun_start), moved(m.stop))
        for m in clean.mentions
    ]
    return Sentence(text, mentions)
