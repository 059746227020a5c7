"""The gallery chooses images by the index, from all shards."""

from pathlib import Path

import pytest

from schemas import Caption, Provenance, Sample
from shards.inspection.report import gallery
from shards.inspection.report.gallery import Gallery
from shards.inspection.report.page import render_report
from shards.reading.remote import Retries
from shards.reading.shard_set import ShardSet
from tests.http_server import serve
from tests.shards.inspection.shard_sets import SampleAndImage, jpeg, write_full_set


def images(name: str, n: int, dataset: str = "vg") -> list[SampleAndImage]:
    provenance = [Provenance(dataset, "1", (0, 5))]
    samples = (
        Sample(f"vg/{name}-{i}", 40, 30, "", [Caption("a cat", [], [], provenance)])
        for i in range(n)
    )
    return [(sample, jpeg(40, 30)) for sample in samples]


@pytest.fixture
def rare_dataset_set(tmp_path: Path) -> Path:
    """A set of 40 shards, one of which has another dataset."""
    shards = [images(str(i), 2, "rare" if i == 17 else "vg") for i in range(40)]
    return write_full_set(tmp_path / "set", {"train": shards})


def test_images_are_from_different_shards(rare_dataset_set: Path) -> None:
    chosen = Gallery(ShardSet.open(rare_dataset_set))
    assert len({image.file for image in chosen.overall()}) == gallery.IMAGES
    assert (chosen.listed_shards, chosen.captioned_shards, chosen.errors) == (40, 40, [])


def test_images_of_a_dataset_come_from_any_shard(rare_dataset_set: Path) -> None:
    images = Gallery(ShardSet.open(rare_dataset_set)).for_dataset("rare")
    assert {image.file for image in images} == {"train-00017-of-00040.tar"}
    assert len(images) == 2


def test_report_states_if_only_some_shards_are_listed(
    rare_dataset_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "MAX_LISTED_SHARDS", 8)
    assert "Evenly spaced over 8 of 40 shards" in render_report(ShardSet.open(rare_dataset_set))
    monkeypatch.undo()
    assert "Evenly spaced over the shards" in render_report(ShardSet.open(rare_dataset_set))


def test_few_shards_of_a_remote_set_are_downloaded(rare_dataset_set: Path, tmp_path: Path) -> None:
    with serve(rare_dataset_set) as server:
        page = render_report(ShardSet.open(server.url, cache=tmp_path / "cache"))
    tars = [name for name in server.requests if name.endswith(".tar")]
    assert sorted(tars) == ["train-00017-of-00040.tar", "train-00020-of-00040.tar"]
    assert "Evenly spaced over 2 of 40 shards" in page


def test_shard_that_fails_to_download_is_requested_once(tmp_path: Path) -> None:
    folder = write_full_set(tmp_path / "set", {"train": [images("1", 9)]})
    for path in folder.glob("*.tar"):
        path.unlink()
    with serve(folder) as server:
        once = Retries(attempts=1, initial_wait=0)
        page = render_report(ShardSet.open(server.url, cache=tmp_path / "cache", retries=once))
    assert server.requests["train-00000-of-00001.tar"] == 1
    assert page.count('<p class="error">') == 9 + 3


def test_damaged_shard_is_shown_as_an_error(rare_dataset_set: Path) -> None:
    shards = sorted(rare_dataset_set.glob("*.tar"))
    for path in shards:
        path.write_bytes(b"" if path.name < "train-00020" else path.read_bytes()[:-10_000])
    page = render_report(ShardSet.open(rare_dataset_set))
    assert page.count("bytes, the manifest states") >= gallery.IMAGES
    assert "<img" not in page


def test_damaged_index_rows_are_listed(rare_dataset_set: Path) -> None:
    shards = ShardSet.open(rare_dataset_set)
    shards.shards[3].images = 7
    shards.shards[5].images = 7
    chosen = Gallery(shards)
    assert [error.partition(" has ")[2] for error in chosen.errors] == [
        "2 images, the manifest 7" for _ in (3, 5)
    ]
    assert len([image for image in chosen.overall() if image.source]) == gallery.IMAGES
    assert render_report(shards).count('<p class="error">') == 2


def test_missing_index_is_listed(rare_dataset_set: Path) -> None:
    (rare_dataset_set / "train-00003-of-00040.index.parquet").unlink()
    page = render_report(ShardSet.open(rare_dataset_set))
    assert page.count("train-00003-of-00040.index.parquet cannot be opened") == 1
    assert "The set has no captions" not in page
