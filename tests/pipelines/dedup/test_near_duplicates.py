"""The net of perceptual hashes: images of train that look like held-out ones."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests import tiny


def excluded(root: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(root / "shards/excluded.parquet").to_pylist()
    return rows


@pytest.mark.parametrize("action", ["report", "exclude"])
def test_near_duplicate_of_an_image_of_no_source_is_reported_or_excluded(
    tmp_path: Path, action: str
) -> None:
    images = [tiny.vg_image(1), tiny.vg_image(2)]
    graphs = [tiny.vg_graph(i, tiny.vg_region(i, "a red cat")) for i in (1, 2)]
    vg = tiny.write_vg(tmp_path, images, graphs)
    same = tiny.encoded(tiny.drawing(100, 50, hue=1), quality=60)
    tiny.write(tmp_path / "val/COCO_val2014_77.jpg", same)
    tiny.write_json(
        tmp_path / "val.json", {"images": [{"id": 77, "file_name": "COCO_val2014_77.jpg"}]}
    )
    exclude = {"coco_val2014": {"instances": ["val.json"], "images": ["val"]}}
    near = {"action": action, "distance": 6}
    assert tiny.build(tmp_path, sources={"vg": vg}, exclude=exclude, near_duplicates=near) == 0
    [row] = excluded(tmp_path)
    assert (row["image"], row["eval_set"], row["eval_image"]) == ("vg/1", "coco_val2014", "coco/77")
    assert (row["join"], row["excluded"]) == ("perceptual hash", action == "exclude")
    keys = set(tiny.samples(tmp_path))
    assert keys == ({"vg/2"} if action == "exclude" else {"vg/1", "vg/2"})


def test_missing_held_out_image_is_a_rejected_row(tmp_path: Path) -> None:
    graphs = [tiny.vg_graph(1, tiny.vg_region(1, "a red cat"))]
    vg = tiny.write_vg(tmp_path, [tiny.vg_image(1)], graphs)
    (tmp_path / "val").mkdir()
    tiny.write_json(tmp_path / "val.json", {"images": [{"id": 77, "file_name": "77.jpg"}]})
    exclude = {"coco_val2014": {"instances": ["val.json"], "images": ["val"]}}
    near = {"action": "report"}
    assert tiny.build(tmp_path, sources={"vg": vg}, exclude=exclude, near_duplicates=near) == 0
    [row] = tiny.rejected(tmp_path)
    assert (row.source, row.record, row.records) == ("exclude.coco_val2014", "coco/77", 0)
    assert row.reason == "held-out image missing"
