"""`verify` reports a damage of any form, and never ends in a traceback."""

from pathlib import Path

import pytest

from tests.shards.verification import fuzz


@pytest.mark.parametrize("seed", range(40))
def test_random_damage_is_no_traceback(
    seed: int,
    small_set: Path,
    small_dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name, status = fuzz.fuzz(small_set, small_dataset, seed, tmp_path / "set")
    out, err = capsys.readouterr()
    assert status in (0, 1, 2), name
    last = out.rstrip().rpartition("\n")[2]
    assert (last.startswith("checked ")) == (status != 2)
    assert last.endswith("no errors") == (status == 0)
    assert bool(err) == (status == 2)
