"""Files in COCO's layout, written as their images and annotations come."""

import json
from pathlib import Path

import pytest

from shards.export.output import coco_json


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_images_and_annotations_as_they_come(tmp_path: Path, count: int, first: int) -> None:
    with coco_json(tmp_path / "file.json", first) as file:
        for i in range(count):
            assert file.add_image({"file_name": f"{i}.jpg"}) == first + i
            file.add_annotation({"image_id": first + i})
            file.add_annotation({"image_id": first + i})
        file.end([{"id": 1, "name": "object"}])
    content = json.loads((tmp_path / "file.json").read_bytes())
    assert [of["id"] for of in content["images"]] == list(range(first, first + count))
    assert [of["id"] for of in content["annotations"]] == list(range(first, first + 2 * count))
    assert [of["image_id"] - first for of in content["annotations"]] == [
        i for i in range(count) for _ in range(2)
    ]
    assert content["categories"] == [{"id": 1, "name": "object"}]
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]
