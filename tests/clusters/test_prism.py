"""A build on Prism, the runner that Beam's Go SDK has: the bytes of a local build."""

import sys
from pathlib import Path

from tests.clusters.downloads import prism
from tests.clusters.requirements import require
from tests.end_to_end.built_sets import set_digests
from tests.processes import run


def test_prism_makes_the_local_bytes(raw: Path, expected: dict[str, str], tmp_path: Path) -> None:
    require("go", hosts=False)
    command = [sys.executable, "-m", "pipelines.build", "demo", f"--root={raw}"]
    command += [f"--output={tmp_path / 'shards'}", "--runner=PrismRunner"]
    command += [f"--prism_location={prism()}", "--environment_type=LOOPBACK"]
    run(command, timeout=400, check=True)
    assert set_digests(tmp_path / "shards") == expected
