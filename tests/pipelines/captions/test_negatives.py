"""Which absent phrases an image gets, and how captions carry them."""

from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.captions.combine import combine
from pipelines.captions.negatives import (
    IS_AMBIGUOUS,
    IS_PRESENT,
    MAX_PHRASES,
    NO_NOUN,
    ChosenPhrases,
    SourcedPhrase,
    Vocabulary,
    VocabularyCounts,
    absent_caption,
    choose_absent,
    stated_words,
    vocabulary_phrase,
)
from pipelines.captions.rules import MDETR, PAPER
from schemas import (
    AbsentPhrase,
    Caption,
    GroundedCaption,
    ImageRecord,
    Provenance,
    Question,
    Region,
    Span,
)
from schemas.nouns import present_words, word_forms
from schemas.sentences import as_sentence
from tests.pipelines.captions.sentences import caption

NOUNS = ("dog", "dogs", "car", "bus", "star", "man", "woman", "sofa", "couch", "glass")
#: What each noun means, for an oracle that does not use the rule's code.
CONCEPTS = {"dogs": "dog", "woman": "man", "couch": "sofa"}
SYNONYMS = {"sofa": ["couch"]}


def phrases() -> st.SearchStrategy[str]:
    adjectives = st.sampled_from(["", "red ", "big red "])
    return st.tuples(adjectives, st.sampled_from(NOUNS)).map("".join)


def stated(*texts: str) -> list[SourcedPhrase]:
    return [
        SourcedPhrase("gqa", AbsentPhrase(text, "gqa", str(number), "answered no"))
        for number, text in enumerate(texts)
    ]


def vocabulary(**counts: int) -> Vocabulary:
    return Vocabulary(VocabularyCounts(counts, SYNONYMS))


def choose(
    texts: list[str], captions: list[Caption], names: tuple[str, ...] = (), **options: Any
) -> ChosenPhrases:
    options = {"proven": 100, "unproven": 0, "seed": "coco/1"} | options
    words = vocabulary(**dict.fromkeys(NOUNS, 3))
    present = present_words(captions).union(*map(word_forms, names))
    return choose_absent(stated(*texts), present, words, **options)


def concept(phrase: str) -> str:
    noun = phrase.rpartition(" ")[2].casefold()
    return CONCEPTS.get(noun, noun)


@given(
    texts=st.lists(phrases(), max_size=8),
    shown=st.lists(phrases(), max_size=4),
    names=st.lists(st.sampled_from(NOUNS), max_size=2),
    proven=st.integers(0, 4),
    unproven=st.integers(0, 4),
)
def test_absent_phrase_never_names_what_the_image_shows(
    texts: list[str], shown: list[str], names: list[str], proven: int, unproven: int
) -> None:
    captions = [caption(text, (0, 0, 9, 9), record=text) for text in shown]
    options: dict[str, Any] = {"proven": proven, "unproven": unproven}
    chosen = choose(texts, captions, tuple(names), **options)
    assert chosen == choose(texts, captions, tuple(names), **options)

    present = {concept(text) for text in (*shown, *names)}
    chosen_texts = [sourced.phrase.text for sourced in chosen.proven]
    drawn = [phrase.text for phrase in chosen.unproven]
    assert present.isdisjoint(map(concept, [*chosen_texts, *drawn]))
    assert len(chosen_texts) <= proven and len(drawn) <= unproven
    # No two that are drawn, nor one drawn and one stated, are about one object.
    possible = {concept(t) for t in texts} - present
    assert len(set(map(concept, drawn))) == len(drawn)
    assert possible.isdisjoint(map(concept, drawn))
    # Every phrase that was stated has one outcome.
    rejected = [sourced for sourced, _ in chosen.rejected]
    outcomes = [*chosen.proven, *chosen.merged, *chosen.left_out, *rejected]
    records = [sourced.phrase.record for sourced in outcomes]
    assert sorted(records, key=int) == [str(number) for number in range(len(texts))]
    assert {s.phrase.text for s in rejected} == {t for t in texts if concept(t) in present}
    assert not chosen.left_out or len(chosen_texts) == proven


@given(
    sentences=st.lists(phrases(), min_size=1, max_size=30, unique=True),
    absent=st.lists(st.text("abc ", min_size=1, max_size=40).map(lambda t: f"x{t}y"), max_size=30),
)
def test_captions_carry_absent_phrases(sentences: list[str], absent: list[str]) -> None:
    """Without boxes, at their spans, within the length of the rules, each once."""
    captions = [caption(text, (0, 0, 9, 9), record=text) for text in sentences]
    captions += [absent_caption(phrase) for _, phrase in stated(*absent)]
    for rules in (PAPER, MDETR):
        combined = combine(captions, rules)
        carried = [each.text[slice(*phrase.span)] for each in combined for phrase in each.absent]
        assert sorted(carried) == sorted(absent)
        for each in combined:
            spans = sorted(part.span for part in (*each.provenance, *each.absent))
            texts = [each.text[slice(*span)] for span in spans]
            joined = rules.length == "joined"
            length = len(each.text) + 1 if joined else sum(map(len, texts)) + 2
            assert length <= rules.max_length
            assert each.text == " ".join(map(as_sentence, texts))
            for phrase in each.absent:
                covered = {i for a, b in each.tokens_negative for i in range(a, b)}
                letters = [i for i in range(*phrase.span) if each.text[i].isalnum()]
                assert covered.issuperset(letters)
                spans = [span for region in each.regions for span in region.spans]
                assert all(b <= phrase.span[0] or phrase.span[1] <= a for a, b in spans)


@pytest.mark.parametrize("apart", [True, False])
def test_place_of_a_phrase_does_not_tell_that_it_is_absent(apart: bool) -> None:
    """It is any caption that has room, or one of its own, and any part of it."""
    places: Counter[tuple[int, int]] = Counter()  # sentences before it, and after it
    for number in range(800):
        left = 9 if apart else 0
        captions = [
            caption(f"{number} dog {i}", (left * i, 0, left * i + 8, 9), record=str(i))
            for i in range(3)
        ]
        captions.append(caption("z" * 244, (0, 0, 99, 99)))  # without room
        phrase = absent_caption(stated("red kite")[0].phrase)
        without, combined = combine(captions, PAPER), combine([*captions, phrase], PAPER)
        assert combined == combine([*captions, phrase], PAPER)
        [chosen] = (each for each in combined if each.absent)
        sentences = [chosen.text[slice(*origin.span)] for origin in chosen.provenance]
        assert (
            " ".join(map(as_sentence, sentences)) in [each.text for each in without]
            or not sentences
        )
        others = [each for each in combined if not each.absent]
        assert all(each in without for each in others)
        assert len(combined) == len(without) + (not sentences)
        before = sum(origin.span < chosen.absent[0].span for origin in chosen.provenance)
        places[before, len(sentences) - before] += 1
    single = {(0, 0): 200, (0, 1): 300, (1, 0): 300}
    joined = {(0, 0): 400, (0, 3): 100, (1, 2): 100, (2, 1): 100, (3, 0): 100}
    expected = joined if apart else single
    assert places.keys() == expected.keys()
    assert all(0.7 < places[place] / count < 1.3 for place, count in expected.items())


def test_proven_phrase_that_another_source_shows_is_rejected_with_its_reason() -> None:
    captions = [
        Caption("a man on a couch", [], [], [Provenance("vg", "7", (0, 16))]),
        Caption("Is there a car?", [], [], [Provenance("gqa", "8", (0, 15))]),
    ]
    texts = ["sofas", "women", "car", "dog", "3", "y" * 101]
    bow = SourcedPhrase("lvis", AbsentPhrase("bow", "lvis", "1:5", "", is_ambiguous=True))
    present = present_words(captions) | {"dog"}
    chosen = choose_absent(
        [*stated(*texts), bow], present, vocabulary(), proven=100, unproven=0, seed="coco/1"
    )
    assert [s.phrase.text for s in chosen.proven] == ["car"]
    assert [(s.phrase.text[:5], reason) for s, reason in chosen.rejected] == [
        ("sofas", IS_PRESENT),
        ("women", IS_PRESENT),
        ("dog", IS_PRESENT),
        ("3", NO_NOUN),
        ("yyyyy", NO_NOUN),
        ("bow", IS_AMBIGUOUS),
    ]


def test_no_word_of_a_drawn_phrase_states_what_the_image_shows() -> None:
    """Nor a synonym of it; a proven one is compared by its noun."""
    words = vocabulary(**{"man rider": 1, "sofa cover": 1, "white kite": 1, "tall tower": 1})
    record = ImageRecord("coco/1", "vg", "train", [statement("a boy near a white couch")])
    options: dict[str, Any] = {"proven": 9, "unproven": 9, "seed": "coco/1"}
    chosen = choose_absent(stated("white bird"), stated_words([record]), words, **options)
    assert [phrase.text for phrase in chosen.unproven] == ["tall tower"]
    assert [sourced.phrase.text for sourced in chosen.proven] == ["white bird"]


def statement(text: str, *spans: Span, question: Question | None = None) -> GroundedCaption:
    regions = [Region([span], (0, 0, 9, 9)) for span in spans]
    return GroundedCaption(text, regions, [], "vg", text, question=question)


def test_captions_and_names_of_objects_state_what_an_image_shows() -> None:
    """A question states no more than what its boxes name."""
    captions = [statement("two dogs"), statement("Is the cat near a bus?", (7, 10))]
    records = [
        ImageRecord("coco/1", "vg", "train", captions),
        ImageRecord("coco/1", "gqa", "", names=["fire hydrant"]),
    ]
    words = stated_words(records)
    assert {"two", "dog", "cat", "fire", "hydrant"} <= words
    assert words.isdisjoint({"bus", "is", "near"})


def test_frequent_phrases_are_drawn_more_often() -> None:
    words = vocabulary(dog=9, car=1)
    rng = Random(0)
    counts = Counter(words.draw(rng) for _ in range(2000))
    assert 1700 < counts["dog"] < 1900


def test_vocabulary_depends_neither_on_slices_nor_on_their_order() -> None:
    slices = [{"dog": 2, "car": 1}, {"car": 1}, {"bus": 3, **{f"x{i}": 1 for i in range(6000)}}]
    totals = []
    for order in (slices, slices[::-1]):
        total = VocabularyCounts()
        for counts in order:
            total.merge(VocabularyCounts(dict(counts), {"sofa": ["couch"]}))
        totals.append(total.most_frequent())
    assert totals[0] == totals[1]
    assert list(totals[0].phrases)[:3] == ["bus", "car", "dog"]
    assert len(totals[0].phrases) == MAX_PHRASES
    assert totals[0].synonyms == {"sofa": ["couch"]}


@pytest.mark.parametrize(
    ("text", "spans", "phrase"),
    [
        ("Two Red Cars!", [(0, 12)], "red cars"),
        ("a man in a hat", [(0, 14)], ""),  # two nouns
        ("left dog", [(0, 8)], ""),
        ("some food", [(0, 9)], ""),  # hardly ever absent
        ("the very old tall tower", [(4, 23)], ""),  # too long
        ("red, the car", [(0, 3), (9, 12)], ""),  # not one phrase
        ("chien \u00e9t\u00e9", [(0, 9)], ""),
        ("the", [(0, 3)], ""),
        ("the man sitting", [(0, 15)], ""),  # ends in no noun
        ("zebra closest", [(0, 13)], ""),
        ("the white one", [(0, 13)], ""),
        ("light blue", [(0, 10)], ""),
        ("white dog", [(0, 9)], "white dog"),
    ],
)
def test_vocabulary_has_noun_phrases(text: str, spans: list[Span], phrase: str) -> None:
    assert vocabulary_phrase(text, spans) == phrase
    counts = VocabularyCounts()
    counts.add_captions([GroundedCaption(text, [Region(spans, (0, 0, 1, 1))], [], "vg", "1")])
    assert counts.phrases == ({phrase: 1} if phrase else {})
