"""A search returns the hits of a brute-force search, and continues where it stopped."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas import Caption, Provenance, Region, Sample
from shards.inspection.browser.search import (
    CaptionFilter,
    SamplePosition,
    Search,
    SearchResult,
)
from shards.inspection.browser.store import LockedStore
from shards.reading.shard_set import ShardSet
from tests.shard_sets import write_samples, write_shard_set
from tests.shards.inspection.shard_sets import write_full_set

WORDS = ("Dog", "CAT", "straße", "a", "the red")
FILTERS = [
    CaptionFilter("train"),
    CaptionFilter("train", text="cat"),
    CaptionFilter("train", text="STRASSE"),
    CaptionFilter("train", dataset="gqa"),
    CaptionFilter("train", min_boxes=2),
    CaptionFilter("train", max_boxes=0),
    CaptionFilter("train", min_boxes=1, max_boxes=1, text="dog", dataset="vg"),
    CaptionFilter("train", min_length=8, max_length=12),
    CaptionFilter("train", text="no such words"),
]


def random_sample(number: int, rng: random.Random) -> Sample:
    captions = []
    for _ in range(rng.randrange(4)):
        text = " ".join(rng.choices(WORDS, k=rng.randrange(1, 5)))
        boxes = [Region([(0, 1)], (0.0, 0.0, 9.0, 9.0)) for _ in range(rng.randrange(4))]
        parts = [Provenance(rng.choice(("vg", "gqa")), "1", (0, len(text)))]
        captions.append(Caption(text, boxes, [], parts))
    return Sample(f"vg/{number}", 64, 48, "", captions)


@pytest.fixture(scope="module")
def samples() -> list[list[Sample]]:
    rng = random.Random(0)
    return [
        [random_sample(100 * shard + i, rng) for i in range(n)]
        for shard, n in enumerate((9, 0, 17, 5))
    ]


@pytest.fixture(scope="module")
def store(samples: list[list[Sample]], tmp_path_factory: pytest.TempPathFactory) -> LockedStore:
    folder = tmp_path_factory.mktemp("set")
    write_samples(folder, [[(sample, None) for sample in shard] for shard in samples])
    return LockedStore(ShardSet.open(folder))


def brute_force(samples: list[list[Sample]], filters: CaptionFilter) -> list[tuple[str, list[int]]]:
    """Applies the definition of each filter to every caption, without the index."""
    hits = []
    for sample in (sample for shard in samples for sample in shard):
        indices = [
            index
            for index, caption in enumerate(sample.captions)
            if filters.text.casefold() in caption.text.casefold()
            if not filters.dataset
            or filters.dataset in {part.dataset for part in caption.provenance}
            if filters.min_boxes is None or len(caption.regions) >= filters.min_boxes
            if filters.max_boxes is None or len(caption.regions) <= filters.max_boxes
            if filters.min_length is None or len(caption.text) >= filters.min_length
            if filters.max_length is None or len(caption.text) <= filters.max_length
        ]
        if indices:
            hits.append((sample.key, indices))
    return hits


def keys(result: SearchResult) -> list[tuple[str, list[int]]]:
    return [(hit.sample.key, hit.caption_indices) for hit in result.hits if hit.sample]


def result_pages(
    search: Search, max_hits: int, seconds: float, *, backward: bool
) -> Iterator[SearchResult]:
    start: SamplePosition | None = search.ending if backward else search.beginning
    while start is not None:
        result = search.find(start, max_hits, seconds, backward=backward)
        yield result
        start = result.end


@pytest.mark.parametrize("filters", FILTERS, ids=str)
@pytest.mark.parametrize("max_hits", [1, 4, 100])
@pytest.mark.parametrize("seconds", [60, 0])
def test_every_hit_is_returned_once_in_both_directions(
    samples: list[list[Sample]],
    store: LockedStore,
    filters: CaptionFilter,
    max_hits: int,
    seconds: float,
) -> None:
    expected = brute_force(samples, filters)
    search = Search(store, filters)
    forward = list(result_pages(search, max_hits, seconds, backward=False))
    backward = list(result_pages(search, max_hits, seconds, backward=True))
    assert [key for page in forward for key in keys(page)] == expected
    assert [key for page in backward[::-1] for key in keys(page)] == expected
    if seconds:
        assert not any(page.timed_out for page in forward)
        assert len(forward) <= len(expected) // max_hits + 1


def test_timed_out_search_returns_where_to_continue(store: LockedStore) -> None:
    search = Search(store, CaptionFilter("train", text="no such words"))
    result = search.find(search.beginning, 5, 0)
    assert result.timed_out
    assert result.end is not None
    assert 0 < search.images_before(result.end) < search.image_count == 31
    assert search.images_before(search.ending) == 31


def test_shards_that_the_index_rules_out_are_not_opened(tmp_path: Path) -> None:
    write_shard_set(tmp_path, [[1, 1], [1], [1]])
    for path in tmp_path.glob("*.tar"):
        path.unlink()
    store = LockedStore(ShardSet.open(tmp_path))
    for filters in (CaptionFilter("train", dataset="gqa"), CaptionFilter("train", min_boxes=2)):
        search = Search(store, filters)
        assert search.find(search.beginning, 9, 60) == SearchResult([], None, timed_out=False)


def test_missing_shard_is_one_hit_with_an_error(tmp_path: Path) -> None:
    write_shard_set(tmp_path, [[1, 1], [1, 1], [1, 1]])
    (tmp_path / "train-00001-of-00003.tar").unlink()
    search = Search(LockedStore(ShardSet.open(tmp_path)), CaptionFilter("train"))
    for start, backward in ((search.beginning, False), (search.ending, True)):
        hits = search.find(start, 9, 60, backward=backward).hits
        assert [bool(hit.sample) for hit in hits] == [True, True, False, True, True]
        assert "train-00001-of-00003.tar cannot be opened" in hits[2].error


def test_damaged_sample_is_a_hit_with_an_error(tmp_path: Path) -> None:
    write_shard_set(tmp_path, [[1, 1, 1]])
    tar = tmp_path / "train-00000-of-00001.tar"
    tar.write_bytes(tar.read_bytes().replace(b"caption 0 of vg/1", b"caption 0 of vg/9"))
    search = Search(LockedStore(ShardSet.open(tmp_path)), CaptionFilter("train", text="vg/2"))
    first, second = search.find(search.beginning, 9, 60).hits
    assert (first.position, first.sample) == (SamplePosition(0, 1), None)
    assert "vg/1.json is damaged" in first.error
    assert second.position == SamplePosition(0, 2)


def test_search_in_an_unknown_split_is_refused(tmp_path: Path) -> None:
    store = LockedStore(ShardSet.open(write_shard_set(tmp_path, [[1]])))
    with pytest.raises(ValueError, match="no split 'val'"):
        Search(store, CaptionFilter("val"))


def test_positions_of_another_split_are_not_contained(tmp_path: Path) -> None:
    def one(key: str) -> list[tuple[Sample, bytes | None]]:
        return [(Sample(key, 4, 3, "", [Caption("a", [], [], [])]), None)]

    shards = write_full_set(tmp_path, {"train": [one("vg/1"), one("vg/2")], "val": [one("vg/3")]})
    search = Search(LockedStore(ShardSet.open(shards)), CaptionFilter("train"))
    positions = [SamplePosition(shard, row) for shard in range(4) for row in range(3)]
    assert [p for p in positions if search.contains(p)] == [(0, 0), (0, 1), (1, 0), (1, 1)]
