import json
import lzma
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.captions.parsing import SpacyParser
from pipelines.captions.rules import MDETR, PAPER, CaptionRules
from pipelines.geometry.boxes import from_xywh
from pipelines.io.slices import Input, Slice, SliceRange, find_slices, read_slice
from pipelines.sources.base import Context
from pipelines.sources.gqa import Gqa
from schemas import GroundedCaption, ImageInfo, ImageRecord, Object, Question, Rejected, Span
from tests.pipelines.sources.conservation import conserved


@pytest.fixture(scope="session")
def golden(golden_raw: Path) -> Path:
    return next(golden_raw.rglob("train_sceneGraphs.json")).parent


def golden_source(golden: Path) -> Gqa:
    return Gqa(
        questions={"train": [str(golden / "train_balanced_questions.json")]},
        scene_graphs={"train": str(golden / "train_sceneGraphs.json")},
    )


def context(rules: CaptionRules) -> Context:
    return Context(rules, ("train",), SpacyParser(), frozenset())


def read_all(source: Gqa, rules: CaptionRules) -> Iterator[ImageRecord | Rejected]:
    for rank, input_ in enumerate(source.inputs(("train", "val"))):
        for slice_range in find_slices("gqa", rank, input_, ""):
            assert isinstance(slice_range, SliceRange)
            yield from conserved(source.read(read_slice(slice_range), context(rules)))


# --- absent phrases -------------------------------------------------------------------------------

DOG, CAT = ("select", "dog (-) ", []), ("select", "cat (77)", [])


def exist(step: int) -> tuple[str, str, list[int]]:
    return ("exist", "?", [step])


@pytest.mark.parametrize(
    ("answer", "program", "absent"),
    [
        ("no", [DOG, exist(0)], ["dog"]),
        ("yes", [DOG, exist(0)], []),
        # The scene graph has one, or relates it: the answer is about something else.
        ("no", [CAT, exist(0)], []),
        ("no", [CAT, ("relate", "dog,left,s (-)", [0]), exist(1)], []),
        # The color of one ball says nothing about another.
        ("no", [("select", "ball (3)", []), ("verify color", "red", [0])], []),
        ("no", [("select", "ball (-)", []), ("verify color", "red", [0])], []),
        ("no", [("select", "ball (-)", []), ("filter color", "red", [0]), exist(1)], ["red ball"]),
        ("no", [("select", "ball (-)", []), ("filter color", "not(red)", [0]), exist(1)], []),
        ("no", [("select", "ball (-)", []), ("filter hposition", "left", [0]), exist(1)], []),
        # Neither; and not both, of which the scene graph has one.
        (
            "no",
            [DOG, exist(0), ("select", "tall bird (-) ", []), exist(2), ("or", "", [1, 3])],
            ["dog", "tall bird"],
        ),
        ("no", [CAT, exist(0), DOG, exist(2), ("and", "", [1, 3])], ["dog"]),
        ("no", [DOG, exist(0), DOG, exist(2), ("and", "", [1, 3])], []),
        ("no", [CAT, exist(0), CAT, exist(2), ("and", "", [1, 3])], []),
        # Steps that depend on none, on themselves or on later ones.
        ("no", [("exist", "?", [])], []),
        ("no", [("exist", "?", [0])], []),
        ("no", [("exist", "?", [1]), DOG], []),
        ("no", [("or", "", [0])], []),
        ("no", [], []),
    ],
)
def test_answer_no_proves_what_its_program_asks_to_exist(
    tmp_path: Path, answer: str, program: list[tuple[str, str, list[int]]], absent: list[str]
) -> None:
    steps = [{"operation": o, "argument": a, "dependencies": d} for o, a, d in program]
    question = {"question": "?", "imageId": "9", "answer": answer, "semantic": steps}
    path = tmp_path / "questions.json"
    path.write_text(json.dumps({"7": question, "8": {**question, "semantic": 5}}))
    source = Gqa(questions={"train": [str(path)]})
    for negatives in (True, False):
        asked = msgspec.structs.replace(context(PAPER), negatives=negatives)
        phrases = [
            (phrase.text, phrase.dataset, phrase.record, phrase.strength)
            for slice_range in find_slices("gqa", 0, source.inputs(("train",))[0], "")
            if isinstance(slice_range, SliceRange)
            for item in conserved(source.read(read_slice(slice_range), asked))
            if isinstance(item, ImageRecord)
            for phrase in item.absent
        ]
        assert phrases == [(text, "gqa", "7", "proven") for text in absent if negatives]


# --- published results ----------------------------------------------------------------------------


def test_questions_equal_the_published_datapoints(golden: Path, reference: Path) -> None:
    records = list(read_all(golden_source(golden), MDETR))
    image_records = [record for record in records if isinstance(record, ImageRecord)]
    assert len(image_records) == len(records)
    objects = {(p.image, id_): item for p in image_records for id_, item in p.objects.items()}
    ours = Counter(
        (
            image_record.image,
            caption.dataset,
            caption.record,
            caption.text,
            tuple(caption.tokens_negative),
            tuple(
                sorted(
                    (item.area, int(item.crowd), item.category, item.box, tuple(region.spans))
                    for region in caption.object_regions
                    for item in [objects[image_record.image, region.object]]
                )
            ),
        )
        for image_record in image_records
        for caption in image_record.captions
    )
    with lzma.open(reference / "golden/mixed/gqa_datapoints.json.xz") as file:
        datapoints = json.load(file)
    theirs = Counter(
        (
            f"vg/{datapoint['image_id']}",
            datapoint["dataset_name"],
            datapoint["original_id"],
            datapoint["caption"],
            tuple(map(tuple, datapoint["tokens_negative"])),
            tuple(
                sorted(
                    (
                        annotation["area"],
                        annotation["iscrowd"],
                        annotation["category_id"],
                        from_xywh(*annotation["bbox"]),
                        tuple(map(tuple, annotation["tokens_positive"])),
                    )
                    for annotation in datapoint["annotations"]
                )
            ),
        )
        for datapoint in datapoints
    )
    assert ours == theirs
    assert sum(ours.values()) == 8032


def test_paper_rules_give_each_object_one_region_of_whole_words(golden: Path) -> None:
    source = golden_source(golden)
    captions = [
        caption
        for record in read_all(source, PAPER)
        if isinstance(record, ImageRecord)
        for caption in record.captions
    ]
    assert len(captions) == 8032
    for caption in captions:
        ids = [region.object for region in caption.object_regions]
        assert len(set(ids)) == len(ids)
        for region in caption.object_regions:
            assert region.spans
            for start, stop in region.spans:
                assert caption.text[start].isalnum()
                assert start == 0 or not caption.text[start - 1].isalnum()
                assert stop == len(caption.text) or not caption.text[stop].isalnum()


def test_real_question_excerpt(reference: Path) -> None:
    path = reference / "real/gqa_excerpt/val_balanced_questions.json"
    raw = json.loads(path.read_text())
    for rules in (PAPER, MDETR):
        source = Gqa(questions={"val": [str(path)]}, scene_graphs={"val": "not in the excerpt"})
        raw_slice = Slice(source.inputs(("val",))[0], path.read_bytes())
        image_records = conserved(source.read(raw_slice, context(rules)))
        read = {}
        for image_record in image_records:
            assert isinstance(image_record, ImageRecord)
            assert image_record.split == "val"
            for caption in image_record.captions:
                read[caption.record] = caption
                assert image_record.image == f"vg/{raw[caption.record]['imageId']}"
        assert sorted(read) == sorted(raw)
        for id_, question in raw.items():
            assert read[id_].text == question["question"]
            assert read[id_].question == Question(
                id_,
                question["answer"],
                question["types"]["semantic"],
                question["types"]["structural"],
                question["isBalanced"],
            )
            named = {region.object for region in read[id_].object_regions}
            assert named >= set(question["annotations"]["question"].values())


# --- the words of an object -----------------------------------------------------------------------


def ask(
    text: str,
    rules: CaptionRules = PAPER,
    words: dict[str, str] | None = None,
    answer: dict[str, str] | None = None,
    program: tuple[tuple[str, str], ...] = (),
) -> GroundedCaption | Rejected:
    question = {
        "question": text,
        "imageId": "12",
        "isBalanced": True,
        "answer": "yes",
        "semantic": [{"operation": op, "dependencies": [], "argument": arg} for op, arg in program],
        "annotations": {"question": words or {}, "answer": answer or {}, "fullAnswer": {}},
        "types": {"detailed": "d", "semantic": "rel", "structural": "query"},
    }
    (record,) = read_questions(json.dumps({"1": question}).encode(), rules)
    if isinstance(record, Rejected):
        return record
    assert record.image == "vg/12"
    return record.captions[0]


def read_questions(content: bytes, rules: CaptionRules = PAPER) -> list[ImageRecord | Rejected]:
    raw_slice = Slice(Input("questions.json", "dict", role="train"), content)
    source = Gqa(questions={}, scene_graphs={"train": "sceneGraphs.json"})
    return conserved(source.read(raw_slice, context(rules)))


def named(caption: GroundedCaption | Rejected) -> list[tuple[str, list[str]]]:
    assert isinstance(caption, GroundedCaption)
    return [(r.object, [caption.text[a:b] for a, b in r.spans]) for r in caption.object_regions]


@pytest.mark.parametrize(
    ("text", "asked", "paper", "find"),
    [
        pytest.param(
            "Is there a vehicle here?",
            {"program": (("select", "bus (7)"),)},
            [],
            [("7", ["Is"])],
            id="not-there",
        ),
        pytest.param(
            "Is the traffic light red?",
            {"program": (("select", "traffic light (7)"),)},
            [("7", ["traffic light"])],
            [("7", ["traffic"])],
            id="two-words",
        ),
        pytest.param(
            "Are the buses near the boxes?",
            {"program": (("select", "box (7)"), ("relate", "bus,near,s (8)"))},
            [("7", ["boxes"]), ("8", ["buses"])],
            [("7", ["box"])],
            id="plural-and-relate",
        ),
        pytest.param(
            "Is the pony near the ponies?",
            {"program": (("select", "ponies (7)"), ("select", "pony (8)"))},
            [("7", ["pony"]), ("8", ["ponies"])],
            [("7", ["ponies"]), ("8", ["pony"])],
            id="two-of-a-name",
        ),
        pytest.param(
            "Which toy is on the bed?",
            {"words": {"5": "7"}, "answer": {"0": "8"}, "program": (("select", "bed (7)"),)},
            [("7", ["bed"]), ("8", ["Which"])],
            [("7", ["bed"])],
            id="which",
        ),
        pytest.param(
            "On what is the cup?",
            {"words": {"4": "7"}, "answer": {"0": "8", "1": "9"}},
            [("7", ["cup"]), ("8", ["what"]), ("9", ["what"])],
            [("7", ["cup"]), ("9", ["what"])],
            id="two-answers",
        ),
        pytest.param(
            "The somewhat old man is whose?",
            {"answer": {"0": "8"}},
            [],
            [("8", ["what"])],
            id="question-word-inside-a-word",
        ),
        pytest.param(
            "Is the cup near the red cup?",
            {"words": {"2": "7", "5:7": "7"}, "answer": {"0": "7"}},
            [("7", ["cup", "red cup"])],
            [("7", ["cup"]), ("7", ["red cup"])],
            id="one-object-twice",
        ),
        pytest.param(
            "What is the pizza on?",
            {
                "words": {"3": "7"},
                "program": (
                    ("select", "pizza (7)"),
                    ("relate", "_,on,s (8)"),
                    ("select", "scene"),
                    ("select", "dog (-)"),
                    ("exist", "?"),
                    ("choose", ""),
                    ("select", ")"),
                ),
            },
            [("7", ["pizza"])],
            [("7", ["pizza"])],
            id="arguments-of-every-kind",
        ),
    ],
)
def test_words_of_objects_by_rule_set(
    text: str,
    asked: dict[str, Any],
    paper: list[tuple[str, list[str]]],
    find: list[tuple[str, list[str]]],
) -> None:
    assert named(ask(text, PAPER, **asked)) == paper
    assert named(ask(text, MDETR, **asked)) == find


@pytest.mark.parametrize(("rules", "span"), [(PAPER, (23, 26)), (MDETR, (9, 12))])
def test_only_mdetr_rules_match_inside_words(rules: CaptionRules, span: Span) -> None:
    caption = ask("Is the woman left of a man?", rules, program=(("select", "man (7)"),))
    assert isinstance(caption, GroundedCaption)
    assert [region.spans for region in caption.object_regions] == [[span]]


def test_word_numbers_ignore_repeated_spaces() -> None:
    assert named(ask("Is  the cup red?", words={"2": "7"})) == [("7", ["cup"])]


@pytest.mark.parametrize("key", ["9", "3:9", "-1", "2:2", "3:2", "x", "", ":", "1:"])
@pytest.mark.parametrize("rules", [PAPER, MDETR])
def test_word_numbers_out_of_range_are_rejected(key: str, rules: CaptionRules) -> None:
    record = ask("Is the cup red?", rules, words={key: "7"})
    assert isinstance(record, Rejected)
    assert (record.record, record.reason, record.image) == ("1", "no such words", "vg/12")


names = st.sampled_from(["man", "woman", "traffic light", "bus", "box", "scene", "_", "c++ (x"])


@given(
    st.lists(names | st.sampled_from(["what", "Who", "is", "the", "-", "men's"]), max_size=8),
    st.lists(st.tuples(names, st.integers(1, 5)), max_size=5),
    st.lists(st.integers(1, 9), max_size=3),
    st.sampled_from([PAPER, MDETR]),
)
def test_spans_are_sorted_and_inside_the_question(
    words: list[str], program: list[tuple[str, int]], answers: list[int], rules: CaptionRules
) -> None:
    caption = ask(
        "Is " + " ".join(words),
        rules,
        program=tuple(("select", f"{name} ({id_})") for name, id_ in program),
        answer={str(i): str(id_) for i, id_ in enumerate(answers)},
    )
    assert isinstance(caption, GroundedCaption)
    for region in caption.object_regions:
        last: Span = (0, 0)
        for span in region.spans:
            assert last[1] <= span[0] < span[1] <= len(caption.text)
            last = span


# --- scene graphs and images ----------------------------------------------------------------------


def test_scene_graph_objects_are_read(golden: Path) -> None:
    raw = json.loads((golden / "train_sceneGraphs.json").read_text())
    (input_,) = [i for i in golden_source(golden).inputs(("train",)) if not i.role]
    raw_slice = Slice(input_, (golden / "train_sceneGraphs.json").read_bytes())
    image_records = conserved(golden_source(golden).read(raw_slice, context(PAPER)))
    assert len(image_records) == len(raw)
    for image_record, (image_id, graph) in zip(image_records, raw.items(), strict=True):
        assert isinstance(image_record, ImageRecord)
        assert (image_record.image, image_record.split) == (f"vg/{image_id}", "")
        assert image_record.objects == {
            id_: Object(from_xywh(o["x"], o["y"], o["w"], o["h"]), o["w"] * o["h"])
            for id_, o in graph["objects"].items()
        }


def test_image_table_uses_questions_where_there_is_no_scene_graph() -> None:
    source = Gqa(
        questions={"train": ["a.json", "b.json"], "testdev": ["c.json"]},
        scene_graphs={"train": "s.json"},
    )
    assert source.paths() == ["a.json", "b.json", "c.json", "s.json"]
    graphs, questions = source.image_tables()
    assert (graphs.path, questions.path) == ("s.json", "c.json")
    content = b'{"12": {"width": 640, "height": 480, "objects": {"1": {"name": "x"}}}}'
    assert list(source.read_image_table(Slice(graphs, content))) == [
        ImageInfo("vg/12", "gqa", "12.jpg", 640, 480)
    ]
    content = b'{"1": {"imageId": "n5"}, "2": {"imageId": "n5"}, "3": {"imageId": "../6"}}'
    assert list(source.read_image_table(Slice(questions, content))) == [
        ImageInfo("coco/5", "gqa", "n5.jpg")
    ]
    assert source.split_names() == {"train", "testdev"}


def test_each_bad_record_is_reported_once() -> None:
    source = Gqa(
        questions={"train": ["q.json"], "testdev": ["t.json"]}, scene_graphs={"train": "s.json"}
    )
    graphs, questions = source.image_tables()
    good = '{"width": 6, "height": 4, "objects": {}}'
    bad = f'"1": {good}, "2": null, "3": {{"objects": {{}}}}, "..": {good}, "{"9" * 30}": {good}'
    of_graphs = Slice(graphs, f"{{{bad}}}".encode())
    of_questions = Slice(
        questions, b'{"1": {"imageId": 4}, "2": {"question": "a?", "imageId": "/"}}'
    )
    rejected = [
        (one.record, one.reason, one.detail.partition(":")[0])
        for raw_slice in (of_graphs, of_questions)
        for one in [
            *source.read_image_table(raw_slice),
            *conserved(source.read(raw_slice, context(PAPER))),
        ]
        if isinstance(one, Rejected)
    ]
    assert sorted(rejected) == [
        ("..", "bad image id", "s.json"),
        ("1", "malformed record", "t.json"),
        ("2", "bad image id", "/"),
        ("2", "malformed record", "s.json"),
        ("3", "malformed record", "s.json"),
        ("9" * 30, "bad image id", "s.json"),
    ]


def test_inputs_of_splits_list_questions_first() -> None:
    source = Gqa(
        questions={"train": ["a.json", "b.json"], "val": ["v.json"], "testdev": ["c.json"]},
        scene_graphs={"train": "s.json", "val": "t.json"},
    )
    assert [(i.path, i.role) for i in source.inputs(("val", "testdev", "other"))] == [
        ("v.json", "val"),
        ("c.json", "testdev"),
        ("t.json", ""),
    ]


# --- malformed input ------------------------------------------------------------------------------


def test_question_without_answer_is_read() -> None:
    content = b'{"5": {"question": "Is it red?", "imageId": "n578020", "isBalanced": false}}'
    (image_record,) = read_questions(content)
    assert isinstance(image_record, ImageRecord)
    assert image_record.image == "coco/578020"
    assert image_record.captions[0].question == Question("5", None, None, None, balanced=False)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b'{"question": "a?"}', "malformed record"),
        (b'{"question": 4, "imageId": "1"}', "malformed record"),
        (b'{"question": "a?", "imageId": 1.5}', "bad image id"),
        (b'{"question": "\xff?", "imageId": "1"}', "malformed record"),
        (b'{"question": "a?", "imageId": "1", "annotations": []}', "malformed record"),
        (b'{"question": "a?", "imageId": "1", "semantic": [{}]}', "malformed record"),
        (b"null", "malformed record"),
        (b'{"question": "a?", "imageId": "../1"}', "bad image id"),
        (b'{"question": "a?", "imageId": "-1"}', "bad image id"),
        (b'{"question": " ", "imageId": "1"}', "no words"),
    ],
)
def test_malformed_question_costs_only_itself(record: bytes, reason: str) -> None:
    good = b'{"question": "Is it red?", "imageId": "8"}'
    rejected, image_record = read_questions(b'{"x": ' + record + b', "y": ' + good + b"}")
    assert isinstance(rejected, Rejected)
    assert (rejected.record, rejected.reason) == ("x", reason)
    assert isinstance(image_record, ImageRecord)
    assert [caption.record for caption in image_record.captions] == ["y"]


def test_malformed_scene_graph_costs_only_itself() -> None:
    box = b'{"x": 1, "y": 2, "w": 3, "h": 4}'
    content = b'{"1": {"objects": {"5": {"x": 1}}}, "..": {"objects": {}}, "2": {"objects": {"6":'
    raw_slice = Slice(Input("s.json", "dict"), content + box + b"}}}")
    malformed, misnamed, image_record = conserved(Gqa(questions={}).read(raw_slice, context(PAPER)))
    assert isinstance(malformed, Rejected)
    assert (malformed.record, malformed.reason) == ("1", "malformed record")
    assert isinstance(misnamed, Rejected)
    assert misnamed.reason == "bad image id"
    assert image_record == ImageRecord("vg/2", "gqa", "", objects={"6": Object((1, 2, 4, 6), 12)})


def test_name_is_found_outside_the_words_of_other_objects() -> None:
    """The second "dog" of a text with three is another object's, and the others are found once."""
    operations = [
        {"operation": "select", "argument": f"{name} ({i})"}
        for i, name in enumerate(["dog", "Dog", "dogs", "dog"], 10)
    ]
    annotations = {"question": {"2": 7}, "answer": {}, "fullAnswer": {}}
    question = {"imageId": "1", "question": "dog and dog and dogs", "annotations": annotations}
    [record] = read_questions(json.dumps({"1": question | {"semantic": operations}}).encode())
    assert isinstance(record, ImageRecord)
    [caption] = record.captions
    assert {region.object: region.spans for region in caption.object_regions} == {
        "7": [(8, 11)],
        "10": [(0, 3)],
        "11": [(16, 20)],
    }


@pytest.mark.parametrize("word", ["a", "é"])
def test_time_of_a_question_does_not_grow_with_the_words_that_are_taken(word: str) -> None:
    """Each of 250 names occurs 5,000 times, among the words of 250 other objects."""
    operations = [{"operation": "select", "argument": f"{word} ({i})"} for i in range(250)]
    ranges = {f"{19 * i}:{19 * i + 19}": 9000 + i for i in range(250)}
    question = {
        "imageId": "1",
        "question": f"{word} " * 4999,
        "semantic": operations,
        "annotations": {"question": ranges, "answer": {}, "fullAnswer": {}},
    }
    content = json.dumps({"1": question}).encode()
    started = time.process_time()
    [record] = read_questions(content)
    assert time.process_time() - started < 2
    assert isinstance(record, ImageRecord)
    assert len(record.captions[0].object_regions) == 250 + 4999 - 250 * 19
