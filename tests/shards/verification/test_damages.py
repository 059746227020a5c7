"""Consistent damages, as bugs of the writer would make them, are found by `verify`."""

from pathlib import Path

import pytest

from shards.reading.shard_set import ShardSet
from shards.verification.verify import verify
from tests.shards.verification.damages import DAMAGES
from tests.shards.verification.set_data import SetData


def test_rewritten_set_has_no_errors(demo_set: Path, tmp_path: Path) -> None:
    """So what a damaged set has is the damage's."""
    SetData(demo_set).write(tmp_path)
    assert verify(ShardSet.open(tmp_path)).errors.listed == []


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found(name: str, demo_set: Path, tmp_path: Path) -> None:
    damage = DAMAGES[name]
    data = SetData(demo_set)
    damage.edit(data)
    data.write(tmp_path)
    assert damage.kind in verify(ShardSet.open(tmp_path)).errors.counts
