"""The nouns of a phrase, and the words by which captions state what an image shows."""

import pytest

from schemas import AbsentSpan, Caption, Provenance, Region
from schemas.nouns import head_nouns, present_words


@pytest.mark.parametrize(
    ("phrase", "other"),
    [
        ("dog", "two Dogs"),
        ("buses", "bus"),
        ("knife", "knives"),
        ("berry", "berries"),
        ("policemen", "policeman"),
        ("red half-circle", "circle"),
    ],
)
def test_singular_and_plural_share_a_head_noun(phrase: str, other: str) -> None:
    assert head_nouns(phrase) & head_nouns(other)


def test_adjectives_and_parts_of_words_are_no_head_noun() -> None:
    assert not head_nouns("red ball") & head_nouns("red star")
    assert not head_nouns("cart") & head_nouns("car")
    assert head_nouns("2 ...") == frozenset()


def test_words_of_a_question_are_present_only_with_a_box() -> None:
    question = "Is there a dog by the cat?"
    sentence = "a man walks his horse"
    text = f"{question} {sentence}. red star"
    end = len(question) + 1 + len(sentence)
    caption = Caption(
        text,
        regions=[Region([(22, 25)], (0, 0, 1, 1))],
        tokens_negative=[],
        provenance=[
            Provenance("gqa", "1", (0, len(question))),
            Provenance("vg", "2", (len(question) + 1, end)),
        ],
        absent=[AbsentSpan((end + 2, len(text)), "gqa", "3", "answered no", "proven")],
    )
    words = present_words([caption])
    assert {"cat", "man", "horse"} <= words
    assert words.isdisjoint({"dog", "star"})
