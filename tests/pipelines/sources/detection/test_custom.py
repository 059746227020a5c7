"""Files of one's own: COCO's layout and ODVG, by the five lines of TOML that the docs show."""

import json
import re
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipelines.build import main
from shards.__main__ import main as shards
from shards.format import manifest
from tests import tiny

RUNNER = "--runner=tests.eager_runner.EagerRunner"
DOCS = Path(__file__).parents[4] / "docs/detection.md"
FILES = ("yard/DSC 1.jpg", "yard/dsc2.jpg", "0.jpg")


def write_images(root: Path) -> None:
    for hue, file in enumerate(FILES):
        tiny.write(root / "images" / file, tiny.image_file(hue=hue))


def write_coco(path: Path, files: Sequence[str] = FILES) -> None:
    """Writes a file whose ids count from 0."""
    images = [
        {"id": i, "file_name": file, "width": tiny.WIDTH, "height": tiny.HEIGHT}
        for i, file in enumerate(files)
    ]
    annotations = [
        {"id": i, "image_id": i % len(files), "category_id": i % 2, "bbox": [10 * i, 5, 20, 30]}
        for i in range(6)
    ]
    categories = [{"id": 0, "name": "garden_gnome"}, {"id": 1, "name": "hose"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    tiny.write_json(path, content)


def odvg_line(file: str, **fields: Any) -> dict[str, Any]:
    return {"filename": file, "width": tiny.WIDTH, "height": tiny.HEIGHT, **fields}


def write_odvg(path: Path, *lines: Any) -> None:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    tiny.write(path, "\n".join(texts).encode())


def captions_of(root: Path) -> dict[tuple[str, str], list[tuple[str, list[float]]]]:
    """Returns the words and the box of each region, by image file and caption."""
    return {
        (sample["file"], caption["text"]): sorted(
            (" ".join(caption["text"][a:b] for a, b in region["tokens_positive"]), region["box"])
            for region in caption["regions"]
        )
        for sample in tiny.samples(root).values()
        for caption in sample["captions"]
    }


def test_five_lines_of_the_docs_build_a_set_of_files_of_both_kinds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    examples = re.findall(r"```toml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    [recipe] = [text for text in examples if "custom" in text]
    assert len(recipe.strip().splitlines()) == 5
    tiny.write(tmp_path / "mine.toml", recipe.encode())
    write_images(tmp_path)
    write_coco(tmp_path / "boxes.json")
    phrase = {"bbox": [1, 2, 30, 40], "phrase": "a hose", "tokens_positive": [[13, 19]]}
    grounding = {"caption": "the gnome on a hose", "regions": [phrase]}
    write_odvg(tmp_path / "captions.jsonl", odvg_line(FILES[0], grounding=grounding))
    output = f"--output={tmp_path}/shards"
    assert main([str(tmp_path / "mine.toml"), f"--root={tmp_path}", output, RUNNER]) == 0
    assert shards(["verify", str(tmp_path / "shards"), "--quiet"]) == 0
    counts = manifest.load(tmp_path / "shards").sources["custom"]
    assert (counts.rejected, counts.in_shards, counts.boxes.in_shards) == (0, 7, 7)
    words = {
        (file, *region)
        for (file, _), regions in captions_of(tmp_path).items()
        for region in [(word, box[0]) for word, box in regions]
    }
    assert words == {
        *((FILES[i % 3], ("garden gnome", "hose")[i % 2], 10.0 * i) for i in range(6)),
        (FILES[0], "a hose", 1.0),
    }
    keys = set(tiny.samples(tmp_path))
    assert "custom/yard/dsc2" in keys and "custom/0" in keys and len(keys) == 3


def test_odvg_has_captions_phrases_and_classes(tmp_path: Path) -> None:
    write_images(tmp_path)
    boxes = [[1, 2, 30, 40], [5, 6, 70, 80]]
    regions = [
        {"bbox": boxes, "phrase": ["a Cat"]},
        {"bbox": boxes[0], "phrase": "door", "tokens_positive": [[10, 18]]},
        {"bbox": boxes[0], "phrase": "window"},
    ]
    instance = {"bbox": [3, 4, 50, 60], "label": 7, "category": "fire_hydrant"}
    write_odvg(
        tmp_path / "own.jsonl",
        odvg_line(FILES[0], grounding={"caption": "a cat and the door", "regions": regions}),
        "",
        odvg_line(FILES[0], detection={"instances": [instance, instance | {"bbox": [0, 0, 9, 9]}]}),
        "{not JSON}",
        odvg_line(FILES[1], grounding={"caption": "nothing", "regions": regions[2:]}),
        odvg_line(FILES[1]),
    )
    table = {"files": {"train": ["own.jsonl"]}, "dataset": "own", "images": ["images"]}
    splits = {"train": {"shards": 1, "combine": False}}
    assert tiny.build(tmp_path, RUNNER, splits=splits, sources={"custom": table}) == 0
    assert captions_of(tmp_path) == {
        (FILES[0], "a cat and the door"): [
            ("a cat", [1, 2, 30, 40]),
            ("a cat", [5, 6, 70, 80]),
            ("the door", [1, 2, 30, 40]),
        ],
        (FILES[0], "fire hydrant"): [
            ("fire hydrant", [0, 0, 9, 9]),
            ("fire hydrant", [3, 4, 50, 60]),
        ],
    }
    rows = {(r.reason, r.records, r.boxes) for r in tiny.rejected(tmp_path)}
    assert rows == {
        ("phrase that is not in the caption", 0, 1),
        ("phrase that is not in the caption", 1, 1),
        ("malformed record", 1, 0),
    }
    counts = manifest.load(tmp_path / "shards").sources["custom"]
    assert (counts.read, counts.in_shards, counts.rejected) == (5, 2, 3)
    assert (counts.boxes.read, counts.boxes.in_shards, counts.boxes.rejected) == (7, 5, 2)


def test_classes_of_an_image_in_several_files_are_united_by_their_names(tmp_path: Path) -> None:
    """Ids of images and classes count from 0 in each file, whatever has them in another one."""
    write_images(tmp_path)

    def write_file(name: str, image_files: Sequence[str], classes: Sequence[str], x: int) -> None:
        size = {"width": tiny.WIDTH, "height": tiny.HEIGHT}
        content = {
            "images": [{"id": i, "file_name": f, **size} for i, f in enumerate(image_files)],
            "annotations": [
                {"id": i, "image_id": image_files.index("0.jpg"), "category_id": i, "bbox": bbox}
                for i, bbox in enumerate([[x, 0, 10, 10], [x, 20, 10, 10]])
            ],
            "categories": [{"id": i, "name": each} for i, each in enumerate(classes)],
        }
        tiny.write_json(tmp_path / name, content)

    write_file("animals.json", ["0.jpg"], ["cat", "dog"], x=0)
    write_file("vehicles.json", ["0.jpg", FILES[0]], ["truck", "bus"], x=20)
    write_file("more.json", [FILES[0], "0.jpg"], ["dog", "cat"], x=40)
    instance = {"bbox": [60, 0, 70, 10], "category": "1"}
    write_odvg(tmp_path / "own.jsonl", odvg_line("0.jpg", detection={"instances": [instance]}))
    files = ["animals.json", "vehicles.json", "more.json", "own.jsonl"]
    table = {"files": {"train": files}, "images": ["images"]}
    splits = {"train": {"shards": 1, "combine": False}}
    assert tiny.build(tmp_path, RUNNER, splits=splits, sources={"custom": table}) == 0
    corners = {
        text: [box[:2] for _, box in regions]
        for (_, text), regions in captions_of(tmp_path).items()
    }
    assert corners == {
        "cat": [[0, 0], [40, 20]],
        "dog": [[0, 20], [40, 0]],
        "truck": [[20, 0]],
        "bus": [[20, 20]],
        "1": [[60, 0]],
    }
    counts = manifest.load(tmp_path / "shards").sources["custom"]
    assert (counts.rejected, counts.boxes.in_shards) == (0, 7)


def test_captions_of_files_of_one_name_are_several(tmp_path: Path) -> None:
    """Each is at byte 0 of a captions.jsonl."""
    write_images(tmp_path)
    phrase = {"bbox": [1, 2, 30, 40], "phrase": "gnome"}
    for folder, text in (("a", "the gnome"), ("b", "a gnome on a hose")):
        grounding = {"caption": text, "regions": [phrase]}
        write_odvg(tmp_path / folder / "captions.jsonl", odvg_line("0.jpg", grounding=grounding))
    table = {"files": {"train": ["a/captions.jsonl", "b/captions.jsonl"]}, "images": ["images"]}
    splits = {"train": {"shards": 1, "combine": False}}
    assert tiny.build(tmp_path, RUNNER, splits=splits, sources={"custom": table}) == 0
    assert {text for _, text in captions_of(tmp_path)} == {"the gnome", "a gnome on a hose"}
    assert tiny.rejected(tmp_path) == []


def test_files_of_similar_names_are_several_images(tmp_path: Path) -> None:
    files = ["a.jpg", "a.png", "7.jpg", "007.jpg", "b/7.jpg", "b/07.jpg"]
    for hue, file in enumerate(files):
        tiny.write(tmp_path / "images" / file, tiny.image_file(hue=hue))
    write_coco(tmp_path / "boxes.json", files)
    table = {"files": {"train": ["boxes.json"]}, "images": ["images"]}
    assert tiny.build(tmp_path, RUNNER, sources={"custom": table}) == 0
    samples = tiny.samples(tmp_path)
    assert sorted(sample["file"] for sample in samples.values()) == sorted(files)
    assert {"custom/a", "custom/7", "custom/b/7"} <= samples.keys()
    assert tiny.rejected(tmp_path) == []


def test_list_of_held_out_images_has_names_of_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also of names that are hashed: the id of 07.jpg is not that of 7.jpg."""
    held_out = ["007.jpg", "a.PNG", "b/x.jpg", "DSC 1 (2).jpg", "caf\u00e9.jpg"]
    files = ["c.jpg", *held_out[:4], "8.jpg", *held_out[4:]]  # the last has no boxes
    for hue, file in enumerate(files):
        tiny.write(tmp_path / "images" / file, tiny.image_file(hue=hue))
    write_coco(tmp_path / "boxes.json", files)
    table = {"files": {"train": ["boxes.json"]}, "images": ["images"]}
    tiny.write(tmp_path / "ids.txt", "\n".join([*held_out, "8"]).encode())
    assert tiny.build(tmp_path, RUNNER, sources={"custom": table}) == 0
    verify = ["verify", str(tmp_path / "shards"), "--held-out", f"custom={tmp_path}/ids.txt"]
    assert shards([*verify, "--quiet"]) == 1
    assert capsys.readouterr().out.count("ids.txt lists it") == 5
    exclude = {"own": {"ids": ["ids.txt"], "of": "custom"}}
    tables: dict[str, Any] = {"sources": {"custom": table}, "exclude": exclude}
    assert tiny.build(tmp_path, RUNNER, "--overwrite", **tables) == 0
    assert {sample["file"] for sample in tiny.samples(tmp_path).values()} == {"c.jpg"}
    assert shards([*verify, "--quiet"]) == 0
    tiny.write(tmp_path / "ids.txt", b"file,split\n")
    assert tiny.build(tmp_path, RUNNER, "--overwrite", **tables) == 1
    assert "'file,split' is not an image id of custom" in capsys.readouterr().err


def test_line_of_odvg_that_would_cost_too_much_is_rejected(tmp_path: Path) -> None:
    write_images(tmp_path)
    box = [1, 2, 30, 40]
    nested = "[" * 100_000 + "]" * 100_000
    phrases = [
        [{"phrase": [f"p{i}" for i in range(100_000)], "bbox": box}],
        [{"phrase": "a " * 4_000 + f"b{i}", "bbox": box} for i in range(400)],
        [{"phrase": "a", "bbox": [box] * 500, "tokens_positive": [[0, 1]] * 100_000}],
    ]
    lines = [
        odvg_line(FILES[0], grounding={"caption": "a " * 4_900, "regions": regions})
        for regions in phrases
    ]
    usable = {"caption": "a cat", "regions": [{"phrase": "cat", "bbox": box}]}
    instances = [{"bbox": box, "category": "(" * 200_000}]
    write_odvg(
        tmp_path / "own.jsonl",
        *lines,
        odvg_line(FILES[0], detection={"instances": instances}),
        f'{{"filename": "x.jpg", "other": {nested}}}',
        f'{{"filename": "x.jpg", "width": 9.0, "height": 9, "other": {nested}}}',
        odvg_line(FILES[1], grounding=usable),
    )
    table = {"files": {"train": ["own.jsonl"]}, "images": ["images"]}
    started = time.process_time()
    assert tiny.build(tmp_path, RUNNER, sources={"custom": table}) == 0
    assert time.process_time() - started < 5
    assert captions_of(tmp_path) == {(FILES[1], "a cat."): [("cat", box)]}
    reasons = Counter(row.reason for row in tiny.rejected(tmp_path))
    assert reasons == {"record too large": 3, "unusable class name": 1, "malformed record": 2}


def test_spans_take_in_whole_graphemes(tmp_path: Path) -> None:
    write_images(tmp_path)
    phrases = [{"phrase": "cafe", "bbox": [1, 2, 30, 40]}]
    hindi = "\u0939\u093f\u0902\u0926\u0940"
    partial = [{"phrase": "", "bbox": [1, 2, 30, 40], "tokens_positive": [[4, 8]]}]
    write_odvg(
        tmp_path / "own.jsonl",
        odvg_line(FILES[0], grounding={"caption": "a cafe\u0301 sign", "regions": phrases}),
        odvg_line(FILES[1], grounding={"caption": f"the {hindi}", "regions": partial}),
    )
    table = {"files": {"train": ["own.jsonl"]}, "images": ["images"]}
    assert tiny.build(tmp_path, RUNNER, sources={"custom": table}) == 0
    words = [word for regions in captions_of(tmp_path).values() for word, _ in regions]
    assert sorted(words) == ["cafe\u0301", hindi]
    assert shards(["verify", str(tmp_path / "shards"), "--quiet"]) == 0


def test_image_in_files_of_both_roles_fails_the_build(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their ids differ; the name of the image's file is the same."""
    write_images(tmp_path)
    write_coco(tmp_path / "train.json", FILES[:2])
    write_coco(tmp_path / "val.json", FILES[1:])
    table = {"files": {"train": ["train.json"], "val": ["val.json"]}, "images": ["images"]}
    splits = {"train": {"shards": 1}, "val": {"shards": 1}}
    assert tiny.build(tmp_path, RUNNER, splits=splits, sources={"custom": table}) == 1
    message = "both trained and evaluated on: custom/yard/dsc2 (in train, and in val)"
    assert message in capsys.readouterr().err


def test_exported_odvg_is_read_back(tmp_path: Path) -> None:
    write_images(tmp_path)
    write_coco(tmp_path / "boxes.json")
    table = {"files": {"train": ["boxes.json"]}, "images": ["images"]}
    tables: dict[str, Any] = {"splits": {"train": {"shards": 1, "combine": False}}}
    assert tiny.build(tmp_path, RUNNER, **tables, sources={"custom": table}) == 0
    stated = captions_of(tmp_path)
    export = ["export", "odvg", str(tmp_path / "shards"), "--output", str(tmp_path / "odvg")]
    assert shards(export) == 0
    again = {"files": {"train": ["odvg/train_od.jsonl"]}, "images": ["images"]}
    assert tiny.build(tmp_path, RUNNER, "--overwrite", **tables, sources={"custom": again}) == 0
    assert captions_of(tmp_path) == stated


@pytest.mark.parametrize(
    ("dataset", "message"), [("coco", "a published one"), ("a/b", "cannot begin the key")]
)
def test_name_of_the_dataset_is_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dataset: str, message: str
) -> None:
    table = {"files": {"train": ["own.jsonl"]}, "images": ["images"], "dataset": dataset}
    assert tiny.build(tmp_path, RUNNER, sources={"custom": table}) == 1
    assert message in capsys.readouterr().err
