"""Pairs of captions that differ in one word."""

from pathlib import Path

import pytest

from mdetr_model.report.results import read_results
from mdetr_model.report.word_change import WordChange, word_changes
from schemas import Box, Caption, Phrase, Provenance, Region
from shards.reading.shard_set import ShardSet
from tests.mdetr_model.report import evaluations
from tests.mdetr_model.report.evaluations import OBJECTS, caption, image, truth, write_files


def changes(
    folder: Path, *captions: Caption, predict: evaluations.Predict = truth
) -> list[WordChange]:
    paths = write_files(folder, [image(1, *captions)], predict)
    return word_changes(read_results(paths.evaluation, ShardSet.open(paths.shards), "val").captions)


def one_word(text: str, name: str) -> Caption:
    region = Region([(0, len(text))], OBJECTS[name])
    return Caption(text, [region], [], [Provenance("vg", "1", (0, len(text)))])


def texts(change: WordChange) -> list[str]:
    """Returns both captions, with the changed word in brackets."""
    return [
        f"{text[:begin]}[{text[begin:end]}]{text[end:]}"
        for text, (begin, end) in (
            (changed.caption.caption.text, changed.word) for changed in change
        )
    ]


def test_pairs_of_a_color_and_of_a_shape(tmp_path: Path) -> None:
    pairs = changes(
        tmp_path,
        caption("red circle", "red circle"),
        caption("blue circle.", "blue circle"),
        caption("green arrow", "green arrow"),
        caption("blue star", "blue star"),
    )
    assert [texts(pair) for pair in pairs] == [
        ["[red] circle", "[blue] circle."],
        ["blue [circle].", "blue [star]"],
    ]
    assert [pair.first.phrase.boxes for pair in pairs] == [
        [OBJECTS["red circle"]],
        [OBJECTS["blue circle"]],
    ]


def test_case_and_punctuation_are_no_difference(tmp_path: Path) -> None:
    first = caption("Where is (the red circle)?", "red circle")
    second = caption("where is the blue circle?", "blue circle")
    assert [texts(pair) for pair in changes(tmp_path, first, second)] == [
        ["Where is (the [red] circle)?", "where is the [blue] circle?"]
    ]


@pytest.mark.parametrize(
    "captions",
    [
        [caption("red circle", "red circle"), caption("blue star", "blue star")],  # two words
        [caption("red circle", "red circle"), caption("a blue circle", "blue circle")],
        [one_word("circle", "red circle"), one_word("star", "blue star")],
        [caption("the red circle", "red circle"), caption("a red circle", "red circle")],
        [  # other objects, but the same words
            caption("see the red circle, blue circle", "red circle"),
            caption("see the red circle, blue circle", "blue circle"),
        ],
        [caption("a red circle", "red circle"), caption("a red circle, blue star", "blue star")],
    ],
)
def test_captions_that_are_no_pair(tmp_path: Path, captions: list[Caption]) -> None:
    assert changes(tmp_path, *captions) == []


def test_text_that_names_several_objects_is_not_used(tmp_path: Path) -> None:
    ambiguous = caption("red circle", "red circle")
    ambiguous.regions[0].box = OBJECTS["green arrow"]
    first, second = caption("red circle", "red circle"), caption("blue circle", "blue circle")
    assert changes(tmp_path / "1", first, ambiguous, second) == []
    assert len(changes(tmp_path / "2", first, first, second)) == 1


def test_captions_of_two_images_are_no_pair(tmp_path: Path) -> None:
    samples = [
        image(1, caption("red circle", "red circle")),
        image(2, caption("blue circle", "blue circle")),
    ]
    paths = write_files(tmp_path, samples)
    results = read_results(paths.evaluation, ShardSet.open(paths.shards), "val")
    assert word_changes(results.captions) == []


def test_other_phrases_of_a_pair_name_the_same_objects(tmp_path: Path) -> None:
    first = caption("the red circle above the blue star", "red circle", "blue star")
    second = caption("the blue circle above the blue star", "blue circle", "blue star")
    [pair] = changes(tmp_path, first, second)
    assert texts(pair) == [
        "the [red] circle above the blue star",
        "the [blue] circle above the blue star",
    ]
    assert pair.second.phrase.boxes == [OBJECTS["blue circle"]]


def test_pair_is_right_only_if_both_boxes_are(tmp_path: Path) -> None:
    def same_box(_: Caption, __: Phrase) -> Box:
        return OBJECTS["red circle"]

    captions = [caption("red circle", "red circle"), caption("blue circle", "blue circle")]
    [right] = changes(tmp_path / "1", *captions)
    [wrong] = changes(tmp_path / "2", *captions, predict=same_box)
    assert right.is_right
    assert not wrong.is_right
    assert wrong.first.phrase.is_right
