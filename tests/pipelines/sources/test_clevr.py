"""CLEVR: programs, noun phrases, boxes, and the source on generated data."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from pipelines.captions.parsing import SpacyParser
from pipelines.captions.rules import PAPER
from pipelines.io.raw_files import RawFileError
from pipelines.io.slices import SliceRange, find_slices, read_slice
from pipelines.sources.base import Context
from pipelines.sources.clevr.phrases import NounPhrase, align, noun_phrases
from pipelines.sources.clevr.programs import (
    ClevrObject,
    ProgramNode,
    mentions_an_object_twice,
    object_references,
    run_program,
)
from pipelines.sources.clevr.reader import Clevr
from pipelines.sources.clevr.scenes import (
    ELEVATION,
    CameraAngles,
    ClevrScene,
    SceneObject,
    camera_angles,
    object_box,
    read_scenes,
)
from pipelines.synthetic.clevr import generate_clevr
from schemas import GroundedCaption, ImageInfo, ImageRecord, Rejected
from tests.pipelines.sources.conservation import conserved

ANY = (None, None, None, None)


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clevr") / "raw"
    generate_clevr(out, num_images=40, seed=3)
    return out / "clevr"


def source(folder: Path, **fields: Any) -> Clevr:
    splits = ("train", "val")
    return Clevr(
        questions={s: [str(folder / "questions" / f"CLEVR_{s}_questions.json")] for s in splits},
        scenes={s: str(folder / "scenes" / f"CLEVR_{s}_scenes.json") for s in splits},
        **fields,
    )


def read_all(clevr: Clevr, split: str = "train") -> Iterator[ImageRecord | Rejected]:
    context = Context(PAPER, (split,), SpacyParser(), frozenset())
    for rank, input_ in enumerate(clevr.inputs((split,))):
        for slice_range in find_slices("clevr", rank, input_, ""):
            assert isinstance(slice_range, SliceRange)
            yield from conserved(clevr.read(read_slice(slice_range), context))


def captions(clevr: Clevr) -> list[GroundedCaption]:
    return [c for r in read_all(clevr) if isinstance(r, ImageRecord) for c in r.captions]


def real_scene(reference: Path) -> ClevrScene:
    path = reference / "real" / "clevr" / "CLEVR_val_scenes_excerpt.json"
    [scene] = read_scenes(str(path)).by_image.values()
    return msgspec.json.decode(scene, type=ClevrScene)


# --- real questions -------------------------------------------------------------------------------


def test_real_programs_yield_the_generator_outputs(reference: Path) -> None:
    folder = reference / "real" / "clevr"
    scene = real_scene(reference)
    questions = json.loads((folder / "CLEVR_generated_questions.json").read_text())["questions"]
    steps = 0
    for question in questions:
        program = msgspec.convert(question["program"], list[ProgramNode])
        results = run_program(program, scene.objects, scene.relationships)
        for objects, step in zip(results, question["program"], strict=True):
            if objects is not None:
                output = step["_output"]
                assert objects == set(output if isinstance(output, list) else [output])
                steps += 1
    assert steps > 100


def test_real_questions_align_with_all_their_references(reference: Path) -> None:
    scene = real_scene(reference)
    path = reference / "real" / "clevr" / "CLEVR_generated_questions.json"
    for question in json.loads(path.read_text())["questions"]:
        program = msgspec.convert(question["program"], list[ProgramNode])
        results = run_program(program, scene.objects, scene.relationships)
        named = noun_phrases(question["question"])
        referenced = object_references(program, results)
        pairs = align(named, referenced)
        assert len(pairs) == len(named) == len(referenced) >= 3
        for phrase, reference in pairs:
            for value, obj in (
                (value, i) for value in reference.attributes if value for i in reference.objects
            ):
                assert value in msgspec.structs.astuple(scene.objects[obj]), phrase


def test_real_object_centers_agree_with_the_camera(reference: Path) -> None:
    """Within a pixel: all objects of a scene are seen from one place."""
    scene = real_scene(reference)
    angles = camera_angles(scene)
    scale = 480 * 35 / 32
    seen = []
    for obj in scene.objects:
        x, y, distance = obj.pixel_coords
        center = np.array([(x - 240) / scale, (y - 160) / scale, 1]) * distance
        seen.append(center - angles.from_scene(obj.center))
    position = np.mean(seen, axis=0)
    for obj, (right, down, forward) in zip(scene.objects, seen, strict=True):
        assert np.abs([right, down] - position[:2]).max() * scale / obj.pixel_coords[2] < 1
        assert abs(forward - position[2]) < 0.05
    assert math.degrees(angles.elevation) == pytest.approx(math.degrees(ELEVATION), abs=2)
    stated = scene.directions.right
    assert math.acos(np.dot(angles.right, stated[:2])) < math.radians(5)


def test_real_boxes_equal_those_of_a_fitted_camera(reference: Path) -> None:
    """Of one with six free parameters, within a pixel; see benchmarks/clevr_boxes.py."""
    scene = real_scene(reference)
    boxes = [object_box(obj, camera_angles(scene)) for obj in scene.objects]
    fitted = [
        (79.1, 87.4, 155.7, 176.9),
        (149.6, 130.9, 249.8, 255.6),
        (144.8, 99.1, 176.7, 137.8),
        (252.6, 70.0, 311.7, 129.3),
        (314.5, 166.6, 360.1, 224.7),
    ]
    np.testing.assert_allclose(boxes, fitted, atol=1)


def test_camera_angles_of_one_object_are_those_without_jitter(reference: Path) -> None:
    scene = real_scene(reference)
    single = msgspec.structs.replace(scene, objects=scene.objects[:1])
    angles = camera_angles(single)
    assert angles.elevation == pytest.approx(ELEVATION)
    assert angles.right == pytest.approx(scene.directions.right[:2])
    empty = msgspec.structs.replace(scene, objects=[])
    assert camera_angles(empty) == angles


# --- noun phrases ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        (
            "How many big shiny blocks are left of the ball?",
            [("large", None, "metal", "cube"), (None, None, None, "sphere")],
        ),
        (
            "There is a tiny gray cylinder; how many matte things are behind it?",
            [(None, None, "rubber", None), ("small", "gray", None, "cylinder")],
        ),
        ("Is there anything else of the same shape as the other object?", [ANY]),
        ("What is its color?", []),
        ("Are the metallic spheres and redcubes thingsome?", [(None, None, "metal", "sphere")]),
    ],
)
def test_phrases(question: str, expected: list[Any]) -> None:
    actual = noun_phrases(question)
    assert [phrase.attributes for phrase in actual] == expected
    for phrase in actual:
        assert question[slice(*phrase.span)].strip() == question[slice(*phrase.span)] != ""


OBJECTS = [
    ClevrObject("small", "red", "metal", "cube"),
    ClevrObject("large", "blue", "rubber", "sphere"),
    ClevrObject("small", "green", "metal", "cylinder"),
    ClevrObject("large", "red", "rubber", "cube"),
]
# From left to right as they are numbered.
RELATIONSHIPS = {"left": [[], [0], [0, 1], [0, 1, 2]], "right": [[1, 2, 3], [2, 3], [3], []]}


def program(*steps: str) -> list[ProgramNode]:
    """Parses steps such as "relate left < 3": name, value, inputs; by default the step before.

    A scene has no inputs.
    """
    nodes = []
    for number, step in enumerate(steps):
        function, _, inputs = step.partition("<")
        name, *values = function.split()
        places = [int(place) for place in inputs.split()]
        if not places and name != "scene":
            places = [number - 1]
        nodes.append(ProgramNode(places, values, name))
    return nodes


@pytest.mark.parametrize(
    ("question", "steps", "expected"),
    [
        (
            # An intersection's second input is named first.
            "How many cubes are both left of the blue sphere and right of the tiny cube?",
            "scene|filter_size small|filter_shape cube|unique|relate right|scene|filter_color blue"
            "|filter_shape sphere|unique|relate left|intersect < 4 9|filter_shape cube|count",
            {"cubes": set(), "blue sphere": {1}, "tiny cube": {0}},
        ),
        (
            # A comparison's first input is what its statement says.
            "There is a small red thing; does it have the same color as the big cube?",
            "scene|filter_size small|filter_color red|unique|query_color|scene|filter_size large"
            "|filter_shape cube|unique|query_color|equal_color < 4 9",
            {"small red thing": {0}, "big cube": {3}},
        ),
        (
            "There is a green thing; how many red things are left of it?",
            "scene|filter_color green|unique|relate left|filter_color red|count",
            {"green thing": {2}, "red things": {0}},
        ),
        (
            # What is counted is large: of the red objects only one.
            "How many large things are spheres or red objects?",
            "scene|filter_shape sphere|scene|filter_color red|union < 1 3|filter_size large|count",
            {"large things": {1, 3}, "spheres": {1}, "red objects": {3}},
        ),
        (
            "How many other things are of the same material as the big sphere?",
            "scene|filter_size large|filter_shape sphere|unique|same_material|count",
            {"things": {3}, "big sphere": {1}},
        ),
        (
            "Is the number of cubes greater than the number of metallic things?",
            "scene|filter_shape cube|count|scene|filter_material metal|count|greater_than < 2 5",
            {"cubes": {0, 3}, "metallic things": {0, 2}},
        ),
    ],
)
def test_phrases_get_the_objects_of_their_references(
    question: str, steps: str, expected: dict[str, set[int]]
) -> None:
    nodes = program(*steps.split("|"))
    results = run_program(nodes, OBJECTS, RELATIONSHIPS)
    named = noun_phrases(question, is_comparison=nodes[-1].name.startswith("equal_"))
    pairs = align(named, object_references(nodes, results))
    assert {
        question[slice(*phrase.span)]: set(reference.objects) for phrase, reference in pairs
    } == expected


def test_empty_program_and_empty_question_align() -> None:
    assert object_references([], []) == align([], []) == []
    assert align([NounPhrase(ANY, (0, 5))], []) == []


@pytest.mark.parametrize(
    ("steps", "twice"),
    [
        ("scene|filter_color red|count", False),
        ("scene|filter_color blue|unique|query_size", False),
        ("scene|filter_color blue|unique|relate left|filter_color red|count", False),
        ("scene|filter_color blue|unique|relate left|unique|relate right|exist", True),
        ("scene|filter_shape sphere|scene|filter_color red|union < 1 3|count", False),
        ("scene|filter_shape cube|scene|filter_color red|union < 1 3|count", True),
    ],
)
def test_mentions_an_object_twice(steps: str, twice: bool) -> None:
    nodes = program(*steps.split("|"))
    assert mentions_an_object_twice(nodes, run_program(nodes, OBJECTS, RELATIONSHIPS)) == twice


# --- invalid programs -----------------------------------------------------------------------------

SCENE = ProgramNode([], [], "scene")


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([ProgramNode([0], [], "scene")], r"step 0 takes \[0\]"),
        (
            [SCENE, ProgramNode([0], [], "count"), ProgramNode([0], [], "exist")],
            r"step 2 takes \[0\]",
        ),
        ([SCENE, ProgramNode([0, 0], [], "union")], r"step 1 takes \[0, 0\]"),
        ([ProgramNode([], [], "filter_color")], "step 0, filter_color"),
        ([SCENE, ProgramNode([0], ["x"], "filter_weight")], "step 1, filter_weight"),
        ([SCENE, ProgramNode([0], [], "weigh")], "unknown function weigh"),
        ([SCENE, ProgramNode([0], [], "unique")], "unique, of 4 objects"),
        ([SCENE, ProgramNode([0], ["up"], "relate")], "too many values"),
        ([SCENE, ProgramNode([0], [], "count"), ProgramNode([1], [], "unique")], "step 2"),
        ([SCENE] * 101, "101 steps"),
        (program("scene", "filter_color blue", "unique", "relate far"), "does not have: "),
        (program("scene", "filter_color blue", "unique", "relate behind"), "does not have: "),
    ],
)
def test_invalid_programs_raise(nodes: list[ProgramNode], message: str) -> None:
    related = {"up": [[]] * 4, "far": [[99]] * 4, "behind": [[-1]] * 4}
    with pytest.raises(ValueError, match=message):
        run_program(nodes, OBJECTS, related)


# --- the source -----------------------------------------------------------------------------------


def test_boxes_surround_the_rendered_objects(synthetic: Path) -> None:
    """Compares them with the pixels of objects without overlap."""
    seen = 0
    for content in read_scenes(
        str(synthetic / "scenes" / "CLEVR_train_scenes.json")
    ).by_image.values():
        scene = msgspec.json.decode(content, type=ClevrScene)
        pixels = np.array(Image.open(synthetic / "images" / "train" / scene.image_filename))
        angles = camera_angles(scene)
        boxes = [object_box(obj, angles) for obj in scene.objects]
        for box in boxes:
            near = (box[0] - 4, box[1] - 4, box[2] + 4, box[3] + 4)
            if sum(_meet(near, other) for other in boxes) > 1:
                continue
            x0, y0, x1, y1 = (math.floor(near[0]), math.floor(near[1]), *map(math.ceil, near[2:]))
            drawn = (pixels[max(y0, 0) : y1, max(x0, 0) : x1] != 150).any(-1).nonzero()
            extent = drawn[1].min(), drawn[0].min(), drawn[1].max() + 1, drawn[0].max() + 1
            offset = np.array([max(x0, 0), max(y0, 0)] * 2)
            np.testing.assert_allclose(extent + offset, np.clip(box, 0, [480, 320] * 2), atol=2)
            seen += 1
    assert seen > 30


def _meet(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def test_questions_have_the_regions_they_name(synthetic: Path) -> None:
    all_captions = captions(source(synthetic))
    assert len(all_captions) > 200
    kinds = {caption.question.structural_type for caption in all_captions if caption.question}
    assert kinds == {"count", "exist", "compare number", "compare attribute", "query attribute"}
    for caption in all_captions:
        assert caption.question is not None
        if caption.text.startswith("What color is the "):
            [region] = caption.regions
            assert f"What color is the {caption.text[slice(*region.spans[0])]}?" == caption.text
    images = [
        image
        for input_ in source(synthetic).image_tables()
        for slice_range in find_slices("clevr", 0, input_, "")
        for image in source(synthetic).read_image_table(read_slice(slice_range))
    ]
    assert all(isinstance(image, ImageInfo) for image in images)
    assert {p.key for p in images if isinstance(p, ImageInfo)} == {
        f"clevr/CLEVR_{split}_{i:06d}" for split, n in (("train", 32), ("val", 8)) for i in range(n)
    }


def test_count_answers_equal_the_number_of_regions(synthetic: Path) -> None:
    """Counts the regions of the noun phrase after "How many"."""
    seen = 0
    for caption in captions(source(synthetic)):
        if not caption.text.startswith("How many "):
            continue
        begin = len("How many ")
        named = [r for r in caption.regions if any(s[0] == begin for s in r.spans)]
        assert caption.question is not None
        assert caption.question.answer == str(len(named))
        seen += 1
    assert seen > 20


def test_medium_skips_questions_that_mention_an_object_twice(synthetic: Path) -> None:
    whole, medium = captions(source(synthetic)), captions(source(synthetic, medium=True))
    medium_records = {caption.record for caption in medium}
    assert medium_records < {caption.record for caption in whole}
    spans = [len(region.spans) for caption in medium for region in caption.regions]
    assert set(spans) == {1}


def test_rotated_cube_is_wider() -> None:
    """By the square root of two at 45 degrees, where its widest corners are farther away."""
    straight, askew = (
        SceneObject("large", "red", "metal", "cube", angle, (240.0, 160.0, 10.0), (0.0, 0.0, 0.7))
        for angle in (0.0, 45.0)
    )
    angles = CameraAngles((1.0, 0.0), ELEVATION)
    boxes = [np.array(object_box(obj, angles)) for obj in (straight, askew)]
    (wide, tall), (wider, taller) = (box[2:] - box[:2] for box in boxes)
    side = 2 * 0.7 * 480 * 35 / 32
    away, up = 0.7 * math.cos(ELEVATION), 0.7 * math.sin(ELEVATION)
    assert wide == pytest.approx(side / (10 - away - up))
    assert wider == pytest.approx(math.sqrt(2) * side / (10 - up))
    assert tall < taller < tall * math.sqrt(2)


def test_box_of_an_object_at_the_camera_is_finite() -> None:
    near = SceneObject("large", "red", "metal", "cube", 0.0, (240.0, 160.0, 0.2), (0.0, 0.0, 99.0))
    assert np.isfinite(object_box(near, CameraAngles((1.0, 0.0), ELEVATION))).all()


def test_bad_records_are_rejected_with_their_reason(synthetic: Path, tmp_path: Path) -> None:
    good = json.loads((synthetic / "questions" / "CLEVR_train_questions.json").read_text())[
        "questions"
    ]
    bad = [
        {**good[0], "image_filename": "../secret.png"},
        {**good[0], "question": " "},
        {**good[0], "image_filename": "CLEVR_train_999999.png"},
        {**good[0], "program": [{"function": "unique", "inputs": [7]}]},
        {**good[0], "image_filename": "CLEVR_train_000001.png"},
        {**good[0], "question": 5},
    ]
    (tmp_path / "questions").mkdir()
    path = tmp_path / "questions" / "CLEVR_train_questions.json"
    path.write_text(json.dumps({"questions": [good[0], *bad]}))
    scenes = json.loads((synthetic / "scenes" / "CLEVR_train_scenes.json").read_text())["scenes"]
    scenes[1]["objects"][0]["pixel_coords"][2] = 0
    (tmp_path / "scenes.json").write_text(json.dumps({"scenes": scenes}))
    clevr = Clevr(questions={"train": [str(path)]}, scenes={"train": str(tmp_path / "scenes.json")})
    records = list(read_all(clevr))
    reasons = [record.reason for record in records if isinstance(record, Rejected)]
    assert sorted(reasons) == sorted(
        ["bad image name", "no words", *["bad program"] * 3, "malformed record"]
    )
    assert sum(len(r.captions) for r in records if isinstance(r, ImageRecord)) == 1


def test_questions_without_programs_have_no_regions(synthetic: Path, tmp_path: Path) -> None:
    """As in CLEVR-Humans and in test splits."""
    path = tmp_path / "humans.json"
    question = {"image_filename": "CLEVR_train_000001.png", "question": "Is it a ball?"}
    other = {**question, "question": "What is it?", "program": None}
    path.write_text(json.dumps({"questions": [{**question, "answer": True}, other]}))
    both = captions(Clevr(questions={"train": [str(path)]}))
    assert [caption.regions for caption in both] == [[], []]
    asked = [caption.question for caption in both]
    assert [q.answer for q in asked if q] == ["yes", None]
    assert len({q.id for q in asked if q}) == 2


def test_file_of_another_layout_raises(tmp_path: Path) -> None:
    path = tmp_path / "scenes.json"
    for content in ("[]", "{}", '{"scenes": 5}', "\xff"):
        path.write_bytes(content.encode("latin-1"))
        read_scenes.cache_clear()
        with pytest.raises(RawFileError, match=r"scenes\.json: not a CLEVR scene file"):
            read_scenes(str(path))


def test_malformed_scene_costs_only_its_questions(tmp_path: Path) -> None:
    path = tmp_path / "scenes.json"
    path.write_text('{"scenes": [{"image_filename": 5}, {"image_filename": "a.png"}]}')
    read_scenes.cache_clear()
    scenes = read_scenes(str(path))
    assert list(scenes.by_image) == ["a.png"]
    with pytest.raises(
        ValueError, match=r"no scene of b\.png, and 1 without a name, .*scene 0: Exp"
    ):
        scenes.scene("b.png")


def test_same_seed_gives_the_same_dataset(synthetic: Path, tmp_path: Path) -> None:
    generate_clevr(tmp_path / "again", num_images=40, seed=3)
    for path in synthetic.rglob("*.*"):
        again = tmp_path / "again" / "clevr" / path.relative_to(synthetic)
        assert path.read_bytes() == again.read_bytes()
