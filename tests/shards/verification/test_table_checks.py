"""Tables of excluded and rejected data, against the manifest and the images of a small set."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shards.reading.shard_set import ShardSet
from shards.verification.errors import ErrorKind, ErrorLog, VerificationError
from shards.verification.recipe import RecipeRequirements
from shards.verification.set_checks import read_index
from shards.verification.table_checks import check_tables
from tests import tiny
from tests.end_to_end.test_joins import build
from tests.shards.verification.set_data import SetData

Edit = Callable[[SetData], object]


@pytest.fixture(scope="module")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images 4 to 6 of Visual Genome; 1 is excluded by its coco_id, 2 and 3 by id."""
    root = tmp_path_factory.mktemp("small")
    graphs = [tiny.vg_graph(i, tiny.vg_region(i, f"a cat {i}")) for i in range(1, 6)]
    graphs.append(tiny.vg_graph(6, tiny.vg_region(6, "a cat"), tiny.vg_region(60, "it", width=0)))
    images = [tiny.vg_image(1, coco_id=9), *map(tiny.vg_image, range(2, 7))]
    tiny.write(root / "ids.txt", b"2\n3\n")
    tiny.write_refs(root / "refs.p", [tiny.reference(9, 9, {9: "the cat"}, "testA")])
    exclude = {"ids": {"ids": ["ids.txt"], "of": "vg"}, "refcoco": {"refs": ["refs.p"]}}
    sources = {"vg": tiny.write_vg(root, images, graphs)}
    assert build(root, sources=sources, exclude=exclude) == 0
    return root / "shards"


@pytest.fixture
def errors(small_set: Path, tmp_path: Path) -> Callable[[Edit], list[VerificationError]]:
    """Returns the errors of the tables after an edit of the set."""

    def errors_after(edit: Edit) -> list[VerificationError]:
        data = SetData(small_set)
        edit(data)
        data.write(tmp_path)
        shards = ShardSet.open(tmp_path)
        indexed = read_index(shards, ErrorLog())
        return list(check_tables(shards, indexed, RecipeRequirements(shards.manifest)))

    return errors_after


def row_of(data: SetData, key: str, **fields: Any) -> dict[str, Any]:
    """Returns a copy of the row of an excluded image with other values of some fields."""
    return {**next(row for row in data.excluded if row["image"] == key), **fields}


def add_excluded(key: str, **fields: Any) -> Edit:
    return lambda data: data.excluded.append(row_of(data, key, **fields))


def add_rejected(**fields: Any) -> Edit:
    return lambda data: data.rejected.append({**data.rejected[0], **fields})


def edit_rejected(**fields: Any) -> Edit:
    return lambda data: data.rejected[0].update(fields)


def test_intact_tables(errors: Callable[[Edit], list[VerificationError]]) -> None:
    def has_rows(data: SetData) -> None:
        assert [row["image"] for row in data.excluded] == ["vg/1", "vg/2", "vg/3"]
        [rejected] = data.rejected
        assert (rejected["source"], rejected["records"], rejected["boxes"]) == ("vg", 1, 1)

    assert errors(has_rows) == []


NAMES = "the manifest states that it names"


@pytest.mark.parametrize(
    ("edit", "messages"),
    [
        (
            add_excluded("vg/2", split="val", excluded=False),
            ["it excludes images from 'val', which is not trained on"],
        ),
        (
            add_excluded("vg/2", eval_set="voc", excluded=False),
            ["the recipe has no evaluation set 'voc'", f"1 image of voc, {NAMES} 0"],
        ),
        (
            add_excluded("vg/2", eval_set="voc", join="perceptual hash", excluded=False),
            ["the recipe has no evaluation set 'voc'", f"1 image of voc, {NAMES} 0"],
        ),
        # Of an image that the set does not name, but is a duplicate of one that it does.
        (add_excluded("vg/2", eval_image="vg/9", join="perceptual hash", excluded=False), []),
        (
            add_excluded("vg/2", eval_image="vg/9", excluded=False),
            [f"3 images of ids, {NAMES} 2"],
        ),
        (
            lambda data: data.excluded.pop(),
            [
                "ids by id: 1 images with 1 captions, the manifest states 2 images with 2 captions",
                "its images have 2 captions, the sources 3 excluded records",
            ],
        ),
        (
            lambda data: data.excluded[1].update(captions=2),
            [
                "ids by id: 2 images with 3 captions, the manifest states 2 images with 2 captions",
                "its images have 4 captions, the sources 3 excluded records",
            ],
        ),
        # A second row of one image: its captions are counted once.
        (
            add_excluded("vg/2", eval_set="refcoco", join="flickr photo id", eval_image="coco/9"),
            [
                "refcoco by flickr photo id: 1 images with 1 captions, the manifest states 0 "
                "images with 0 captions"
            ],
        ),
        (
            lambda data: data.manifest["exclusions"]["ids"]["excluded"].pop("id"),
            [
                "ids by id: 2 images with 2 captions, the manifest states 0 images with 0 captions",
            ],
        ),
        (
            lambda data: data.manifest["exclusions"]["ids"].update(named=1),
            [f"2 images of ids, {NAMES} 1"],
        ),
    ],
)
def test_excluded_rows_that_the_manifest_contradicts(
    edit: Edit, messages: list[str], errors: Callable[[Edit], list[VerificationError]]
) -> None:
    reported = errors(edit)
    assert [error.message for error in reported] == messages
    assert {(error.kind, error.file) for error in reported} <= {
        (ErrorKind.TABLE, "excluded.parquet")
    }


def test_errors_of_several_rows_are_sorted(
    errors: Callable[[Edit], list[VerificationError]],
) -> None:
    """Whatever order sets of strings have in a process."""
    names = [f"{letter}{number}" for letter in "zyx" for number in range(5)]

    def edit(data: SetData) -> None:
        for name in names:
            of_name = row_of(data, "vg/2", split=name, eval_set=name)
            data.excluded.append(of_name)
            data.rejected.append({**data.rejected[0], "source": name, "records": 0, "boxes": 0})

    messages = [error.message for error in errors(edit)]
    for noun in (
        "it excludes images from",
        "the recipe has no evaluation set",
        "the recipe has no source",
    ):
        named = [message for message in messages if message.startswith(noun)]
        assert len(named) == len(names)
        assert named == sorted(named)
    by_join = [message.partition(" by id")[0] for message in messages if " by id" in message]
    assert by_join == sorted(names)
    of_sets = [message for message in messages if message.startswith("1 image of")]
    assert of_sets == [f"1 image of {name}, {NAMES} 0" for name in sorted(names)]


@pytest.mark.parametrize(
    ("edit", "messages"),
    [
        (
            add_rejected(source="voc", records=0, boxes=0),
            ["the recipe has no source 'voc'"],
        ),
        (add_rejected(source="exclude.ids", records=0, boxes=0), []),
        (edit_rejected(records=2), ["2 records of vg, the manifest has 1"]),
        (edit_rejected(boxes=0), ["0 boxes of vg, the manifest has 1"]),
        (
            add_rejected(),
            ["2 records of vg, the manifest has 1", "2 boxes of vg, the manifest has 1"],
        ),
        (
            lambda data: data.rejected.clear(),
            ["0 records of vg, the manifest has 1", "0 boxes of vg, the manifest has 1"],
        ),
        (
            edit_rejected(source="voc"),
            [
                "0 records of vg, the manifest has 1",
                "0 boxes of vg, the manifest has 1",
                "the recipe has no source 'voc'",
            ],
        ),
    ],
)
def test_rejected_rows_that_the_manifest_contradicts(
    edit: Edit, messages: list[str], errors: Callable[[Edit], list[VerificationError]]
) -> None:
    reported = errors(edit)
    assert sorted(error.message for error in reported) == sorted(messages)
    assert {(error.kind, error.file) for error in reported} <= {
        (ErrorKind.TABLE, "rejected.parquet")
    }


@pytest.mark.parametrize(
    ("fields", "crop_of", "is_error"),
    [
        ({"image": "vg/4"}, "", True),
        ({"duplicate_of": "vg/4"}, "", True),
        ({"image": "vg/4", "excluded": False}, "", False),
        ({"image": "vg/4", "split": "val", "excluded": False}, "", False),
        ({}, "vg/2", True),
        ({"image": "vg/4"}, "vg/4", True),
        ({}, "vg/9", False),
    ],
)
def test_image_that_the_table_excludes_from_its_split(
    fields: dict[str, Any],
    crop_of: str,
    is_error: bool,
    errors: Callable[[Edit], list[VerificationError]],
) -> None:
    def edit(data: SetData) -> None:
        data.excluded.append(row_of(data, "vg/2", **fields))
        data.find("vg/4")[1].facts["crop_of"] = crop_of

    held_out = [error for error in errors(edit) if error.kind is ErrorKind.HELD_OUT]
    assert [error.key for error in held_out] == ["vg/4"] * is_error
    for error in held_out:
        assert error.message == "excluded.parquet lists it: ids, id"
        assert error.file.startswith("train-")


def test_without_a_recipe_names_and_counts_are_not_checked(
    errors: Callable[[Edit], list[VerificationError]],
) -> None:
    def edit(data: SetData) -> None:
        data.manifest["recipe"] = {}
        data.excluded.append(row_of(data, "vg/2", eval_set="voc", captions=7))
        data.rejected.append({**data.rejected[0], "source": "voc"})

    assert errors(edit) == []


@pytest.mark.parametrize("table", ["excluded.parquet", "rejected.parquet"])
def test_damaged_table_is_one_error_and_a_missing_one_is_that_of_its_file(
    table: str, small_set: Path, tmp_path: Path
) -> None:
    data = SetData(small_set)
    data.excluded.pop()
    data.rejected.clear()
    data.write(tmp_path)
    other = {"excluded.parquet", "rejected.parquet"} - {table}
    (tmp_path / table).write_bytes(b"no table")
    data.write_manifest(tmp_path)
    for is_missing in (False, True):
        shards = ShardSet.open(tmp_path)
        reported = list(check_tables(shards, {}, RecipeRequirements(shards.manifest)))
        of_table = [error.kind for error in reported if error.file == table]
        assert of_table == ([] if is_missing else [ErrorKind.FILE])
        assert {error.file for error in reported if error.kind is ErrorKind.TABLE} == other
        (tmp_path / table).unlink(missing_ok=True)
