"""Files, keys and held-out images of small sets, without their samples."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from shards.format import manifest as mf
from shards.format.manifest import FileEntry
from shards.reading.shard_set import ShardSet
from shards.verification.datasets import datasets_of
from shards.verification.errors import ErrorKind, ErrorLog, VerificationError
from shards.verification.held_out import HeldOutList
from shards.verification.set_checks import (
    IndexedShard,
    check_files,
    check_held_out,
    check_keys,
    check_namespaces,
    read_index,
)
from tests.shard_sets import write_shard_set

Text = tuple[ErrorKind, str, str, str]


@pytest.fixture
def shards(tmp_path: Path) -> ShardSet:
    """Two shards of train with the images vg/0 to vg/2, and their captions."""
    return ShardSet.open(write_shard_set(tmp_path, [[1, 2], [4]]))


def text(error: VerificationError) -> Text:
    return error.kind, error.file, error.key, error.message


def test_index_is_read_with_its_counts_and_the_files_of_images(shards: ShardSet) -> None:
    log = ErrorLog()
    first, second = read_index(shards, log).values()
    assert (first.keys, first.captions, first.regions) == (["vg/0", "vg/1"], 3, 3)
    assert (second.keys, second.captions, second.regions) == (["vg/2"], 4, 4)
    rows = shards.index_rows(0)
    assert first.files.tolist() == [row.image_crc32 << 32 | row.image_size for row in rows]
    assert list(first.crop_of) == ["", ""]
    (Path(shards.location) / shards.shards[0].index.file).write_bytes(b"")
    assert list(read_index(shards, log)) == [1]
    [error] = log.listed
    assert (error.kind, error.file) == (ErrorKind.INDEX, shards.shards[0].index.file)


def test_files_of_a_set(shards: ShardSet) -> None:
    folder = Path(shards.location)
    assert list(check_files(shards)) == []
    (folder / ".temporary").write_bytes(b"")
    for name in "hcagbdfe":
        (folder / f"{name}.txt").write_bytes(b"")
    (folder / "x").mkdir()
    unknown = [*(f"{name}.txt" for name in "abcdefgh"), "x/"]
    assert [text(error) for error in check_files(shards)] == [
        (ErrorKind.UNKNOWN_FILE, name, "", "the manifest does not list it") for name in unknown
    ]
    index = shards.shards[0].index
    shards.manifest.files = [FileEntry(mf.NAME, *_content(folder / mf.NAME)), index]
    duplicates = [error for error in check_files(shards) if error.file not in unknown]
    assert sorted(map(text, duplicates)) == sorted(
        (ErrorKind.DUPLICATE_FILE, name, "", "the manifest lists it more than once")
        for name in (mf.NAME, index.file)
    )


def test_files_that_are_gone_or_others(shards: ShardSet) -> None:
    folder = Path(shards.location)
    for entry in shards.shards:
        entry.index.sha256 = "0" * 64
    (folder / shards.shards[0].index.file).unlink()
    gone, other = check_files(shards)
    assert (gone.kind, gone.file) == (ErrorKind.FILE, shards.shards[0].index.file)
    assert (other.kind, other.file) == (ErrorKind.SHA256, shards.shards[1].index.file)
    assert other.message.endswith(f"the manifest states {'0' * 64}")


def _content(path: Path) -> tuple[int, str]:
    content = path.read_bytes()
    return len(content), hashlib.sha256(content).hexdigest()


def test_keys_within_a_split_and_in_splits_of_both_roles(tmp_path: Path) -> None:
    shards = ShardSet.open(write_shard_set(tmp_path, [[1]] * 5))
    for entry, split in zip(shards.shards, ["train", "train", "more", "val", "test"], strict=True):
        entry.split = split
    manifest = shards.manifest
    manifest.roles = {"train": "train", "more": "train", "val": "eval", "test": "eval"}
    file = [entry.file for entry in shards.shards]
    all_keys = [f"vg/{name}" for name in "hcagbdfe"]
    indexed = {
        0: IndexedShard([*all_keys, "vg/1", "../x"], 0, 0, ["coco/3", ""]),
        1: IndexedShard(["vg/1", "vg/2"], 0, 0),
        2: IndexedShard(["vg/1", "coco/3"], 0, 0),  # of one role
        3: IndexedShard([*all_keys, "vg/4"], 0, 0),
        4: IndexedShard(["coco/3", "vg/4", "vg/2"], 0, 0, ["", "", ""]),  # vg/4 as in val
    }
    errors = list(map(text, check_keys(shards, indexed)))
    assert errors[:2] == [
        (ErrorKind.KEY, file[0], "", "'../x' is not a safe key"),
        (ErrorKind.DUPLICATE_IMAGE, file[1], "vg/1", f"{file[0]} of the same split has it too"),
    ]
    leak = ErrorKind.LEAK
    assert errors[2:] == [
        *((leak, file[0], key, f"{file[3]} of val has it too") for key in sorted(all_keys)),
        (leak, file[0], "coco/3", f"{file[4]} of test has it too"),  # of which one is a crop
        (leak, file[1], "vg/2", f"{file[4]} of test has it too"),
        (leak, file[2], "coco/3", f"{file[4]} of test has it too"),
    ]


def test_namespaces_that_no_source_has(shards: ShardSet) -> None:
    indexed = {1: IndexedShard(["vg/2", "coco/7"], 0, 0)}
    closed, open_ = datasets_of({"vg": {}}, ()), datasets_of({"vg": {}, "custom": {}}, ())
    [error] = check_namespaces(shards, indexed, closed)
    file, message = shards.shards[1].file, "no source of the recipe has such keys: 'coco/7'"
    assert text(error) == (ErrorKind.KEY, file, "coco/7", message)
    assert list(check_namespaces(shards, indexed, open_)) == []
    assert list(check_namespaces(shards, indexed, None)) == []


def test_held_out_images_and_their_crops(shards: ShardSet) -> None:
    """Of what is trained on."""
    lists = [
        HeldOutList("vg=a", "vg", frozenset({"vg/1", "coco/3"})),
        HeldOutList("vg=b", "vg", frozenset({"vg/1"})),
    ]
    indexed = {0: IndexedShard(["vg/0", "vg/1", "vg/9"], 0, 0, ["", "", "coco/3"])}
    file = shards.shards[0].file
    expected = [
        (ErrorKind.HELD_OUT, file, "vg/1", "vg=a lists it"),
        (ErrorKind.HELD_OUT, file, "vg/1", "vg=b lists it"),
        (ErrorKind.HELD_OUT, file, "vg/9", "vg=a lists coco/3, of which it is a crop"),
    ]
    assert [text(error) for error in check_held_out(shards, indexed, lists)] == expected
    shards.shards[0].split = "val"
    assert list(check_held_out(shards, indexed, lists)) == []


def test_shards_have_no_files_of_images_by_default() -> None:
    assert IndexedShard([], 0, 0).files.tolist() == np.empty(0).tolist()
