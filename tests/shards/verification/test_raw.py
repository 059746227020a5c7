"""``mdetr-shards verify --raw``: what only a comparison with the raw files finds."""

from pathlib import Path

import pytest

from shards.__main__ import main
from shards.reading.shard_set import ShardSet
from shards.verification.errors import ErrorKind
from shards.verification.verify import WITHOUT_RAW, verify
from tests.shards.verification.damages import RAW_DAMAGES
from tests.shards.verification.set_data import SetData


def test_intact_set_agrees_with_its_raw_files(
    medium_set: Path, medium_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(medium_set), "--raw", str(medium_dataset), "--quiet"]) == 0
    assert "raw files" not in capsys.readouterr().out
    assert main(["verify", str(medium_set), "--quiet"]) == 0
    assert f"not checked: {WITHOUT_RAW[0]}" in capsys.readouterr().out


@pytest.mark.parametrize("name", RAW_DAMAGES)
def test_damage_is_found_by_raw_files_only(
    name: str, medium_set: Path, medium_dataset: Path, tmp_path: Path
) -> None:
    data = SetData(medium_set)
    RAW_DAMAGES[name](data)
    data.write(tmp_path)
    errors = verify(ShardSet.open(tmp_path), raw=medium_dataset).errors
    # A box that is moved may leave room for another sentence, and boxes are counted.
    others = {ErrorKind.JOINABLE, ErrorKind.SOURCES}
    assert ErrorKind.RAW in errors.counts.keys() <= {ErrorKind.RAW, *others}


def test_other_raw_files(medium_set: Path, small_dataset: Path, tmp_path: Path) -> None:
    """Of other images, or none: errors, not a traceback."""
    errors = verify(ShardSet.open(medium_set), raw=small_dataset, num_images=20).errors
    assert errors.counts.keys() == {ErrorKind.RAW}
    errors = verify(ShardSet.open(medium_set), raw=tmp_path, num_images=20).errors
    assert errors.counts.keys() == {ErrorKind.RAW}
    assert any("there is no such file" in error.message for error in errors.listed)
