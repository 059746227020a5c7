"""Captions that a build combines have no errors, and texts that it would not write do."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.captions.combine import combine
from pipelines.captions.rules import MDETR, PAPER, CaptionRules
from schemas import Caption, Provenance, Region, Sample, Span
from shards.verification.caption_checks import check_composition
from shards.verification.datasets import Datasets, datasets_of
from shards.verification.errors import ErrorKind
from shards.verification.recipe import RecipeRules, SampleRequirements
from shards.verification.sample_checks import check_sample
from tests.pipelines.captions.sentences import images

OPEN = Datasets({}, is_open=True, namespaces=frozenset(), by_source={})


def requirements(rules: CaptionRules) -> SampleRequirements:
    recipe_rules = msgspec.convert(msgspec.to_builtins(rules), RecipeRules)
    return SampleRequirements(combined=recipe_rules, clipped=False, datasets=OPEN)


@settings(max_examples=150)
@given(images(), st.sampled_from([PAPER, MDETR]))
def test_combined_captions_are_joined_by_the_rule_and_cannot_be_joined_further(
    sentences: list[Caption], rules: CaptionRules
) -> None:
    sample = Sample("vg/1", 200, 200, "1.jpg", combine(sentences, rules))
    kinds = {error.kind for error in check_sample(sample, requirements(rules))}
    # Spans of this strategy may split words.
    assert kinds <= {ErrorKind.WORD}


@settings(max_examples=50)
@given(images())
def test_separate_sentences_leave_room(sentences: list[Caption]) -> None:
    """Two short sentences without boxes fit one caption."""
    free = [c for c in sentences if not c.regions and len(c.text) < 100]
    captions = [combine([caption], PAPER)[0] for caption in free]
    sample = Sample("vg/1", 200, 200, "1.jpg", captions)
    kinds = {error.kind for error in check_sample(sample, requirements(PAPER))}
    assert (ErrorKind.JOINABLE in kinds) == (len(free) > 1)


@pytest.mark.parametrize(
    ("text", "spans", "is_joined", "correct"),
    [
        ("a cat. is it red?", [(0, 5), (7, 17)], True, True),
        ("a cat. is it red?", [(0, 6), (7, 17)], True, True),  # the full stop is the sentence's
        ("a cat.", [(0, 5)], True, True),
        ("a cat", [(0, 5)], True, False),
        ("a cat. a dog", [(0, 5), (7, 12)], True, False),
        ("a cat, a dog.", [(0, 5), (7, 12)], True, False),
        ("a cat.  a dog.", [(0, 5), (8, 13)], True, False),
        ("a cat. and a dog.", [(0, 5), (11, 16)], True, False),
        (" a cat.", [(1, 6)], True, False),
        ("a cat", [(0, 5)], False, True),
        ("a cat.", [(0, 5)], False, False),
        ("a cat. a dog.", [(0, 5), (7, 12)], False, False),
        (" ", [(0, 1)], False, False),
    ],
)
def test_text_must_be_its_sentences_joined(
    text: str, spans: list[Span], is_joined: bool, correct: bool
) -> None:
    caption = Caption(text, [], [], [Provenance("vg", str(i), s) for i, s in enumerate(spans)])
    errors = list(check_composition(caption, is_joined))
    assert {kind for kind, _ in errors} == (set() if correct else {ErrorKind.COMPOSITION})


def test_datasets_follow_from_the_readers_of_the_sources() -> None:
    sources = {
        "coco": {"refs": {"refcoco": "refs(unc).p", "mine": "refs.p"}},
        "regions": {"reader": "vg"},
    }
    datasets = datasets_of(sources, ["flickr30k"])
    assert datasets.rules.keys() == {"refcoco", "mine", "vg"}
    assert datasets.namespaces == {"coco", "vg", "flickr30k"}
    assert datasets.by_source == {"coco": {"refcoco", "mine"}, "regions": {"vg"}}
    assert not datasets.is_open
    for reader in ("mdetr_json", "own.module:Reader"):
        datasets = datasets_of({**sources, "own": {"reader": reader}}, [])
        assert datasets.is_open and not datasets.rules


@pytest.mark.parametrize(
    ("spans", "is_correct"),
    [([], False), ([(0, 4)], True), ([(0, 4), (0, 4)], True), ([(0, 4), (5, 9)], False)],
)
def test_expression_has_regions_of_the_same_words(spans: list[Span], is_correct: bool) -> None:
    """Of one object in RefCOCO, of several in gRefCOCO."""
    datasets = datasets_of({"coco": {"refs": {"refcoco": "grefs(unc).json"}}}, [])
    regions = [Region([span], (i, 0, 50 + i, 50)) for i, span in enumerate(spans)]
    caption = Caption("cats left", regions, [(0, 9)], [Provenance("refcoco", "1", (0, 9))])
    sample = Sample("coco/1", 200, 200, "1.jpg", [caption])
    kinds = {error.kind for error in check_sample(sample, SampleRequirements(datasets=datasets))}
    assert kinds == (set() if is_correct else {ErrorKind.REGION_COUNT})
