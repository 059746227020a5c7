"""`verify` reports a damage of any form, and never ends in a traceback."""

from pathlib import Path

import pytest

from shards.verification.errors import ErrorKind, VerificationError, guarded
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


def test_check_that_fails_is_an_error() -> None:
    """What it found before is kept."""

    def check():  # type: ignore[no-untyped-def]
        yield VerificationError(ErrorKind.BOX, "a box")
        raise RecursionError("too deep")

    first, last = guarded(check())
    assert first.message == "a box"
    assert (last.kind, last.message) == (ErrorKind.CHECK, "check: RecursionError: too deep")
