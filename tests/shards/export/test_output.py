"""An export is whole or not there."""

import json
from pathlib import Path

import pytest

from shards.export.output import coco_json, new_folder


def test_a_folder_has_its_name_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "far" / "folder"
    with new_folder(path) as folder:
        (folder / "file").write_text("new")
        assert not path.exists()
    assert (path / "file").read_text() == "new"
    assert [path.name for path in path.parent.iterdir()] == ["folder"]


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_what_fails_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), new_folder(tmp_path / "folder") as folder:
        (folder / "file").write_text("new")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".folder.part").mkdir()
    (tmp_path / ".folder.part" / "old").write_text("old")
    with new_folder(tmp_path / "folder") as folder:
        (folder / "new").write_text("new")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "new"]


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(FileExistsError, match="is there already"), new_folder(path):
            pass
    assert [path.name for path in tmp_path.rglob("*")] == ["file"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with new_folder(tmp_path / "folder") as folder:
        (folder / "new").write_text("new")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["new"]


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
