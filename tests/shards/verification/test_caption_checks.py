"""Captions that a build combines have no errors, and texts that it would not write do."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.captions.combine import combine
from pipelines.captions.rules import MDETR, PAPER, CaptionRules
from schemas import AbsentSpan, Box, Caption, Phrase, Provenance, Question, Region, Sample, Span
from shards.verification.caption_checks import check_caption, check_composition
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


def test_source_whose_references_are_damaged_may_make_any_dataset() -> None:
    assert datasets_of({"coco": {"refs": 7}}, []).is_open


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


# --- what sentences of a dataset have -------------------------------------------------------------


SOURCES = {
    "coco": {"refs": {"refcoco": "refs(unc).p"}},
    **{name: {} for name in ("flickr30k", "gqa", "lvis", "vg")},
}
SEPARATE = SampleRequirements(datasets=datasets_of(SOURCES, []))
JOINED = msgspec.structs.replace(SEPARATE, combined=requirements(PAPER).combined)
NOT_CLIPPED = msgspec.structs.replace(SEPARATE, clipped=False)
AS_PUBLISHED = msgspec.structs.replace(SEPARATE, words_may_be_split=frozenset(["vg"]))

BOX: Box = (10.0, 10.0, 20.0, 20.0)


def sentence(
    text: str, dataset: str, *regions: Region, negative: list[Span] | None = None, record: str = "1"
) -> Caption:
    """Returns a caption of one sentence; its negative tokens are the whole of it by default."""
    whole = (0, len(text))
    negative = [whole] if negative is None else negative
    return Caption(text, list(regions), negative, [Provenance(dataset, record, whole)])


def errors_of(
    caption: Caption, required: SampleRequirements = SEPARATE, key: str = "vg/1"
) -> list[ErrorKind]:
    return [kind for kind, _ in check_caption(Sample(key, 100, 50, "", []), caption, required)]


def test_caption_is_its_sentence() -> None:
    longer = sentence("a cat", "vg", Region([(2, 5)], BOX))
    longer.text += " sat"
    assert errors_of(longer) == [ErrorKind.COMPOSITION]
    assert errors_of(longer, SampleRequirements()) == []


def test_region_is_there_once_in_a_sentence() -> None:
    one = Region([(2, 5)], BOX, 100.0)
    others = [
        Region([(2, 5)], (10.0, 10.0, 20.0, 21.0), 100.0),
        Region([(2, 5)], BOX, 99.0),
        Region([(0, 5)], BOX, 100.0),
    ]
    assert errors_of(sentence("a cat", "vg", one, *others)) == []
    twice = sentence("a cat", "vg", one, one)
    assert errors_of(twice) == [ErrorKind.DUPLICATE_REGION]
    assert errors_of(twice, NOT_CLIPPED) == []
    assert errors_of(sentence("a cat", "vg", one, one, one)) == [ErrorKind.DUPLICATE_REGION] * 2


def test_two_sentences_may_have_equal_regions() -> None:
    """Each is of its own words."""
    provenance = [Provenance("vg", "1", (0, 6)), Provenance("vg", "2", (7, 13))]
    regions = [Region([(2, 5)], BOX), Region([(9, 12)], BOX)]
    caption = Caption("a cat. a cat.", regions, [(2, 5), (9, 12)], provenance)
    assert errors_of(caption, JOINED) == []
    caption.regions = [Region([(2, 5)], BOX)]
    assert errors_of(caption, JOINED) == [ErrorKind.REGION_COUNT]


def test_region_description_has_a_region_unless_its_words_were_not_found() -> None:
    assert errors_of(sentence("a cat", "vg")) == [ErrorKind.REGION_COUNT]
    assert errors_of(sentence("a cat", "vg", Region([], BOX))) == [ErrorKind.REGION_COUNT]
    assert errors_of(sentence("a cat", "vg", Region([], BOX)), AS_PUBLISHED) == []
    assert errors_of(sentence("a cat", "lvis", negative=[], record="1:7")) == []


def test_dataset_is_one_of_a_source() -> None:
    region = Region([(2, 5)], BOX)
    assert errors_of(sentence("a cat", "voc", region)) == [ErrorKind.DATASET]
    assert errors_of(sentence("a cat", "voc", region), SampleRequirements(datasets=OPEN)) == []
    assert errors_of(sentence("a cat", "voc", region), SampleRequirements()) == []


@pytest.mark.parametrize(
    ("text", "negative", "is_covered"),
    [
        ("is it red?", [(0, 10)], True),
        ("is it red?", [(0, 9)], True),
        ("is it red?", [(0, 5), (6, 9)], True),
        ("is it red?", [(6, 9), (0, 5)], True),
        ("is it red?", [(0, 4), (6, 9)], False),
        ("is it red?", [(1, 9)], False),
        ("is it red?", [(0, 8)], False),
        ("is it red?", [], False),
        ("(red)", [(1, 4)], True),
        ("(red)", [(2, 4)], False),
        ("(red)", [(1, 3)], False),
        ("a", [], False),
        ("??", [], True),
        ("ab", [(0, 1)], False),
        ("ab?", [(0, 2)], True),
    ],
)
def test_negative_tokens_of_a_question_cover_all_its_words(
    text: str, negative: list[Span], is_covered: bool
) -> None:
    question = sentence(text, "gqa", negative=negative)
    question.question = Question("1", "yes")
    assert errors_of(question) == ([] if is_covered else [ErrorKind.NEGATIVE])


@pytest.mark.parametrize(
    ("text", "spans", "negative", "is_covered"),
    [
        ("the red cat", [(8, 11)], [(8, 11)], True),
        ("the red cat", [(8, 11)], [(4, 11)], True),
        ("the red cat", [(4, 11)], [(4, 7), (8, 11)], True),
        ("the red cat", [(4, 7), (8, 11)], [(4, 11)], True),
        ("the red cat", [(8, 11)], [], False),
        ("the red cat", [(8, 11)], [(8, 10)], False),
        ("the red cat", [(8, 11)], [(9, 11)], False),
        ("the red cat", [(4, 11)], [(4, 7)], False),
        ("the red cat", [(4, 7), (8, 11)], [(4, 7)], False),
        # All the words of the sentence name its box as a whole.
        ("red cat", [(0, 7)], [], True),
        ("(red cat)", [(1, 8)], [], True),
        ("(red cat)", [(0, 9)], [], True),
        ("red cat", [(0, 6)], [], False),
        ("red cat", [(1, 7)], [], False),
    ],
)
def test_negative_tokens_cover_the_words_of_regions(
    text: str, spans: list[Span], negative: list[Span], is_covered: bool
) -> None:
    regions = [Region([span], BOX) for span in spans]
    caption = sentence(text, "vg", *regions, negative=negative)
    assert errors_of(caption) == ([] if is_covered else [ErrorKind.NEGATIVE])
    assert errors_of(caption, AS_PUBLISHED) == []


@pytest.mark.parametrize(
    ("negative", "missing"),
    [
        ([(2, 5), (9, 12)], 0),
        ([(0, 6), (7, 13)], 0),
        ([(2, 5)], 1),
        ([(9, 12)], 1),
        ([(0, 13)], 2),  # of both sentences, so of neither
        ([(0, 7), (6, 13)], 2),
    ],
)
def test_negative_tokens_are_those_of_the_sentence(negative: list[Span], missing: int) -> None:
    provenance = [Provenance("vg", "1", (0, 6)), Provenance("vg", "2", (7, 13))]
    regions = [Region([(2, 5)], BOX), Region([(9, 12)], BOX)]
    caption = Caption("a cat. a dog.", regions, negative, provenance)
    assert errors_of(caption, JOINED) == [ErrorKind.NEGATIVE] * missing


def test_name_of_a_class_has_no_negative_tokens() -> None:
    assert errors_of(sentence("cat", "lvis", negative=[], record="1:7")) == []
    assert errors_of(sentence("cat", "lvis", record="1:7")) == [ErrorKind.NEGATIVE]


@pytest.mark.parametrize(
    ("record", "category", "kinds"),
    [
        ("9:5", 5, []),
        ("9:5", 6, [ErrorKind.CATEGORY]),
        ("8:5", 5, [ErrorKind.PROVENANCE]),
        ("8:5", 6, [ErrorKind.PROVENANCE, ErrorKind.CATEGORY]),
    ],
)
def test_record_of_a_class_is_the_image_and_the_class(
    record: str, category: int, kinds: list[ErrorKind]
) -> None:
    region = Region([(0, 3)], BOX, category=category)
    caption = sentence("cat", "lvis", region, negative=[], record=record)
    assert errors_of(caption, key="coco/9") == kinds


def test_question_has_its_record_as_id() -> None:
    question = sentence("is it red?", "gqa")
    assert errors_of(question) == [ErrorKind.QUESTION]
    assert errors_of(question, JOINED) == []
    question.question = Question("1")
    assert errors_of(question) == []
    assert errors_of(question, JOINED) == [ErrorKind.QUESTION]
    question.question = Question("2")
    assert errors_of(question) == [ErrorKind.QUESTION]
    question.provenance[0].dataset = "voc"
    assert errors_of(question) == [ErrorKind.DATASET, ErrorKind.QUESTION]
    assert errors_of(question, SampleRequirements(datasets=OPEN)) == []


# --- phrases --------------------------------------------------------------------------------------

CLIPPED: Box = (10.0, 10.0, 100.0, 50.0)
OVER_THE_BORDER: Box = (10.0, 10.0, 120.0, 60.0)
OUTSIDE = [(110.0, 10.0, 120.0, 20.0), (10.0, 60.0, 20.0, 70.0)]


def phrase(*boxes: Box, span: Span = (2, 5)) -> Phrase:
    return Phrase([span], "7", ["animals"], list(boxes))


@pytest.mark.parametrize(
    ("phrases", "regions", "correct"),
    [
        ([phrase(BOX)], [Region([(2, 5)], BOX)], True),
        ([phrase((0.0, 0.0, 9.0, 9.0))], [Region([(2, 5)], (0.0, 0.0, 9.0, 9.0))], True),
        ([phrase(BOX, CLIPPED)], [Region([(2, 5)], CLIPPED)], True),
        ([phrase(OVER_THE_BORDER)], [Region([(2, 5)], CLIPPED)], True),
        ([phrase(OVER_THE_BORDER)], [Region([(2, 5)], OVER_THE_BORDER)], False),
        ([phrase(*OUTSIDE)], [], True),  # nothing of them is in the image
        ([phrase(BOX)], [], False),
        ([phrase()], [], False),
        ([], [Region([(2, 5)], BOX)], False),
        ([phrase(BOX)], [Region([(0, 5)], BOX)], False),
        ([phrase(BOX)], [Region([(2, 5)], CLIPPED)], False),
        (
            [phrase(BOX), phrase(CLIPPED, span=(0, 1))],
            [Region([(2, 5)], BOX), Region([(0, 1)], CLIPPED)],
            True,
        ),
        (
            [phrase(BOX), phrase(CLIPPED, span=(0, 1))],
            [Region([(2, 5)], CLIPPED), Region([(0, 1)], CLIPPED)],
            False,
        ),
        ([phrase(BOX), phrase(CLIPPED, span=(0, 1))], [Region([(2, 5), (0, 1)], BOX)], True),
        ([phrase(BOX), phrase(CLIPPED)], [Region([(2, 5)], BOX)], True),
    ],
)
def test_regions_of_a_sentence_are_the_boxes_of_its_phrases(
    phrases: list[Phrase], regions: list[Region], correct: bool
) -> None:
    caption = sentence("a cat", "flickr30k", *regions)
    caption.phrases = phrases
    assert errors_of(caption) == ([] if correct else [ErrorKind.PHRASE])


def test_boxes_of_phrases_are_clipped_as_the_rules_say() -> None:
    caption = sentence("a cat", "flickr30k", Region([(2, 5)], OVER_THE_BORDER))
    caption.phrases = [phrase(OVER_THE_BORDER, *OUTSIDE)]
    assert errors_of(caption) == [ErrorKind.PHRASE]
    assert errors_of(caption, NOT_CLIPPED) == []
    of_unknown_size = Sample("flickr30k/1", 0, 0, "", [])
    assert not list(check_caption(of_unknown_size, caption, SEPARATE))
    caption.phrases = [phrase((10.0, 10.0, 10.0, 20.0))]
    caption.regions = []
    assert errors_of(caption) == []
    assert errors_of(caption, NOT_CLIPPED) == [ErrorKind.PHRASE]


def test_phrases_are_of_sentences_that_are_not_joined() -> None:
    caption = sentence("a cat", "flickr30k", Region([(2, 5)], BOX))
    caption.phrases = [phrase(BOX)]
    assert errors_of(caption) == []
    assert errors_of(caption, JOINED) == [ErrorKind.COMPOSITION, ErrorKind.PHRASE]
    of_vg = sentence("a cat", "vg", Region([(2, 5)], BOX))
    of_vg.phrases = [phrase(BOX)]
    assert errors_of(of_vg) == [ErrorKind.PHRASE]


def messages_of(caption: Caption) -> list[str]:
    sample = Sample("vg/1", 100, 50, "", [])
    return [message for _, message in check_caption(sample, caption, SEPARATE)]


def test_message_says_what_is_wrong_with_a_question_or_several_sentences() -> None:
    asked = sentence("is it?", "gqa")
    assert messages_of(asked) == ["it has none: gqa/1"]
    of_vg = sentence("a cat", "vg", Region([(2, 5)], BOX))
    of_vg.question = Question("1", "yes")
    assert messages_of(of_vg) == ["the caption may not have one: vg/1"]
    two = [Provenance("vg", str(i), (6 * i, 6 * i + 5)) for i in range(2)]
    several = list(check_composition(Caption("a cat a dog", [], [], two), False))
    assert [message for _, message in several] == ["2 sentences, though the split is not combined"]


def test_caption_without_sentences_has_neither_a_question_nor_phrases() -> None:
    absent = AbsentSpan((0, 5), "gqa", "1", "no such object", "proven")
    without_sentences = Caption("a dog.", [], [(2, 5)], [], absent=[absent])
    for question, phrases in [(None, []), (Question("1", "yes"), []), (None, [phrase(BOX)])]:
        without_sentences.question, without_sentences.phrases = question, phrases
        kinds = [
            kind
            for kind, _ in check_caption(Sample("vg/1", 1, 1, "", []), without_sentences, JOINED)
        ]
        assert (ErrorKind.ABSENT in kinds) == (question is not None or bool(phrases))
