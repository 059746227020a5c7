"""Absent phrases that name what a caption states, and more of them than a recipe asks for."""

from typing import Any

import msgspec
import pytest

from schemas import AbsentSpan, Caption, Provenance, Region, Sample
from shards.verification.datasets import datasets_of
from shards.verification.errors import ErrorKind
from shards.verification.recipe import Negatives, SampleRequirements
from shards.verification.sample_checks import check_sample, is_too_long
from tests.shards.verification.test_sample_checks import MDETR, PAPER

GQA = datasets_of({"gqa": {"questions": {}}}, [])
JOINED = SampleRequirements(
    combined=PAPER, datasets=GQA, negatives=Negatives(proven=1, unproven=1), areas_of_sources=False
)
QUESTION = "is the dog by a cat?"


def caption(text: str = f"{QUESTION} red kite. sun.", **fields: Any) -> Caption:
    """A joined caption of a question about a dog, with two absent phrases."""
    size = len(QUESTION)
    fields = {
        "regions": [Region([(7, 10)], (1, 2, 30, 40), area=1102.0)],
        "tokens_negative": [(0, size - 1), (size + 1, size + 9), (size + 11, size + 14)],
        "provenance": [Provenance("gqa", "1", (0, size))],
        "absent": [
            AbsentSpan((size + 1, size + 9), "gqa", "2", "answered no", "proven"),
            AbsentSpan((size + 11, size + 14), "vocabulary", "", "drawn", "unproven"),
        ],
    } | fields
    return Caption(text, **fields)


def messages(*captions: Caption, required: SampleRequirements = JOINED) -> dict[ErrorKind, str]:
    sample = Sample("vg/1", 100, 50, "1.jpg", list(captions))
    lines: dict[ErrorKind, str] = {}
    for error in check_sample(sample, required):
        lines[error.kind] = f"{lines.get(error.kind, '')}{error.message}; "
    return lines


def changed(index: int, **fields: Any) -> Caption:
    """Returns the caption with another absent phrase."""
    absent = caption().absent
    absent[index] = msgspec.structs.replace(absent[index], **fields)
    return caption(absent=absent)


def test_caption_with_absent_phrases_has_no_error() -> None:
    assert messages(caption()) == {}
    # They may be anywhere among its sentences.
    size = len(QUESTION)
    before = caption(
        f"red kite. {QUESTION} sun.",
        regions=[Region([(17, 20)], (1, 2, 30, 40), area=1102.0)],
        tokens_negative=[(0, 8), (10, size + 9), (size + 11, size + 14)],
        provenance=[Provenance("gqa", "1", (10, size + 10))],
        absent=[
            msgspec.structs.replace(caption().absent[0], span=(0, 8)),
            msgspec.structs.replace(caption().absent[1], span=(size + 11, size + 14)),
        ],
    )
    assert messages(before) == {}
    # A question does not state that what it asks for is there.
    text = f"{QUESTION} red cat. sun."
    absent = [
        msgspec.structs.replace(caption().absent[0], span=(size + 1, size + 8)),
        msgspec.structs.replace(caption().absent[1], span=(size + 10, size + 13)),
    ]
    negative = [(0, size - 1), *(phrase.span for phrase in absent)]
    assert messages(caption(text, absent=absent, tokens_negative=negative)) == {}


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        (caption(f"{QUESTION} red dogs. sun."), ErrorKind.ABSENT, "'dog' is there"),
        (caption(f"{QUESTION} red 1234. sun.", absent=[]), ErrorKind.COMPOSITION, "red 1234"),
        (caption(absent=caption().absent[::-1]), ErrorKind.PROVENANCE, "begins before"),
        (caption(tokens_negative=[(0, 19)]), ErrorKind.NEGATIVE, "lacks the absent"),
        (changed(0, record=""), ErrorKind.ABSENT, "is proven, of record ''"),
        (changed(1, record="7"), ErrorKind.ABSENT, "is unproven, of record '7'"),
        (changed(0, dataset="x"), ErrorKind.DATASET, "'x' of the absent phrase 'red kite'"),
        (changed(1, strength="proven", record="9"), ErrorKind.ABSENT, "2 proven ones"),
        (changed(0, span=(21, 99)), ErrorKind.PROVENANCE, "(21, 99) of 35 characters"),
        (
            caption(regions=[Region([(25, 29)], (1, 2, 30, 40), area=1102.0)]),
            ErrorKind.ABSENT,
            "has a box",
        ),
    ],
)
def test_wrong_absent_phrase_is_an_error(wrong: Caption, kind: ErrorKind, message: str) -> None:
    assert message in messages(wrong)[kind]


def test_phrase_may_be_in_an_image_once() -> None:
    assert "is 2 times in the image" in messages(caption(), caption())[ErrorKind.ABSENT]


def test_phrase_may_not_name_what_another_caption_states() -> None:
    other = Caption("a kite", [], [(2, 6)], [Provenance("gqa", "5", (0, 6))])
    assert "'kite' is there" in messages(caption(), other)[ErrorKind.ABSENT]


def test_caption_of_absent_phrases_is_one_of_the_split() -> None:
    only = Caption("sun", [], [(0, 3)], [])
    only.absent = [AbsentSpan((0, 3), "gqa", "2", "answered no", "proven")]
    separate = msgspec.structs.replace(JOINED, combined=None)
    assert messages(only, required=separate) == {}
    joined = msgspec.structs.replace(only, text="sun.")
    assert ErrorKind.COMPOSITION in messages(joined, required=separate)
    # A recipe that asks for none, and a caption without any part.
    none = msgspec.structs.replace(separate, negatives=Negatives())
    assert "at most 0" in messages(only, required=none)[ErrorKind.ABSENT]
    empty = msgspec.structs.replace(only, absent=[])
    assert messages(empty, required=separate)[ErrorKind.PROVENANCE] == "it is empty; "


def test_absent_phrases_count_for_the_length_of_a_caption() -> None:
    absent = [AbsentSpan((1, 248), "gqa", "2", "answered no", "proven")]
    long = Caption("x" * 249, [], [], [Provenance("gqa", "1", (0, 2))], absent=absent)
    assert is_too_long(long, MDETR)
    assert not is_too_long(msgspec.structs.replace(long, absent=[]), MDETR)


def test_errors_name_their_image_and_caption() -> None:
    """The most of each strength are of the whole image, and in the order of their names."""
    size = len(QUESTION)
    captions = [caption(), changed(0, span=(size + 1, size + 9), dataset="vqa")]
    captions[1].provenance[0].record = "3"
    captions[0].absent.reverse()
    errors = list(check_sample(Sample("vg/1", 100, 50, "1.jpg", captions), JOINED))
    kinds = (ErrorKind.ABSENT, ErrorKind.DATASET)
    of_absent = [error for error in errors if error.kind in kinds]
    assert {error.key for error in of_absent} == {"vg/1"}
    assert [(error.caption, error.message) for error in of_absent][-2:] == [
        (None, "2 proven ones, the recipe asks for at most 1"),
        (None, "2 unproven ones, the recipe asks for at most 1"),
    ]
    assert {error.caption for error in of_absent} == {None, 1}


def test_words_of_an_absent_phrase() -> None:
    size = len(QUESTION)
    assert (
        "'12 34 56' has no noun"
        in messages(caption(f"{QUESTION} 12 34 56. sun."))[ErrorKind.ABSENT]
    )
    partly = [(0, size - 1), (size + 1, size + 4), (size + 11, size + 14)]
    assert messages(caption(tokens_negative=partly)).keys() == {ErrorKind.NEGATIVE}
    words = [*partly, (size + 5, size + 9)]
    assert messages(caption(tokens_negative=words)) == {}
    for span in ((size, size + 1), (size + 9, size + 10)):  # beside it
        beside = [*caption().regions, Region([span], (1, 2, 30, 40), area=1102.0)]
        assert ErrorKind.ABSENT not in messages(caption(regions=beside))


def test_dataset_of_an_absent_phrase_is_known_of_closed_recipes_only() -> None:
    other = changed(0, dataset="vqa")
    assert ErrorKind.DATASET in messages(other)
    for datasets in (None, datasets_of({"gqa": {}, "custom": {}}, [])):
        required = msgspec.structs.replace(JOINED, datasets=datasets)
        assert ErrorKind.DATASET not in messages(other, required=required)
