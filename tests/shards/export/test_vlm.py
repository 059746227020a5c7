"""Conversations of chat models: one of each image, a turn for each caption."""

import json
from pathlib import Path
from typing import Any

from schemas import AbsentSpan, Caption, Provenance, Region, Sample
from tests.shards.export.test_formats import export, lines, make_set

DOG, KITE = (10.0, 20.0, 30.5, 40.0), (100.0, 50.0, 300.0, 250.25)


def caption(text: str, *regions: Region, absent: tuple[tuple[int, int], ...] = ()) -> Caption:
    spans = [AbsentSpan(span, "gqa", "9", "answered no", "proven") for span in absent]
    source = [Provenance("vg", "1", (0, len(text)))]
    return Caption(text, list(regions), list(absent), source, absent=spans)


def exported(tmp_path: Path, *captions: Caption) -> tuple[dict[str, Any], ...]:
    """Returns the one line of each file of an image of 640 x 500 pixels."""
    sample = Sample("coco/139", 640, 500, "139.jpg", list(captions))
    out = export("vlm", make_set(tmp_path, sample), tmp_path / "out")
    files = [out / f"train_{form}.jsonl" for form in ("swift", "qwen_1000", "qwen_pixels")]
    return tuple(line for file in files for line in lines(file))


TWO = caption(
    "a dog and two kites", Region([(0, 5)], DOG), Region([(10, 19)], KITE), Region([(10, 19)], DOG)
)
ABSENT = caption("the kite. red sun.", Region([(0, 8)], KITE), absent=((10, 17),))


def test_swift_has_a_turn_for_each_caption_and_placeholders_in_order(tmp_path: Path) -> None:
    line, _, _ = exported(tmp_path, TWO, ABSENT)
    prompt = "Locate what this caption names: "
    assert line["messages"] == [
        {"role": "user", "content": f"<image>{prompt}{TWO.text}"},
        {"role": "assistant", "content": "<ref-object>: <bbox>\n<ref-object>: <bbox>, <bbox>"},
        {"role": "user", "content": f"{prompt}{ABSENT.text}"},
        {"role": "assistant", "content": "<ref-object>: <bbox>\n<ref-object>: none"},
    ]
    assert line["objects"] == {
        "ref": ["a dog", "two kites", "the kite", "red sun"],
        "bbox": [list(box) for box in (DOG, KITE, DOG, KITE)],
    }
    assert line["images"] == ["139.jpg"]


def test_qwen_has_boxes_in_thousandths_and_in_pixels(tmp_path: Path) -> None:
    _, thousandths, pixels = exported(tmp_path, ABSENT)
    for line, box in ((thousandths, [156, 100, 469, 500]), (pixels, [100, 50, 300, 250])):
        assert line["image"] == "139.jpg"
        question, answer = line["conversations"]
        assert question["from"] == "human" and answer["from"] == "gpt"
        assert question["value"] == f"<image>\nLocate what this caption names: {ABSENT.text}"
        assert json.loads(answer["value"]) == [
            {"bbox_2d": box, "label": "the kite"},
            {"bbox_2d": "none", "label": "red sun"},
        ]


def test_captions_without_phrases_or_with_placeholders_are_left_out(tmp_path: Path) -> None:
    hostile = caption("a <bbox> dog", Region([(0, 12)], DOG))
    line, _, _ = exported(tmp_path, caption("nothing"), hostile, ABSENT)
    assert [message["role"] for message in line["messages"]] == ["user", "assistant"]
    assert len(line["objects"]["ref"]) == 2


def test_every_box_and_placeholder_is_matched(tmp_path: Path) -> None:
    line, _, _ = exported(tmp_path, TWO, ABSENT, TWO)
    text = "".join(message["content"] for message in line["messages"])
    assert text.count("<image>") == 1
    assert text.count("<ref-object>") == len(line["objects"]["ref"])
    assert text.count("<bbox>") == len(line["objects"]["bbox"])
