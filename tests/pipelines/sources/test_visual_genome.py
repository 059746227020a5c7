"""Visual Genome: the published results under ``mdetr`` rules, no lost regions under ``paper``."""

import gzip
import json
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.captions.parsing import shared_parser
from pipelines.captions.rules import MDETR, PAPER, CaptionRules
from pipelines.captions.stop_words import STOP_WORDS, parse_stop_words
from pipelines.captions.text_cleanup import clean
from pipelines.io.slices import Input, Slice
from pipelines.sources.base import Context
from pipelines.sources.visual_genome import boxes
from pipelines.sources.visual_genome.boxes import average_overlapping
from pipelines.sources.visual_genome.deduplication import deduplicate_captions
from pipelines.sources.visual_genome.published_text_rules import PublishedTextRules
from pipelines.sources.visual_genome.reader import VisualGenome
from pipelines.sources.visual_genome.regions import (
    RawRegion,
    RegionCaption,
    RejectedRegion,
    check_region,
    preprocess_region,
)
from pipelines.sources.visual_genome.text_rules import TextRules, TokenTextRules
from schemas import ImageInfo, ImageRecord, Rejected, Synonyms
from tests.pipelines.sources.conservation import conserved

SOURCE = VisualGenome(image_data="image_data.json", region_graphs="region_graphs.json")
PARSER = shared_parser()
IMAGES_PER_SLICE = 250


@pytest.fixture(scope="session")
def published_stop_words(reference: Path) -> frozenset[str]:
    return parse_stop_words((reference / "golden" / "mixed" / "stopwords.txt").read_text())


@pytest.fixture(scope="session")
def golden_regions(reference: Path) -> dict[str, Any]:
    path = reference / "golden" / "functions" / "vg_regions.json.gz"
    return json.loads(gzip.decompress(path.read_bytes()))


@pytest.fixture(scope="session")
def raw_images(golden_raw: Path) -> list[dict[str, Any]]:
    return json.loads((golden_raw / "vg" / "region_graphs.json").read_bytes())


def read(
    images: list[Any], rules: CaptionRules, stop_words: Iterable[str] = STOP_WORDS
) -> tuple[list[ImageRecord], list[Rejected]]:
    context = Context(rules, ("train",), PARSER, frozenset(stop_words))
    records: list[ImageRecord] = []
    rejected: list[Rejected] = []
    for first in range(0, len(images), IMAGES_PER_SLICE):
        content = json.dumps(images[first : first + IMAGES_PER_SLICE]).encode()
        raw_slice = Slice(Input("region_graphs.json", "list"), content)
        for result in conserved(SOURCE.read(raw_slice, context)):
            if isinstance(result, ImageRecord):
                records.append(result)
            else:
                rejected.append(result)
    return records, rejected


def as_lists(spans: Iterable[tuple[int, int]]) -> list[list[int]]:
    return [list(span) for span in spans]


# --- the results of the published code ------------------------------------------------------------


def as_published(caption: RegionCaption) -> dict[str, Any]:
    return {
        "caption": caption.text,
        "original_region_id": caption.region_ids[0],
        "boxes": [list(box) for box in caption.boxes],
        "tokens_positive": [as_lists(spans) for spans in caption.spans],
        "tokens_negative": as_lists(caption.tokens_negative),
        "found_objects": caption.has_objects,
    }


def text_rules(
    rules: type[TokenTextRules] | type[PublishedTextRules],
    captions: Iterable[str],
    stop_words: Iterable[str],
) -> TextRules:
    texts = (text for caption in captions for text in rules.texts_to_parse(caption))
    return rules(PARSER(texts), stop_words)


def preprocess(region: RawRegion, rules: TextRules) -> RegionCaption | RejectedRegion:
    caption = clean(region.phrase)
    return check_region(region, caption) or preprocess_region(region, caption, rules)


def test_single_regions_and_deduplication_equal_the_published_results(
    golden_regions: dict[str, Any], published_stop_words: frozenset[str]
) -> None:
    by_image: dict[str, list[RegionCaption]] = {}
    for row in golden_regions["preprocess_region"]:
        region = msgspec.convert(row["input"], RawRegion)
        rules = text_rules(PublishedTextRules, [clean(region.phrase)], published_stop_words)
        result = preprocess(region, rules)
        if isinstance(result, RegionCaption):
            del row["output"]["original_image_id"]
            assert as_published(result) == row["output"]
            by_image.setdefault(row["image"], []).append(result)
        else:  # the published code accepts a caption of only dots, and then crashes on it
            assert row["output"] == {"raises": "PreprocessError"} or result.reason == "no words"

    assert sum(map(len, by_image.values())) == 440
    for row in golden_regions["deduplicate_regions"]:
        captions = by_image.get(row["image"], [])
        if isinstance(row["output"], dict):
            assert row["output"] == {"raises": "IndexError"} and not captions
            continue
        texts = [caption.text for caption in captions]
        rules = text_rules(PublishedTextRules, texts, published_stop_words)
        merged, _ = deduplicate_captions(captions, rules)
        for expected in row["output"]:
            del expected["original_image_id"]
        assert [as_published(caption) for caption in merged] == row["output"]


def test_canonical_text_equals_the_published_results(
    reference: Path, published_stop_words: frozenset[str]
) -> None:
    path = reference / "golden" / "functions" / "text_phrases.json.gz"
    failed = 0
    for row in json.loads(gzip.decompress(path.read_bytes()))["rows"]:
        phrase = row["phrase"]
        texts = PublishedTextRules.texts_to_parse(phrase)
        rules = PublishedTextRules(PARSER(texts), published_stop_words)
        spans = [
            [(start, stop) for start, stop in box_spans] for box_spans in row["canonical_input"]
        ]
        canonical = rules.canonical(phrase, spans)
        assert " ".join(rules.content_lemmas(phrase) or ()) == row["normalize_sentence"]
        if canonical is None:
            assert row["canonical"] == {"raises": "PreprocessError"}
            failed += 1
        else:
            canonical_spans, text = canonical
            assert [list(map(as_lists, canonical_spans)), text] == row["canonical"]
    assert failed == 28


# --- the rules named paper ------------------------------------------------------------------------


def assert_nothing_lost(
    images: list[dict[str, Any]], records: list[ImageRecord], rejected: list[Rejected]
) -> None:
    used = sum(len(record.captions) + record.merged for record in records)
    assert used + len(rejected) == sum(len(image["regions"]) for image in images)


def test_deduplication_is_idempotent(raw_images: list[dict[str, Any]]) -> None:
    raw = msgspec.convert([image["regions"] for image in raw_images[:60]], list[list[RawRegion]])
    texts = (clean(region.phrase) for regions in raw for region in regions)
    rules = text_rules(TokenTextRules, texts, STOP_WORDS)
    for regions in raw:
        results = [preprocess(region, rules) for region in regions]
        captions = [result for result in results if isinstance(result, RegionCaption)]
        once, _ = deduplicate_captions(captions, rules)
        twice, rejected = deduplicate_captions(once, rules)
        assert not rejected
        assert [as_published(caption) | {"found_objects": None} for caption in twice] == [
            as_published(caption) | {"found_objects": None} for caption in once
        ]


NOUNS = ("man", "dog", "kite", "tree", "sign", "zebra", "clock", "table", "window", "boat")
WORDS = st.lists(st.sampled_from(NOUNS), min_size=1, max_size=6, unique=True)
GAPS = st.sampled_from(
    (" ", " ", " ", "  ", "_", "\n", " \t ", " - ", ", ", "..", "  on  ", " near a ", "'s ", " -- ")
)
STARTS = st.sampled_from(("", " ", "  ", "\n", "..", " the ", "A ", " - "))
ENDS = st.sampled_from(("", " ", "\n", "..", " the", "...", ". A ", " - "))
PLACES = st.integers(0, 3)


@st.composite
def regions(draw: st.DrawFn) -> dict[str, Any]:
    """A messy phrase with an object for each noun, whose boxes differ in width."""
    words = draw(WORDS)
    phrase = draw(STARTS)
    objects, synsets = [], []
    place = draw(PLACES)
    for i, word in enumerate(words):
        phrase += draw(GAPS) if i else ""
        name = f"{word}.n.01"
        objects.append(box_at(place, 10 + NOUNS.index(word)) | {"synsets": [name]})
        synsets.append({
            "entity_idx_start": len(phrase),
            "entity_idx_end": len(phrase) + len(word),
            "entity_name": word,
            "synset_name": name,
        })  # fmt: skip
        phrase += draw(st.sampled_from((word, word.upper())))
    x, y, w, h = box_at(place, 90).values()
    return {
        "region_id": draw(st.integers(1, 10**6)),
        "phrase": phrase + draw(ENDS),
        "x": x, "y": y, "width": w, "height": h,
        "objects": objects,
        "synsets": synsets,
    }  # fmt: skip


def box_at(place: int, width: int) -> dict[str, float]:
    """Returns a box at one of several locations, identified by its width."""
    return {"x": 1000 * place + 100 * (width - 10), "y": 0, "w": width, "h": 50}


@settings(max_examples=150, deadline=None)
@given(regions())
def test_spans_cover_the_annotated_words_after_cleanup(region: dict[str, Any]) -> None:
    [record], rejected = read([{"image_id": 1, "regions": [region]}], PAPER)
    [caption] = record.captions
    assert not rejected
    assert caption.text == clean(region["phrase"])
    for obj, synset in zip(region["objects"], region["synsets"], strict=True):
        corners = (obj["x"], 0, obj["x"] + obj["w"], 50)
        [named] = [r for r in caption.regions if r.box == corners]
        assert any(
            synset["entity_name"] in caption.text[start:stop].lower() for start, stop in named.spans
        )
        for start, stop in named.spans:
            before, after = caption.text[:start][-1:], caption.text[stop:][:1]
            assert not (before.isalnum() and caption.text[start].isalnum())
            assert not (after.isalnum() and caption.text[stop - 1].isalnum())


@settings(max_examples=100, deadline=None)
@given(st.lists(regions(), max_size=6), st.sampled_from((PAPER, MDETR)))
def test_every_region_is_captioned_merged_or_rejected(
    regions: list[dict[str, Any]], rules: CaptionRules
) -> None:
    images = [{"image_id": 1, "regions": regions}]
    records, rejected = read(images, rules)
    assert_nothing_lost(images, records, rejected)


@settings(max_examples=50, deadline=None)
@given(regions(), st.integers(2, 5))
def test_duplicate_regions_become_one_caption(region: dict[str, Any], copies: int) -> None:
    [one], _ = read([{"image_id": 1, "regions": [region]}], PAPER)
    [many], rejected = read([{"image_id": 1, "regions": [region] * copies}], PAPER)
    assert not rejected
    assert many.merged == copies - 1
    assert [caption.text for caption in many.captions] == [one.captions[0].text]
    assert Counter(str(region.box) for region in many.captions[0].regions) == Counter(
        str(region.box) for region in one.captions[0].regions
    )


def region(phrase: str, *named: tuple[str, tuple[float, float, float, float]]) -> dict[str, Any]:
    """Returns a region with an object for each named word; its own box is far from theirs."""
    objects = [{"x": x, "y": y, "w": w, "h": h, "synsets": [word]} for word, (x, y, w, h) in named]
    synsets = [
        {
            "entity_idx_start": phrase.index(word),
            "entity_idx_end": phrase.index(word) + len(word),
            "synset_name": word,
        }
        for word, _ in named
    ]
    box = {"x": 500, "y": 500, "width": 50, "height": 50}
    return {"region_id": 7, "phrase": phrase, "objects": objects, "synsets": synsets} | box


def captions_of(*raw: dict[str, Any]) -> list[tuple[str, list[tuple[Any, list[str]]]]]:
    [record], _ = read([{"image_id": 1, "regions": list(raw)}], PAPER)
    return [
        (c.text, [(r.box, [c.text[slice(*span)] for span in r.spans]) for r in c.regions])
        for c in record.captions
    ]


def test_root_and_other_phrases_get_their_objects() -> None:
    [(text, boxes_and_words)] = captions_of(
        region("a man near a red kite", ("man", (0, 0, 10, 10)), ("kite", (90, 0, 5, 5)))
    )
    assert text == "a man near a red kite"
    assert boxes_and_words == [((0, 0, 10, 10), ["a", "man"]), ((90, 0, 95, 5), ["kite"])]


def test_root_without_object_gets_the_region_box() -> None:
    [(_, boxes_and_words)] = captions_of(region("a man near a red kite", ("kite", (90, 0, 5, 5))))
    assert boxes_and_words == [((500, 500, 550, 550), ["a", "man"]), ((90, 0, 95, 5), ["kite"])]


def test_synset_beyond_the_phrase_is_ignored() -> None:
    raw = region("a man near a red kite", ("kite", (90, 0, 5, 5)))
    raw["synsets"][0] |= {"entity_idx_start": 17, "entity_idx_end": 44}
    [(_, boxes_and_words)] = captions_of(raw)
    assert boxes_and_words == [((500, 500, 550, 550), ["a", "man"])]


def test_possessives_do_not_shift_content_masks() -> None:
    kite = (90.0, 0.0, 50.0, 50.0)
    near = (92.0, 0.0, 50.0, 50.0)
    merged = captions_of(
        region("the man's dog near a kite", ("kite", kite)),
        region("a man's dog near kites", ("kite", near)),
    )
    # The second has fewer words; both have two boxes, and the later one is kept in ties.
    assert [text for text, _ in merged] == ["a man's dog near kites"]
    assert merged[0][1][1][0] == (91, 0, 141, 50)


def test_root_that_is_punctuation_gets_the_whole_text() -> None:
    raw = region("# of a bus", ("bus", (90, 0, 5, 5)))
    [(_, boxes_and_words)] = captions_of(raw)
    assert boxes_and_words == [((500, 500, 550, 550), ["of a bus"]), ((90, 0, 95, 5), ["bus"])]
    [record], _ = read([{"image_id": 1, "regions": [raw]}], MDETR)
    assert [region.spans for region in record.captions[0].regions] == [[], [(7, 10)]]


def test_same_words_with_distant_boxes_are_not_merged() -> None:
    captions = captions_of(
        region("the man", ("man", (0, 0, 10, 10))), region("a man", ("man", (50, 0, 10, 10)))
    )
    assert [text for text, _ in captions] == ["the man", "a man"]


def test_prepositions_of_place_are_compared() -> None:
    kite = (90.0, 0.0, 50.0, 50.0)
    captions = captions_of(
        region("kite above the tree", ("kite", kite)), region("kite below the tree", ("kite", kite))
    )
    assert len(captions) == 2


def test_overlapping_boxes_are_averaged() -> None:
    boxes = [(0.0, 0.0, 10.0, 10.0), (1.0, 0.0, 10.0, 10.0), (100.0, 0.0, 3.0, 3.0)]
    assert average_overlapping(boxes, 0.7) == [(0.5, 0, 10, 10), (100, 0, 3, 3)]
    assert average_overlapping(boxes[:2], 0.9) == boxes[:2]
    assert average_overlapping([boxes[0]], 0.7) == [boxes[0]]
    empty = (5.0, 5.0, 0.0, 0.0)  # whose IoU is NaN
    assert average_overlapping([empty, empty], 0.7) == [empty, empty]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(0, 3) | st.floats(-2, 3, width=32)] * 4), min_size=1),
    st.sampled_from((0.1, 0.5, 0.75)),
)
def test_pairwise_overlaps_equal_single_comparisons(
    values: list[tuple[float, float, float, float]], threshold: float
) -> None:
    assert boxes.pairwise_overlaps(values, values, threshold).tolist() == [
        [not boxes.iou_excess(a, b, threshold) < 0 for b in values] for a in values
    ]


@pytest.mark.parametrize("rules", [PAPER, MDETR])
def test_block_comparison_equals_the_loop(
    raw_images: list[dict[str, Any]], rules: CaptionRules, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = raw_images[:150]
    expected = read(images, rules)
    monkeypatch.setattr(boxes, "LOOP_LIMIT", 0)
    monkeypatch.setattr(boxes, "BLOCK_SIZE", 5)
    assert read(images, rules) == expected


def spread_regions(regions: int) -> list[dict[str, Any]]:
    """Regions with the same words, all in different places; every second one has an object."""
    men = []
    for i in range(regions):
        x, y = 300.0 * (i % 70), 300.0 * (i // 70)
        named = [("man", (x, y, 20.5, 30.5))] if i % 2 else []
        men.append(region("a man near a red kite", *named) | {"region_id": i, "x": x, "y": y})
    return men


@pytest.mark.parametrize("rules", [PAPER, MDETR])
def test_5000_regions_of_one_phrase_take_seconds(rules: CaptionRules) -> None:
    """In a loop, 5,000 take half a minute; the margin is for other work on the machine."""
    images = [{"image_id": 1, "regions": spread_regions(5000)}]
    read([{"image_id": 1, "regions": spread_regions(1)}], rules)  # loads the language model
    started = time.process_time()
    [record], rejected = read(images, rules)
    assert time.process_time() - started < 8
    assert not rejected
    assert len(record.captions) + record.merged == 5000


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"x": 1e300}, "bad box"),
        ({"width": -3e38}, "bad box"),
        ({"y": "12"}, "malformed record"),
        ({"height": None}, "malformed record"),
        ({"phrase": 5}, "malformed record"),
        ({"synsets": {}}, "malformed record"),
        ({"objects": [{"x": 1e40, "y": 0, "w": 1, "h": 1, "synsets": []}]}, "bad box"),
        ({"phrase": "..."}, "no words"),
        ({"phrase": " \n "}, "caption too short"),
        ({"phrase": "ab"}, "caption too short"),
        ({"phrase": "x " * 1001}, "caption too long"),
        ({"phrase": "(" * 251 + " dog"}, "caption too long"),
        ({"phrase": "the wall on the side of the building"}, "uninformative"),
    ],
)
@pytest.mark.parametrize("rules", [PAPER, MDETR])
def test_bad_region_costs_only_itself(
    change: dict[str, Any], reason: str, rules: CaptionRules
) -> None:
    good, bad = region("a man", ("man", (0, 0, 10, 10))), region("a dog") | change
    images = [
        {"image_id": 1, "regions": [good]},
        {"image_id": 2, "regions": [good, bad, region("a kite")]},
    ]
    # "on" is one of the published stop words, which the uninformative caption needs.
    records, rejected = read(images, rules, STOP_WORDS | {"on"})
    assert [(p.image, [c.text for c in p.captions]) for p in records] == [
        ("vg/1", ["a man"]),
        ("vg/2", ["a man", "a kite"]),
    ]
    [rejection] = rejected
    assert (rejection.source, rejection.reason, rejection.image) == ("vg", reason, "vg/2")


@pytest.mark.parametrize(
    ("field", "value"), [("region_id", 2**70), ("region_id", 2**63), ("image_id", 2**70)]
)
def test_ids_beyond_64_bits_are_rejected(field: str, value: int) -> None:
    bad = {"image_id": 2, "regions": [region("a dog") | {field: value}]}
    if field == "image_id":
        bad["image_id"] = value
    records, [rejection] = read([{"image_id": 1, "regions": [region("a man")]}, bad], PAPER)
    assert [record.image for record in records] == ["vg/1"]
    assert rejection.reason == "malformed record"


def test_invalid_utf8_costs_only_its_record() -> None:
    images = [
        {"image_id": 1, "regions": [region("a man")]},
        {"image_id": 2, "regions": [region("a dog"), region("a SPOILED kite"), region("a tree")]},
        {"image_id": "SPOILED", "regions": [region("a clock")]},
    ]
    content = json.dumps(images).encode().replace(b"SPOILED", b"\xff")
    context = Context(PAPER, ("train",), PARSER, STOP_WORDS)
    raw_slice = Slice(Input("/folder/region_graphs.json", "list"), content)
    results = conserved(SOURCE.read(raw_slice, context))
    records = [result for result in results if isinstance(result, ImageRecord)]
    rejected = [result for result in results if isinstance(result, Rejected)]
    assert [(p.image, [c.text for c in p.captions]) for p in records] == [
        ("vg/1", ["a man"]),
        ("vg/2", ["a dog", "a tree"]),
    ]
    assert {(r.record, r.image, r.reason) for r in rejected} == {
        ("2/regions/1", "vg/2", "malformed record"),
        ("2", "", "malformed record"),
    }
    assert all(r.detail.startswith("region_graphs.json: ") for r in rejected)


def test_bad_image_costs_only_itself() -> None:
    images = [
        {"image_id": 1, "regions": [region("a man")]},
        {"regions": []},
        {"image_id": 3, "regions": "none"},
        "no image",
    ]
    records, rejected = read(images, PAPER)
    assert [record.image for record in records] == ["vg/1"]
    assert [rejection.reason for rejection in rejected] == ["malformed record"] * 3
    assert "`regions`" in rejected[0].detail or "image_id" in rejected[0].detail


def test_bad_description_costs_only_itself() -> None:
    good = {"id": 7, "phrase": "a man", "x": 1, "y": 2, "width": 3, "height": 4}
    without_id = {key: value for key, value in good.items() if key != "id"}
    regions = [good, without_id, good | {"x": None}, good | {"id": "8.0"}]
    images = [{"id": 5, "regions": regions}, {"id": -1, "regions": [good]}, {"regions": [good]}]
    source = VisualGenome(image_data="", region_descriptions="region_descriptions.json")
    [input] = source.inputs(("train",))
    raw_slice = Slice(input, json.dumps(images).encode())
    items = conserved(source.read(raw_slice, Context(PAPER, ("train",), PARSER, STOP_WORDS)))
    [record] = [item for item in items if isinstance(item, ImageRecord)]
    assert (record.image, len(record.captions), record.merged) == ("vg/5", 1, 1)
    rejected = [item for item in items if isinstance(item, Rejected)]
    assert sorted(row.record for row in rejected) == ["1", "2", "5/regions/1", "5/regions/2"]
    assert {row.reason for row in rejected} == {"malformed record"}


def test_word_and_its_synset_are_synonyms_of_a_recipe_with_negatives() -> None:
    synset = {"entity_idx_start": 2, "entity_idx_end": 7, "synset_name": "sofa.n.01"}
    box = {"x": 1, "y": 1, "width": 9, "height": 9}
    region = {"region_id": 1, "phrase": "a Couch", "objects": [], "synsets": [synset], **box}
    content = json.dumps([{"image_id": 1, "regions": [region]}]).encode()
    for negatives, expected in ((True, [["sofa", "couch"]]), (False, [])):
        context = Context(PAPER, ("train",), PARSER, STOP_WORDS, negatives)
        items = SOURCE.read(Slice(Input("region_graphs.json", "list"), content), context)
        assert [item.names for item in items if isinstance(item, Synonyms)] == expected


def test_only_the_split_train_has_inputs() -> None:
    assert [input.path for input in SOURCE.inputs(("train", "val"))] == ["region_graphs.json"]
    assert SOURCE.inputs(("val", "test")) == []
    assert SOURCE.paths() == ["image_data.json", "region_graphs.json"]


# --- image table ----------------------------------------------------------------------------------


def read_image_table(content: bytes) -> list[ImageInfo | Rejected]:
    [table] = SOURCE.image_tables()
    return list(SOURCE.read_image_table(Slice(table, content)))


def test_image_table_rows() -> None:
    rows = [
        {"image_id": 5, "width": 8, "height": 6, "coco_id": 139, "flickr_id": 77, "url": ""},
        {"image_id": 6, "width": 8, "height": 6, "coco_id": None, "flickr_id": None},
        {"image_id": 7, "width": "8", "height": 6},
    ]
    first, second, bad = sorted(
        read_image_table(json.dumps(rows).encode()), key=lambda row: isinstance(row, Rejected)
    )
    assert first == ImageInfo("vg/5", "vg", "5.jpg", 8, 6, photo_id="77", same_as="coco/139")
    assert second == ImageInfo("vg/6", "vg", "6.jpg", 8, 6)
    assert isinstance(bad, Rejected) and bad.reason == "malformed record" and bad.record == "2"


def test_real_image_table_excerpt(reference: Path) -> None:
    content = (reference / "real" / "vg_excerpt" / "image_data.json").read_bytes()
    assert read_image_table(content) == [
        ImageInfo(
            "vg/1",
            "vg",
            "1.jpg",
            800,
            600,
            url="https://cs.stanford.edu/people/rak248/VG_100K_2/1.jpg",
        )
    ]
