"""The runner of the leak test against Beam's own."""

from pathlib import Path

from tests.end_to_end.leaks.trial import REFERENCE, build, prepare
from tests.file_digests import file_digests


def test_eager_runner_builds_the_same_sets_as_beams_own(tmp_path: Path) -> None:
    compared = 0
    for seed in range(100):
        root = tmp_path / str(seed)
        prepare(seed, root)
        if build(root):
            continue
        (root / "shards").rename(root / "eager")
        assert build(root, REFERENCE) == ""
        assert file_digests(root / "shards") == file_digests(root / "eager")
        compared += 1
        if compared == 2:
            return
    raise AssertionError("too many recipes were refused")
