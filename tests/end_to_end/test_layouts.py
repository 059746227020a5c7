"""Versions and re-hosts of annotation files: each is built, and compared with a plain reader.

The plain readers are a few lines of json, pickle and pyarrow in this module. Every set is also
verified against its raw files by the readers of ``mdetr-shards verify --raw``.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from shards.__main__ import main as shards
from shards.format import manifest
from shards.format.source_counts import SourceCounts
from tests import tiny

#: A caption of a set: image, text, and its boxes (x0, y0, x1, y1).
Caption = tuple[str, str, tuple[tuple[float, ...], ...]]

SEPARATE = {"train": {"shards": 1, "combine": False}}
MARK = b"\xef\xbb\xbf"


def build(root: Path, capsys: pytest.CaptureFixture[str], **tables: Any) -> SourceCounts:
    """Builds, verifies against the raw files, and returns the counts of the only source."""
    tables = {"splits": SEPARATE, "reject_limit": 0.0, **tables}
    assert tiny.build(root, "--overwrite", **tables) == 0, capsys.readouterr().err
    capsys.readouterr()
    status = shards(["verify", str(root / "shards"), "--raw", str(root), "--quiet"])
    report = capsys.readouterr().out
    assert status == 0, report
    assert "raw files" not in report  # which lists what was not compared with them
    [counts] = manifest.load(root / "shards").sources.values()
    return counts


def captions(root: Path) -> Counter[Caption]:
    return Counter(
        (key, caption["text"], _sorted(region["box"] for region in caption["regions"]))
        for key, sample in tiny.samples(root).items()
        for caption in sample["captions"]
    )


def _sorted(boxes: Any) -> tuple[tuple[float, ...], ...]:
    return tuple(sorted(tuple(box) for box in boxes))


def corners(x: float, y: float, width: float, height: float) -> tuple[float, ...]:
    return (x, y, x + width, y + height)


# --- Visual Genome --------------------------------------------------------------------------------

PHRASES = ("a red cat", "the old door", "two dogs", "a tree")


def region_at(number: int) -> dict[str, int]:
    return {"x": 3 * number, "y": 2 * number, "width": 20 + number, "height": 15}


def write_vg(root: Path, version: str) -> dict[str, Any]:
    """Writes Visual Genome as a version states it, three images with regions and one without."""
    image_id = "id" if version == "1.0" else "image_id"
    region_id = "id" if version == "1.0" else "region_id"
    rows, descriptions, graphs = [], [], []
    for number in range(1, 5):
        tiny.write(root / f"vg/images/{number}.jpg", tiny.image_file(hue=number))
        row = {image_id: number, "width": tiny.WIDTH, "height": tiny.HEIGHT}
        row["url"] = f"https://cs.stanford.edu/people/rak248/VG_100K/{number}.jpg"
        rows.append(row if version == "1.0" else row | {"coco_id": None, "flickr_id": None})
        regions = [
            {region_id: 10 * number + i, "phrase": phrase, **region_at(number + i)}
            for i, phrase in enumerate(PHRASES[:number] if number < 4 else [])
        ]
        image = {"image" if version == "1.0" else "image_id": number}
        descriptions.append({"id": number, "regions": [image | region for region in regions]})
        objects = {"objects": [], "synsets": []}
        graphs.append({image_id: number, "regions": [objects | region for region in regions]})
    tiny.write_json(root / "vg/image_data.json", rows)
    tiny.write_json(root / "vg/region_descriptions.json", descriptions)
    tiny.write_json(root / "vg/region_graphs.json", graphs)
    return {"image_data": "vg/image_data.json", "images": ["vg/images"]}


@pytest.mark.parametrize("file", ["region_descriptions", "region_graphs"])
@pytest.mark.parametrize("version", ["1.0", "1.4"])
def test_visual_genome_of_each_version(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], version: str, file: str
) -> None:
    table = write_vg(tmp_path, version) | {file: f"vg/{file}.json"}
    counts = build(tmp_path, capsys, sources={"vg": table})
    elements = json.loads((tmp_path / f"vg/{file}.json").read_text())
    stated = Counter(
        (
            f"vg/{element.get('id', element.get('image_id'))}",
            region["phrase"],
            (corners(region["x"], region["y"], region["width"], region["height"]),),
        )
        for element in elements
        for region in element["regions"]
    )
    assert stated.total() == 6
    assert captions(tmp_path) == stated
    assert (counts.read, counts.in_shards) == (6, 6)
    assert (counts.boxes.read, counts.boxes.in_shards) == (6, 6)


def test_descriptions_and_graphs_without_objects_give_the_same_captions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_vg(tmp_path, "1.4")
    sets = []
    for file in ("region_descriptions", "region_graphs"):
        build(tmp_path, capsys, sources={"vg": table | {file: f"vg/{file}.json"}})
        sets.append([path.read_bytes() for path in (tmp_path / "shards").glob("*.tar")])
    assert sets[0] == sets[1]


@pytest.mark.parametrize(
    ("files", "count"), [({}, "none"), ({"region_graphs": "a", "region_descriptions": "b"}, "both")]
)
def test_visual_genome_has_one_file_of_regions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: dict[str, str], count: str
) -> None:
    table = {"image_data": "vg/image_data.json", "images": ["vg/images"]} | files
    assert tiny.build(tmp_path, sources={"vg": table}) == 1
    message = f"sources.vg: state region_graphs or region_descriptions; it has {count} of them"
    assert message in capsys.readouterr().err
