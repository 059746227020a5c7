"""The stream of pairs through torchrun: the same global batches for any number of processes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.shard_sets import write_shard_set

REPOSITORY = Path(__file__).parents[2]
WORLD_SIZES = (1, 2, 4)
UNEVEN = [[1] * 40, [], [30], [2, 0, 3]]  # fewer shards than ranks times workers, one of them empty
PAIRS = 75


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """What `tests.end_to_end.read_stream` read, by the number of ranks."""
    folder = tmp_path_factory.mktemp("sets")
    write_shard_set(folder / "uneven", UNEVEN)
    write_shard_set(folder / "single", [[1]])
    return {world_size: read(folder, world_size) for world_size in WORLD_SIZES}


def read(folder: Path, world_size: int) -> dict[str, Any]:
    output = folder / f"{world_size}.json"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes=1"]
    torchrun += [
        f"--nproc-per-node={world_size}",
        "--rdzv-backend=c10d",
        "--rdzv-endpoint=localhost:0",
    ]
    module = ["-m", "tests.end_to_end.read_stream", str(folder), str(output)]
    result = subprocess.run(
        [*torchrun, *module],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(output.read_text(encoding="utf-8"))


def test_global_batches_are_the_same_for_any_ranks_and_workers(
    found: dict[int, dict[str, Any]],
) -> None:
    expected = found[1]["train 0"]
    assert [[len(batch) for batch in epoch] for epoch in expected] == [[8] * 9] * 2
    for world_size in WORLD_SIZES:
        for workers in (0, 2, 4):
            assert found[world_size][f"train {workers}"] == expected, (world_size, workers)


def test_an_epoch_sees_every_pair_once_but_for_the_remainder(
    found: dict[int, dict[str, Any]],
) -> None:
    everything = {pair.rsplit(" ", 1)[0] for part in found[1]["evaluate"] for pair in part}
    assert len(everything) == PAIRS
    for epoch in found[4]["train 2"]:
        seen = [pair.rsplit(" ", 1)[0] for batch in epoch for pair in batch]
        assert len(seen) == len(set(seen)) == PAIRS // 8 * 8
        assert set(seen) < everything


def test_a_run_goes_on_with_another_number_of_ranks(found: dict[int, dict[str, Any]]) -> None:
    """Two ranks take the first five steps, one or four the rest of them, or the other way round."""
    first, second = found[2]["train 2"]
    for world_size in WORLD_SIZES:
        rest, after = found[world_size]["resumed"]
        assert first[:5] + rest == found[1]["train 0"][0]
        assert after == second


def test_evaluation_is_of_every_pair_once(found: dict[int, dict[str, Any]]) -> None:
    for world_size in WORLD_SIZES:
        parts = found[world_size]["evaluate"]
        assert len(parts) == world_size
        assert [pair for part in parts for pair in part] == found[1]["evaluate"][0]


def test_a_single_pair_is_read_by_one_rank(found: dict[int, dict[str, Any]]) -> None:
    for world_size in WORLD_SIZES:
        assert sorted(map(len, found[world_size]["evaluate single"])) == [0] * (world_size - 1) + [
            1
        ]
    assert [[len(b) for b in epoch] for epoch in found[1]["train single"]] == [[1], [1]]
