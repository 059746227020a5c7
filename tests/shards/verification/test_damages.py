"""Consistent damages, as bugs of the writer would make them, are found by `verify`."""

import functools
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from shards.reading.shard_set import ShardSet
from shards.verification.errors import ErrorKind
from shards.verification.verify import verify
from tests import tiny
from tests.end_to_end.test_joins import build
from tests.shards.verification.damages import DAMAGES
from tests.shards.verification.set_data import SetData

#: Of rejected records, which the smaller set has none of, and of a large set.
IN_DEMO = {
    "row of rejected.parquet lost",
    "unknown source of a rejected row",
    "count of a rejected row",
    "boxes of rejected rows",
    "one image under all keys",
}


def test_rewritten_set_has_no_errors(medium_set: Path, tmp_path: Path) -> None:
    """So what a damaged set has is the damage's."""
    SetData(medium_set).write(tmp_path)
    assert verify(ShardSet.open(tmp_path)).errors.listed == []


@pytest.fixture(scope="session")
def damaged_set(
    medium_set: Path, demo_set: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Returns the folder of a damaged set, which is written once; tests must not change it."""

    @functools.cache
    def pickled(folder: Path) -> bytes:
        return pickle.dumps(SetData(folder))

    @functools.cache
    def write(name: str) -> Path:
        data = pickle.loads(pickled(demo_set if name in IN_DEMO else medium_set))
        DAMAGES[name].edit(data)
        folder = tmp_path_factory.mktemp("damaged")
        data.write(folder)
        return folder

    return write


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found(name: str, damaged_set: Callable[[str], Path]) -> None:
    errors = verify(ShardSet.open(damaged_set(name))).errors
    assert DAMAGES[name].kind in errors.counts


@pytest.mark.parametrize("count", [2, 3])
def test_one_file_of_all_images_is_a_leak(count: int, tmp_path: Path) -> None:
    """However few there are: nothing but the build of tests has such a set."""
    split_of = {1: "train", 2: "val", 3: "train"}
    boxes = [tiny.coco_annotation(i, i) for i in split_of]
    references = [tiny.reference(i, i, {i: f"cat {i}"}, split) for i, split in split_of.items()]
    images = [tiny.coco_image(i) for i in split_of][:count]
    source = tiny.write_coco(tmp_path, images, boxes[:count], references[:count])
    for i in range(1, count + 1):
        tiny.write(tmp_path / f"coco/images/{i}.jpg", tiny.image_file())
    splits = {"train": {"shards": 1}, "val": {"shards": 1}}
    assert build(tmp_path, sources={"coco": source}, splits=splits) == 0
    errors = verify(ShardSet.open(tmp_path / "shards")).errors
    assert errors.counts[ErrorKind.LEAK] == count - 1
