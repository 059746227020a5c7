"""Searching finds what looking at every caption finds, and goes on where it stopped."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas import Caption, Provenance, Region, Sample
from shards.inspection.search import Filters, Found, Place, Search
from shards.inspection.shared_store import SharedStore
from shards.reading.shard_set import ShardSet
from tests.shard_sets import write_samples, write_shard_set
from tests.shards.inspection.whole_sets import write_whole_set

WORDS = ("Dog", "CAT", "straße", "a", "the red")
FILTERS = [
    Filters("train"),
    Filters("train", text="cat"),
    Filters("train", text="STRASSE"),
    Filters("train", dataset="gqa"),
    Filters("train", least_boxes=2),
    Filters("train", most_boxes=0),
    Filters("train", least_boxes=1, most_boxes=1, text="dog", dataset="vg"),
    Filters("train", shortest=8, longest=12),
    Filters("train", text="no such words"),
]


def made_up(number: int, rng: random.Random) -> Sample:
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
        [made_up(100 * shard + i, rng) for i in range(n)] for shard, n in enumerate((9, 0, 17, 5))
    ]


@pytest.fixture(scope="module")
def store(samples: list[list[Sample]], tmp_path_factory: pytest.TempPathFactory) -> SharedStore:
    folder = tmp_path_factory.mktemp("set")
    write_samples(folder, [[(of, None) for of in shard] for shard in samples])
    return SharedStore(ShardSet.open(folder))


def brute_force(samples: list[list[Sample]], filters: Filters) -> list[tuple[str, list[int]]]:
    """By the definition of each filter, whatever the index says."""
    found = []
    for sample in (sample for shard in samples for sample in shard):
        numbers = [
            number
            for number, caption in enumerate(sample.captions)
            if filters.text.casefold() in caption.text.casefold()
            if not filters.dataset
            or filters.dataset in {part.dataset for part in caption.provenance}
            if filters.least_boxes is None or len(caption.regions) >= filters.least_boxes
            if filters.most_boxes is None or len(caption.regions) <= filters.most_boxes
            if filters.shortest is None or len(caption.text) >= filters.shortest
            if filters.longest is None or len(caption.text) <= filters.longest
        ]
        if numbers:
            found.append((sample.key, numbers))
    return found


def keys(of: Found) -> list[tuple[str, list[int]]]:
    return [(match.sample.key, match.numbers) for match in of.matches if match.sample]


def pages(search: Search, most: int, seconds: float, *, backward: bool) -> Iterator[Found]:
    at: Place | None = search.ending if backward else search.beginning
    while at is not None:
        found = search.find(at, most, seconds, backward=backward)
        yield found
        at = found.end


@pytest.mark.parametrize("filters", FILTERS, ids=str)
@pytest.mark.parametrize("most", [1, 4, 100])
@pytest.mark.parametrize("seconds", [60, 0])
def test_every_match_is_found_once_in_both_directions(
    samples: list[list[Sample]], store: SharedStore, filters: Filters, most: int, seconds: float
) -> None:
    expected = brute_force(samples, filters)
    search = Search(store, filters)
    forward = list(pages(search, most, seconds, backward=False))
    backward = list(pages(search, most, seconds, backward=True))
    assert [key for page in forward for key in keys(page)] == expected
    assert [key for page in backward[::-1] for key in keys(page)] == expected
    if seconds:
        assert all(page.in_time for page in forward)
        assert len(forward) <= len(expected) // most + 1


def test_a_search_that_takes_too_long_says_where_it_stopped(store: SharedStore) -> None:
    search = Search(store, Filters("train", text="no such words"))
    found = search.find(search.beginning, 5, 0)
    assert not found.in_time
    assert found.end is not None
    assert 0 < search.position(found.end) < search.images == 31
    assert search.position(search.ending) == 31


def test_the_index_tells_which_shards_are_not_needed(tmp_path: Path) -> None:
    write_shard_set(tmp_path, [[1, 1], [1], [1]])
    for path in tmp_path.glob("*.tar"):
        path.unlink()
    store = SharedStore(ShardSet.open(tmp_path))
    for filters in (Filters("train", dataset="gqa"), Filters("train", least_boxes=2)):
        search = Search(store, filters)
        assert search.find(search.beginning, 9, 60) == Found([], None, True)


def test_a_missing_shard_is_said_once(tmp_path: Path) -> None:
    write_shard_set(tmp_path, [[1, 1], [1, 1], [1, 1]])
    (tmp_path / "train-00001-of-00003.tar").unlink()
    search = Search(SharedStore(ShardSet.open(tmp_path)), Filters("train"))
    for start, backward in ((search.beginning, False), (search.ending, True)):
        found = search.find(start, 9, 60, backward=backward)
        assert [bool(match.sample) for match in found.matches] == [True, True, False, True, True]
        assert "train-00001-of-00003.tar cannot be opened" in found.matches[2].fault


def test_a_damaged_sample_is_said_in_its_place(tmp_path: Path) -> None:
    write_shard_set(tmp_path, [[1, 1, 1]])
    tar = tmp_path / "train-00000-of-00001.tar"
    tar.write_bytes(tar.read_bytes().replace(b"caption 0 of vg/1", b"caption 0 of vg/9"))
    search = Search(SharedStore(ShardSet.open(tmp_path)), Filters("train", text="vg/2"))
    one, two = search.find(search.beginning, 9, 60).matches
    assert (one.place, one.sample) == (Place(0, 1), None)
    assert "vg/1.json is damaged" in one.fault
    assert two.place == Place(0, 2)


def test_no_such_split(tmp_path: Path) -> None:
    store = SharedStore(ShardSet.open(write_shard_set(tmp_path, [[1]])))
    with pytest.raises(ValueError, match="no split 'val'"):
        Search(store, Filters("val"))


def test_places_of_another_split_are_none_of_this_one(tmp_path: Path) -> None:
    def one(key: str) -> list[tuple[Sample, bytes | None]]:
        return [(Sample(key, 4, 3, "", [Caption("a", [], [], [])]), None)]

    shards = write_whole_set(tmp_path, {"train": [one("vg/1"), one("vg/2")], "val": [one("vg/3")]})
    search = Search(SharedStore(ShardSet.open(shards)), Filters("train"))
    places = [Place(shard, row) for shard in range(4) for row in range(3)]
    assert [place for place in places if search.has(place)] == [(0, 0), (0, 1), (1, 0), (1, 1)]
