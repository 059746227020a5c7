"""Files of predictions."""

import json
from pathlib import Path
from typing import Any

import pytest

from mdetr_model.evaluation.predictions import (
    PhraseKey,
    PhrasePredictions,
    read_class_predictions,
)

ENTRY: dict[str, Any] = {
    "key": "vg/1",
    "caption_index": 0,
    "boxes": [[1, 2, 30, 40], [5, 6, 7, 8]],
    "scores": [0.25, 0.75],
}
FIRST, SECOND = PhraseKey("vg/1", 0, 0), PhraseKey("vg/1", 0, 1)


def write(path: Path, *entries: dict[str, Any]) -> Path:
    if path.suffix == ".json":
        path.write_text(json.dumps(list(entries)))
    else:
        path.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    return path


@pytest.mark.parametrize("name", ["p.json", "p.jsonl"])
def test_lines_and_arrays_are_read_best_boxes_first(tmp_path: Path, name: str) -> None:
    entries = [
        ENTRY | {"phrase": "more fields"},
        ENTRY | {"phrase_index": 1, "boxes": [], "scores": []},
    ]
    predictions = PhrasePredictions(write(tmp_path / name, *entries))
    assert predictions.check([FIRST, SECOND]) == 0
    first, second = map(predictions.detections, (FIRST, SECOND))
    assert first.boxes.tolist() == [[5, 6, 7, 8], [1, 2, 30, 40]]
    assert first.scores.tolist() == [0.75, 0.25]
    assert second.boxes.shape == (0, 4)


def test_missing_phrases_are_counted_and_have_no_boxes(tmp_path: Path) -> None:
    predictions = PhrasePredictions(write(tmp_path / "p.jsonl", ENTRY))
    assert predictions.check([FIRST, SECOND, PhraseKey("vg/2", 0, 0)]) == 2
    assert predictions.detections(SECOND).boxes.shape == (0, 4)


def test_entries_of_other_phrases_are_refused(tmp_path: Path) -> None:
    others = [ENTRY | {"key": "vg/2"}, ENTRY | {"caption_index": 3}]
    predictions = PhrasePredictions(write(tmp_path / "p.jsonl", ENTRY, *others))
    with pytest.raises(ValueError, match=r"2 entries are of phrases that are not in the split"):
        predictions.check([FIRST])


def test_file_without_predictions_is_refused(tmp_path: Path) -> None:
    predictions = PhrasePredictions(write(tmp_path / "p.jsonl"))
    with pytest.raises(ValueError, match="has no predictions for the split"):
        predictions.check([FIRST])


def test_two_entries_of_a_phrase_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 phrases have two entries"):
        PhrasePredictions(write(tmp_path / "p.jsonl", ENTRY, ENTRY))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": [0.5]}, "2 boxes with 1 scores"),
        ({"scores": [0.5, float("nan")]}, "malformed"),
        ({"scores": [0.5, None]}, "Expected `float`, got `null`"),
        ({"boxes": [[1, 2, 3, 4], [5, 6, 4, 8]]}, "is not a box x0, y0, x1, y1"),
        ({"boxes": [[1, 2, 3], [5, 6, 7, 8]]}, "Expected `array` of length 4"),
        ({"caption_index": "0"}, "Expected `int`"),
    ],
)
def test_invalid_entries_are_counted(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "p.jsonl", ENTRY, ENTRY | change, ENTRY | change)
    with pytest.raises(ValueError, match=r"2 entries are invalid; the first, entry 2: ") as error:
        PhrasePredictions(path)
    assert message in str(error.value)


def test_damaged_array_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text("[{")
    with pytest.raises(ValueError, match="is no JSON array"):
        PhrasePredictions(tmp_path / "p.json")


RESULT = {"image_id": 7, "category_id": 3, "bbox": [1, 2, 30, 40], "score": 0.5}


@pytest.mark.parametrize("name", ["p.json", "p.jsonl"])
def test_results_of_lvis_are_read(tmp_path: Path, name: str) -> None:
    detections = read_class_predictions(write(tmp_path / name, RESULT, RESULT | {"score": 1}))
    assert detections.boxes.tolist() == [[1, 2, 31, 42]] * 2
    assert detections.scores.tolist() == [0.5, 1]
    assert (detections.image_ids.tolist(), detections.category_ids.tolist()) == ([7, 7], [3, 3])
    with pytest.raises(ValueError, match="1 entries are invalid"):
        read_class_predictions(write(tmp_path / "bad.jsonl", RESULT, RESULT | {"bbox": [1, 2]}))
