"""Consistent damages, as bugs of the writer would make them, are found by `verify`."""

from pathlib import Path

import pytest

from shards.reading.shard_set import ShardSet
from shards.verification.errors import ErrorKind
from shards.verification.verify import verify
from tests.shards.verification.damages import DAMAGES
from tests.shards.verification.set_data import SetData

#: Of rejected records, which the smaller set has none of, and of a large set.
IN_DEMO = {
    "row of rejected.parquet lost",
    "unknown source of a rejected row",
    "count of a rejected row",
    "one image under all keys",
}


def test_rewritten_set_has_no_errors(medium_set: Path, tmp_path: Path) -> None:
    """So what a damaged set has is the damage's."""
    SetData(medium_set).write(tmp_path)
    assert verify(ShardSet.open(tmp_path)).errors.listed == []


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found(name: str, medium_set: Path, demo_set: Path, tmp_path: Path) -> None:
    damage = DAMAGES[name]
    data = SetData(demo_set if name in IN_DEMO else medium_set)
    damage.edit(data)
    data.write(tmp_path)
    assert damage.kind in verify(ShardSet.open(tmp_path)).errors.counts


def test_set_of_one_image_file_is_a_test_input(medium_set: Path, tmp_path: Path) -> None:
    """A few images that all have one file: nothing is known about their files."""
    data = SetData(medium_set)
    [(file, images), *_] = [item for item in data.shards.items() if len(item[1]) > 1]
    for image in images:
        image.content = images[0].content
    for other in data.shards:
        data.shards[other] = images if other == file else []
    data.write(tmp_path)
    result = verify(ShardSet.open(tmp_path))
    assert not result.errors.counts.keys() & {ErrorKind.SAME_BYTES, ErrorKind.LEAK}
    assert any("all images have the same one" in check for check in result.not_checked)
