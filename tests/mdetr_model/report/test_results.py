"""Results of an evaluation beside the annotations."""

import json
from pathlib import Path

import pytest

from mdetr_model.report.results import read_results
from schemas import Box, Caption, Phrase, Provenance, Region
from shards.reading.shard_set import ShardSet
from tests.mdetr_model.report import evaluations
from tests.mdetr_model.report.evaluations import ELSEWHERE, OBJECTS, caption, image, write_files


def half_right(text: Caption, phrase: Phrase) -> Box:
    return phrase.boxes[0] if "star" in text.text else ELSEWHERE


def test_share_of_right_phrases_is_the_recall_of_the_metrics(tmp_path: Path) -> None:
    paths = write_files(tmp_path, evaluations.images(3), half_right)
    results = read_results(paths.evaluation, ShardSet.open(paths.shards), "val")
    phrases = [phrase for text in results.captions for phrase in text.phrases]
    assert len(phrases) == results.metrics.phrases == 12
    assert sum(phrase.is_right for phrase in phrases) / 12 == results.metrics.recall == 0.5
    assert results.images == 3
    assert [text.key for text in results.captions] == [
        f"vg/{i}" for i in range(3) for _ in range(3)
    ]


def test_phrases_are_in_the_order_of_the_text_with_all_their_boxes(tmp_path: Path) -> None:
    text = "green arrow, two circles"
    regions = [
        Region([(13, 24)], OBJECTS["red circle"]),
        Region([(0, 11)], OBJECTS["green arrow"]),
        Region([(13, 24)], OBJECTS["blue circle"]),
        Region([], OBJECTS["blue star"]),
    ]
    sample = image(1, Caption(text, regions, [], [Provenance("vg", "1", (0, len(text)))]))
    paths = write_files(tmp_path, [sample], lambda _, phrase: phrase.boxes[-1])
    [result] = read_results(paths.evaluation, ShardSet.open(paths.shards), "val").captions
    arrow, circles = result.phrases
    assert (arrow.spans, arrow.boxes) == ([(0, 11)], [OBJECTS["green arrow"]])
    assert circles.boxes == [OBJECTS["red circle"], OBJECTS["blue circle"]]
    assert circles.predicted == OBJECTS["blue circle"]
    assert arrow.is_right
    assert circles.is_right


def test_phrase_without_boxes_is_left_out(tmp_path: Path) -> None:
    circle = caption("a red circle, a dog", "red circle")
    circle.phrases = [
        Phrase([(2, 12)], "1", ["shapes"], [OBJECTS["red circle"]]),
        Phrase([(14, 19)], "2", ["animals"], []),
    ]
    paths = write_files(
        tmp_path, [image(1, circle)], lambda _, phrase: [*phrase.boxes, ELSEWHERE][0]
    )
    results = read_results(paths.evaluation, ShardSet.open(paths.shards), "val")
    assert [phrase.spans for phrase in results.captions[0].phrases] == [[(2, 12)]]
    assert results.metrics.any_box.keys() == {"all", "shapes"}


def test_results_of_another_split_are_an_error(tmp_path: Path) -> None:
    paths = write_files(tmp_path, evaluations.images(3))
    shards = ShardSet.open(paths.shards)
    with pytest.raises(
        ValueError, match=r"is not of split train of .* phrases in caption 0 of vg/9"
    ):
        read_results(paths.evaluation, shards, "train")
    predictions = json.loads((paths.evaluation / "predictions.json").read_text())
    others = [*predictions, {**predictions[0], "key": "vg/77"}]
    (paths.evaluation / "predictions.json").write_text(json.dumps(others))
    with pytest.raises(ValueError, match=r"of split val of .*, which has no such caption of vg/77"):
        read_results(paths.evaluation, shards, "val")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.json", {"all": {"IoU > 0.5": {}}, "expressions": 9}, "not of 'mdetr evaluate gr"),
        ("predictions.json", [{"questionId": "7", "prediction": "yes"}], "not of 'mdetr evaluate"),
        (
            "metrics.json",
            {"any-box": {}, "merged-boxes": {}, "phrases": 0, "baselines": {"all": {}}},
            "no phrase with a box was evaluated",
        ),
    ],
)
def test_results_of_another_task_or_of_nothing_are_an_error(
    tmp_path: Path, name: str, content: object, message: str
) -> None:
    paths = write_files(tmp_path, evaluations.images(1))
    (paths.evaluation / name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_results(paths.evaluation, ShardSet.open(paths.shards), "val")
