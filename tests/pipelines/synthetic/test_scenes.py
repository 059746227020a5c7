"""Scenes, their rendered images and the texts about them."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.synthetic.boxes import annotate_box, scale_to_longest
from pipelines.synthetic.phrases import OPPOSITE, Language
from pipelines.synthetic.render import render
from pipelines.synthetic.scene import STYLES, SceneStyle, bounds, make_scene
from pipelines.synthetic.shapes import OUTLINES

few = settings(max_examples=50)
styles = st.sampled_from(sorted(STYLES)).map(STYLES.__getitem__)
VARIED, SIMPLE = STYLES["varied"], STYLES["simple"]


@pytest.mark.parametrize("number", range(6))
def test_boxes_are_tight_around_drawn_objects(number: int) -> None:
    scene = make_scene(Random(number), VARIED)
    scene = scene._replace(background=scene.background._replace(pattern="plain"))
    scale = scale_to_longest(scene, 800)
    pixels = np.asarray(render(scene, scale)).astype(int)
    drawn = np.abs(pixels - scene.background.rgb).max(axis=2) > 20
    for obj in scene.objects:
        x0, y0, x1, y1 = (round(side) for side in scale.scale_box(obj.box))
        near = drawn[max(0, y0 - 3) : y1 + 3, max(0, x0 - 3) : x1 + 3]
        rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
        top, left = max(0, y0 - 3), max(0, x0 - 3)
        drawn_box = (left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1)
        assert np.abs(np.subtract(drawn_box, (x0, y0, x1, y1))).max() <= 2
        drawn[y0 - 3 : y1 + 3, x0 - 3 : x1 + 3] = False
    assert not drawn.any()


@pytest.mark.parametrize("noun", OUTLINES)
def test_outlines_are_in_the_unit_circle(noun: str) -> None:
    assert all(np.hypot(x, y) <= 1 + 1e-9 for x, y in OUTLINES[noun])
    x0, y0, x1, y1 = bounds(OUTLINES[noun])
    assert max(x1 - x0, y1 - y0) > 1.3


@few
@given(st.integers(0, 10**6))
def test_simple_scenes_have_few_objects_of_few_kinds(seed: int) -> None:
    objects = make_scene(Random(seed), SIMPLE).objects
    assert 3 <= len(objects) <= 5
    assert {obj.noun for obj in objects} <= set(SIMPLE.nouns)
    assert {(obj.color, obj.shade) for obj in objects} <= {(color, "") for color in SIMPLE.colors}


@few
@given(st.integers(0, 10**6), styles)
def test_unique_descriptions_fit_one_object(seed: int, style: SceneStyle) -> None:
    scene = make_scene(Random(seed), style)
    language = Language(scene)
    for i, descriptions in enumerate(language.unique):
        assert descriptions
        for d in descriptions:
            fitting = [
                k
                for k, obj in enumerate(scene.objects)
                if obj.noun == d.noun
                and d.size in ("", obj.size)
                and d.texture in ("", obj.texture)
                and d.color in ("", obj.color, f"{obj.shade} {obj.color}")
            ]
            assert fitting == [i]


@few
@given(st.integers(0, 10**6), styles)
def test_unique_by_side_is_the_outermost_of_similar_objects(seed: int, style: SceneStyle) -> None:
    scene = make_scene(Random(seed), style)
    for obj, options in zip(scene.objects, Language(scene).unique_by_side, strict=True):
        for description, side in options:
            axis, sign = {
                "on the left side": (0, 1),
                "on the right side": (0, -1),
                "at the top": (1, 1),
                "at the bottom": (1, -1),
            }[side]
            fitting = [
                other
                for other in scene.objects
                if other.noun == description.noun
                and description.size in ("", other.size)
                and description.texture in ("", other.texture)
                and description.color in ("", other.color, f"{other.shade} {other.color}".strip())
            ]
            assert len(fitting) > 1
            assert obj == min(fitting, key=lambda other: sign * other.center[axis])
            middle = (scene.width, scene.height)[axis] / 2
            assert sign * (middle - obj.center[axis]) > 0


@few
@given(st.integers(0, 10**6), styles)
def test_relations_hold_and_their_opposites_do_not(seed: int, style: SceneStyle) -> None:
    scene = make_scene(Random(seed), style)
    language = Language(scene)
    relations = set(language.relations)
    for relation in relations:
        if relation.direction == "near":
            continue
        back = relation._replace(
            subject=relation.object,
            object=relation.subject,
            direction=OPPOSITE[relation.direction],
        )
        assert back in relations
        axis = 0 if relation.direction in ("left", "right") else 1
        subject = scene.objects[relation.subject].center[axis]
        anchor = scene.objects[relation.object].center[axis]
        assert (subject < anchor) == (relation.direction in ("left", "above"))
        assert relation.subject in language.possible_subjects(relation.direction, relation.object)


@few
@given(st.integers(0, 10**6), styles)
def test_objects_are_in_the_image_and_apart(seed: int, style: SceneStyle) -> None:
    scene = make_scene(Random(seed), style)
    for i, obj in enumerate(scene.objects):
        x0, y0, x1, y1 = obj.box
        assert 0 <= x0 < x1 <= scene.width and 0 <= y0 < y1 <= scene.height
        for other in scene.objects[:i]:
            a0, b0, a1, b1 = other.box
            assert x1 <= a0 or a1 <= x0 or y1 <= b0 or b1 <= y0


@few
@given(st.integers(0, 10**6), styles)
def test_annotated_boxes_are_close_and_inside(seed: int, style: SceneStyle) -> None:
    rng = Random(seed)
    scene = make_scene(rng, style)
    scale = scale_to_longest(scene, rng.choice((500, 640, 800, 1024)))
    for obj in scene.objects:
        x, y, w, h = annotate_box(rng, obj.box, scale)
        assert 0 <= x < x + w <= scale.width and 0 <= y < y + h <= scale.height
        corners = np.array((x, y, x + w, y + h))
        assert np.abs(corners - scale.scale_box(obj.box)).max() <= 3.5


def test_caption_length_bias_shortens_descriptions_of_one_object() -> None:
    lengths = {}
    for caption_length_bias in (1.0, 5.0):
        rng, words = Random(0), []
        for _ in range(100):
            language = Language(make_scene(rng, VARIED), caption_length_bias)
            for obj in range(len(language.objects)):
                phrase = language.noun_phrase(rng, obj)
                assert phrase.objects == [obj]
                words.append(len(phrase.words.split()) - len(phrase.noun.split()))
        lengths[caption_length_bias] = np.mean(words)
    assert lengths[1.0] > 1.4 * lengths[5.0]
