"""Licenses of images and of the manifest's table, and the terms of sources."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shards.reading.shard_set import ShardSet
from shards.verification.errors import ErrorKind, ErrorLog
from shards.verification.license_checks import check_licenses
from shards.verification.set_checks import read_index
from tests import tiny
from tests.end_to_end.test_joins import build
from tests.shards.verification.set_data import SetData

Edit = Callable[[SetData], object]


@pytest.fixture(scope="module")
def licensed_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of COCO: 1 and 2 with the license BY, 3 with SA, 4 without one."""
    root = tmp_path_factory.mktemp("licensed")
    images = [tiny.coco_image(i, license=id_) for i, id_ in {1: 1, 2: 1, 3: 2}.items()]
    images.append(tiny.coco_image(4))
    references = [tiny.reference(i, i, {i: f"cat {i}"}) for i in range(1, 5)]
    boxes = [tiny.coco_annotation(i, i) for i in range(1, 5)]
    source = tiny.write_coco(root, images, boxes, references)
    table = [{"id": 1, "name": "BY", "url": "http://by"}, {"id": 2, "name": "SA", "url": ""}]
    content = {"images": images, "annotations": boxes, "licenses": table}
    tiny.write_json(root / "coco/instances.json", content)
    assert build(root, sources={"coco": source}) == 0
    return root / "shards"


@pytest.fixture
def messages(licensed_set: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Returns the messages after an edit of the set, and one of the written set's manifest."""

    def messages_after(edit: Edit, edit_manifest: Callable[[Any], object] = id) -> list[str]:
        data = SetData(licensed_set)
        edit(data)
        data.write(tmp_path)
        shards = ShardSet.open(tmp_path)
        edit_manifest(shards.manifest)
        errors = list(check_licenses(shards, read_index(shards, ErrorLog())))
        assert {error.kind for error in errors} <= {ErrorKind.LICENSE}
        return [f"{error.key}: {error.message}" for error in errors]

    return messages_after


def test_intact_licenses(messages: Callable[..., list[str]]) -> None:
    def has_licenses(manifest: Any) -> None:
        stated = [(e.id, e.name, e.url, e.images, e.stated_by) for e in manifest.licenses]
        assert stated == [
            (0, "unknown", "", 1, []),
            (1, "BY", "http://by", 2, ["coco"]),
            (2, "SA", "", 1, ["coco"]),
        ]

    assert messages(id, has_licenses) == []


@pytest.mark.parametrize(
    ("ids", "problem"),
    [
        ([], "an image has at least one id, if only that of the unknown license"),
        ([1, 1], "an id twice"),
        ([1, 0], "the unknown license and others"),
        ([3], "there are 3 licenses"),
        ([1, 3], "there are 3 licenses"),
        ([2, 1], ""),
        ([0], ""),
    ],
)
def test_ids_of_an_image(ids: list[int], problem: str, messages: Callable[..., list[str]]) -> None:
    reported = messages(lambda data: data.find("coco/1")[1].facts.update(licenses=ids))
    of_image = [message for message in reported if message.startswith("coco/1")]
    assert of_image == ([f"coco/1: {ids}: {problem}"] if problem else [])


@pytest.mark.parametrize(
    ("url", "is_address"),
    [("", True), ("https://example.org/1.jpg", True), ("javascript:alert(1)", False)],
)
def test_address_of_an_image(
    url: str, is_address: bool, messages: Callable[..., list[str]]
) -> None:
    reported = messages(lambda data: data.find("coco/1")[1].facts.update(url=url))
    assert reported == ([] if is_address else [f"coco/1: {url!a} is not a web address"])


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (
            lambda m: setattr(m.licenses[1], "images", 3),
            ["3 images have license 1, in the index 2"],
        ),
        (
            lambda m: setattr(m.licenses[1], "images", 0),
            [
                "no source states license 1, or no image has it",
                "0 images have license 1, in the index 2",
            ],
        ),
        (
            lambda m: setattr(m.licenses[1], "stated_by", []),
            ["no source states license 1, or no image has it"],
        ),
        (
            lambda m: setattr(m.licenses[1], "stated_by", ["coco", "lvis"]),
            ["license 1 is stated by 'lvis', which is no source"],
        ),
        (
            lambda m: setattr(m.licenses[2], "id", 7),
            ["license 7 is at position 2", "1 images have license 7, in the index 0"],
        ),
        (
            lambda m: (setattr(m.licenses[2], "name", "BY"), setattr(m.licenses[2], "url", "")),
            [],
        ),
        (
            lambda m: (
                setattr(m.licenses[2], "name", "BY"),
                setattr(m.licenses[2], "url", "http://by"),
            ),
            ["license 2 is another one, too: 'BY'"],
        ),
        (
            lambda m: setattr(m.licenses[0], "name", "none"),
            ["license 0 is not the unknown one: 'none'"],
        ),
        (
            lambda m: setattr(m.licenses[0], "stated_by", ["coco"]),
            ["license 0 is not the unknown one: 'unknown'"],
        ),
        (
            lambda m: setattr(m.shards[0], "licenses", [1, 0, 2]),
            ["the first of which is not the unknown one"],
        ),
        (lambda m: m.terms.clear(), ["terms are of [], the sources are ['coco']"]),
        (
            lambda m: (m.sources.update(b=m.sources["coco"]), m.terms.update(a=m.terms["coco"])),
            ["terms are of ['a', 'coco'], the sources are ['b', 'coco']"],
        ),
        (lambda m: m.terms["coco"].clear(), ["coco has no terms"]),
    ],
)
def test_table_of_the_manifest(
    edit: Callable[[Any], object], expected: list[str], messages: Callable[..., list[str]]
) -> None:
    reported = messages(id, edit)
    assert len(reported) >= len(expected)
    for message in expected:
        assert any(message in line for line in reported)
    if not expected:
        assert reported == []


def test_manifest_without_licenses_lacks_the_unknown_one(
    messages: Callable[..., list[str]],
) -> None:
    reported = messages(id, lambda manifest: manifest.licenses.clear())
    assert reported[0] == ": there is no unknown license"


def test_images_of_licenses_are_counted_if_every_index_is_read(licensed_set: Path) -> None:
    shards = ShardSet.open(licensed_set)
    assert list(check_licenses(shards, {})) == []


def test_index_that_cannot_be_read_again_is_an_error(licensed_set: Path, tmp_path: Path) -> None:
    SetData(licensed_set).write(tmp_path)
    indexed = read_index(ShardSet.open(tmp_path), ErrorLog())
    shards = ShardSet.open(tmp_path)
    (tmp_path / shards.shards[0].index.file).write_bytes(b"damaged")
    assert {error.kind for error in check_licenses(shards, indexed)} == {ErrorKind.INDEX}
