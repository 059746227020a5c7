"""COCO JSON is valid for any number of images."""

import json
from pathlib import Path

import pytest

from shards.export.coco_json import open_coco_json


@pytest.mark.parametrize("first_id", [0, 1])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_images_and_annotations_get_consecutive_ids(
    tmp_path: Path, count: int, first_id: int
) -> None:
    with open_coco_json(tmp_path / "file.json", first_id) as writer:
        for i in range(count):
            assert writer.add_image({"file_name": f"{i}.jpg"}) == first_id + i
            writer.add_annotation({"image_id": first_id + i})
            writer.add_annotation({"image_id": first_id + i})
        writer.finish([{"id": 1, "name": "object"}])
    content = json.loads((tmp_path / "file.json").read_bytes())
    image_ids = list(range(first_id, first_id + count))
    assert [image["id"] for image in content["images"]] == image_ids
    assert [a["id"] for a in content["annotations"]] == list(range(first_id, first_id + 2 * count))
    assert [a["image_id"] for a in content["annotations"]] == sorted(2 * image_ids)
    assert content["categories"] == [{"id": 1, "name": "object"}]
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]
