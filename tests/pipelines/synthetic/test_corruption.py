"""Corrupted records of the synthetic dataset: their shares and contents."""

import re
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.synthetic import corruption
from pipelines.synthetic.phrases import Language, Mention, Sentence
from pipelines.synthetic.scene import STYLES, make_scene
from pipelines.synthetic.visual_genome import make_phrase

few = settings(max_examples=50)


def test_shares_stay_below_the_limit_of_rejected_records() -> None:
    for shares in (
        corruption.REGIONS,
        corruption.QUESTIONS,
        corruption.REFERENCES,
        corruption.ANNOTATIONS,
        corruption.SENTENCES,
    ):
        assert sum(shares.values()) < 0.01


def test_corruptions_are_as_frequent_as_stated() -> None:
    counts = dict.fromkeys(corruption.REGIONS, 0)
    images, mean_count = 20_000, 12.0
    for ordinal in range(images):
        corrupted = corruption.plan_corruption(
            Random(ordinal), corruption.REGIONS, ordinal, mean_count, count=12
        )
        for kind in corrupted.values():
            counts[kind] += 1
    for kind, share in corruption.REGIONS.items():
        assert counts[kind] == pytest.approx(share * images * mean_count, rel=0.02)


def test_corrupted_texts() -> None:
    clean = Sentence("a red circle", [Mention([0], 2, 6, 12)])
    texts = {
        kind: corruption.corrupt_text(Random(0), clean, kind).text for kind in corruption.REGIONS
    }
    assert texts["empty phrase"] == "" and texts["ellipsis"] == "..."
    assert "\n" in texts["newline"] and "_" in texts["underscore"]
    assert " - " in texts["spaced hyphen"] and ".. " in texts["inner dots"]


def test_corrupted_boxes() -> None:
    box = (10, 20, 30, 40)
    assert corruption.corrupt_box(box, 100, 90, "zero width") == (10, 20, 0, 40)
    assert corruption.corrupt_box(box, 100, 90, "reaches outside") == (10, 20, 115, 95)
    assert corruption.corrupt_box(box, 100, 90, "negative corner") == (-6, -4, 46, 64)
    assert corruption.corrupt_box(box, 100, 90, "") == box


@few
@given(st.integers(0, 10**6), st.sampled_from(["", *corruption.REGIONS]))
def test_mentions_follow_their_words_through_every_corruption(seed: int, kind: str) -> None:
    rng = Random(seed)
    clean = make_phrase(rng, Language(make_scene(rng, STYLES["varied"])))
    corrupted = (
        corruption.corrupt_text(rng, clean, kind) if kind else corruption.make_careless(rng, clean)
    )
    if not corrupted.text.strip("."):
        assert corrupted.mentions == []
        return
    for before, after in zip(clean.mentions, corrupted.mentions, strict=True):
        noun = clean.text[before.noun_start : before.stop]
        words = corrupted.text[after.noun_start : after.stop]
        assert re.fullmatch(noun.replace(" ", r"[\s_.-]+"), words, re.IGNORECASE)
