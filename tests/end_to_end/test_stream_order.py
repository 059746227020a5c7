"""The training stream in several processes: the same global batches for any number of ranks."""

import json
import sys
from typing import Any

import pytest

from tests.end_to_end.read_stream import WORKERS, WORLD_SIZES
from tests.processes import run
from tests.shard_sets import write_shard_set

UNEVEN = [[1] * 40, [], [30], [2, 0, 3]]  # fewer shards than ranks times workers, one of them empty
PAIRS = 75


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """The output of `tests.end_to_end.read_stream`, by the number of ranks."""
    folder = tmp_path_factory.mktemp("sets")
    write_shard_set(folder / "uneven", UNEVEN)
    write_shard_set(folder / "single", [[1]])
    run([sys.executable, "-m", "tests.end_to_end.read_stream", folder], check=True)
    return {
        world_size: json.loads((folder / f"{world_size}.json").read_text(encoding="utf-8"))
        for world_size in WORLD_SIZES
    }


def test_global_batches_are_the_same_for_any_ranks_and_workers(
    streams: dict[int, dict[str, Any]],
) -> None:
    expected = streams[1]["train 0"]
    assert [[len(batch) for batch in epoch] for epoch in expected] == [[8] * 9] * 2
    for world_size in WORLD_SIZES:
        for workers in WORKERS:
            assert streams[world_size][f"train {workers}"] == expected, (world_size, workers)


def test_epoch_has_every_pair_once_except_for_the_remainder(
    streams: dict[int, dict[str, Any]],
) -> None:
    all_pairs = {pair.rsplit(" ", 1)[0] for rank in streams[1]["evaluate"] for pair in rank}
    assert len(all_pairs) == PAIRS
    for epoch in streams[4]["train 2"]:
        read = [pair.rsplit(" ", 1)[0] for batch in epoch for pair in batch]
        assert len(read) == len(set(read)) == PAIRS // 8 * 8
        assert set(read) < all_pairs


def test_run_resumes_with_another_number_of_ranks(streams: dict[int, dict[str, Any]]) -> None:
    """Two ranks take the first five steps and one or four the rest, or the other way round."""
    first_epoch, second_epoch = streams[2]["train 2"]
    for world_size in WORLD_SIZES:
        rest, after = streams[world_size]["resumed"]
        assert first_epoch[:5] + rest == streams[1]["train 0"][0]
        assert after == second_epoch


def test_evaluation_reads_every_pair_once(streams: dict[int, dict[str, Any]]) -> None:
    for world_size in WORLD_SIZES:
        ranks = streams[world_size]["evaluate"]
        assert len(ranks) == world_size
        assert [pair for rank in ranks for pair in rank] == streams[1]["evaluate"][0]


def test_single_pair_is_read_by_one_rank(streams: dict[int, dict[str, Any]]) -> None:
    for world_size in WORLD_SIZES:
        counts = sorted(map(len, streams[world_size]["evaluate single"]))
        assert counts == [0] * (world_size - 1) + [1]
    assert [[len(b) for b in epoch] for epoch in streams[1]["train single"]] == [[1], [1]]
