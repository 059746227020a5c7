"""Images are chosen by the index, from all shards."""

from pathlib import Path

import pytest

from schemas import Caption, Provenance, Sample
from shards.inspection import gallery
from shards.inspection.gallery import Gallery
from shards.inspection.report import report
from shards.reading.remote import Retries
from shards.reading.shard_set import ShardSet
from tests.http_server import serve
from tests.shards.inspection.whole_sets import Given, jpeg, write_whole_set


def images(name: str, n: int, dataset: str = "vg") -> list[Given]:
    part = Provenance(dataset, "1", (0, 5))
    samples = (
        Sample(f"vg/{name}-{i}", 40, 30, "", [Caption("a cat", [], [], [part])]) for i in range(n)
    )
    return [(sample, jpeg(40, 30)) for sample in samples]


@pytest.fixture
def rare_in_one(tmp_path: Path) -> Path:
    """40 shards, one of which has a data set of its own."""
    shards = [images(str(i), 2, "rare" if i == 17 else "vg") for i in range(40)]
    return write_whole_set(tmp_path / "set", {"train": shards})


def test_every_image_is_from_another_shard(rare_in_one: Path) -> None:
    found = Gallery(ShardSet.open(rare_in_one))
    assert len({exhibit.file for exhibit in found.overall()}) == gallery.IMAGES
    assert (found.listed, found.captioned, found.faults) == (40, 40, [])


def test_a_data_set_is_found_wherever_it_lies(rare_in_one: Path) -> None:
    found = Gallery(ShardSet.open(rare_in_one)).of_dataset("rare")
    assert {exhibit.file for exhibit in found} == {"train-00017-of-00040.tar"}
    assert len(found) == 2


def test_of_very_many_shards_some_are_listed_and_the_page_says_so(
    rare_in_one: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "LISTED_SHARDS_OF_SPLIT", 8)
    assert "Spread evenly over 8 of 40 shards" in report(ShardSet.open(rare_in_one))
    monkeypatch.undo()
    assert "Spread evenly over the shards" in report(ShardSet.open(rare_in_one))


def test_few_shards_are_fetched(rare_in_one: Path, tmp_path: Path) -> None:
    with serve(rare_in_one) as server:
        page = report(ShardSet.open(server.url, cache=tmp_path / "cache"))
    tars = [name for name in server.requests if name.endswith(".tar")]
    assert sorted(tars) == ["train-00017-of-00040.tar", "train-00020-of-00040.tar"]
    assert "Spread evenly over 2 of 40 shards" in page


def test_a_shard_that_cannot_be_fetched_is_asked_for_once(tmp_path: Path) -> None:
    folder = write_whole_set(tmp_path / "set", {"train": [images("1", 9)]})
    for path in folder.glob("*.tar"):
        path.unlink()
    with serve(folder) as server:
        once = Retries(attempts=1, wait=0)
        page = report(ShardSet.open(server.url, cache=tmp_path / "cache", retries=once))
    assert server.requests["train-00000-of-00001.tar"] == 1
    assert page.count('<p class="fault">') == 9 + 3


def test_a_damaged_shard_is_shown_as_such(rare_in_one: Path) -> None:
    shards = sorted(rare_in_one.glob("*.tar"))
    for path in shards:
        path.write_bytes(b"" if path.name < "train-00020" else path.read_bytes()[:-10_000])
    page = report(ShardSet.open(rare_in_one))
    assert page.count("bytes, the manifest says") >= gallery.IMAGES
    assert "<img" not in page


def test_a_damaged_row_of_the_index_is_told(rare_in_one: Path) -> None:
    shards = ShardSet.open(rare_in_one)
    shards.shards[3].images = 7
    shards.shards[5].images = 7
    found = Gallery(shards)
    assert [fault.partition(" has ")[2] for fault in found.faults] == [
        f"2 images in train-0000{i}-of-00040.tar, the manifest 7" for i in (3, 5)
    ]
    assert len([exhibit for exhibit in found.overall() if exhibit.source]) == gallery.IMAGES
    assert report(shards).count('<p class="fault">') == 2


def test_a_missing_index_is_told_once(rare_in_one: Path) -> None:
    (rare_in_one / "index.parquet").unlink()
    page = report(ShardSet.open(rare_in_one))
    assert page.count("index.parquet cannot be opened") == 1
    assert "The set has no captions" not in page
