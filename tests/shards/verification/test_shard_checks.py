"""Damaged files, indexes and tars: each is one error, and everything else is checked."""

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from shards.format import manifest as mf
from shards.verification.errors import ErrorKind
from tests.shards.verification.corruption import (
    OTHER,
    SHARD,
    flip_byte,
    index_rows,
    kinds,
    of_kind,
    only_error,
    only_kind_and_file,
    only_kind_and_key,
    reindex,
    restate,
    retar,
    verified,
)

INDEX = SHARD.replace(".tar", ".index.parquet")


def edit_manifest(folder: Path, edit: Callable[[mf.Manifest], object]) -> None:
    manifest = mf.load(folder)
    edit(manifest)
    (folder / mf.NAME).write_bytes(mf.encode(manifest))


# --- files ----------------------------------------------------------------------------------------


def test_damaged_image_byte(copied_set: Path, medium_set: Path) -> None:
    row = index_rows(copied_set)[1]
    flip_byte(copied_set / SHARD, row.image_offset + row.image_size // 2)
    report = verified(copied_set)
    assert [(f.kind, f.file, f.key) for f in report.errors.listed] == [
        (ErrorKind.SHA256, SHARD, ""),
        (ErrorKind.CRC32, SHARD, row.key),
    ]
    assert report.checked == verified(medium_set).checked


def test_damaged_caption_byte(copied_set: Path) -> None:
    row = index_rows(copied_set)[1]
    flip_byte(copied_set / SHARD, row.json_offset + 5)
    assert kinds(copied_set) == {ErrorKind.SHA256: 1, ErrorKind.CRC32: 1}


@pytest.mark.parametrize("file", [SHARD, "stats.json", "rejected.parquet", "excluded.parquet"])
def test_missing_or_truncated_file(file: str, copied_set: Path, medium_set: Path) -> None:
    content = (copied_set / file).read_bytes()
    (copied_set / file).unlink()
    missing = only_error(copied_set)
    assert (missing.kind, missing.file) == (ErrorKind.FILE, file)
    (copied_set / file).write_bytes(content[: len(content) // 2])
    truncated = only_error(copied_set)
    assert (truncated.kind, truncated.file) == (ErrorKind.FILE, file)
    if file != SHARD:
        assert verified(copied_set).checked == verified(medium_set).checked


def test_file_with_another_sha256(copied_set: Path) -> None:
    content = (copied_set / "stats.json").read_bytes()
    (copied_set / "stats.json").write_bytes(content.replace(b"\n", b" "))
    assert only_kind_and_file(copied_set) == (
        ErrorKind.SHA256,
        "stats.json",
    )
    restate(copied_set)
    assert kinds(copied_set) == {}


@pytest.mark.parametrize("file", ["stats.json", "rejected.parquet", "excluded.parquet"])
def test_unreadable_table(file: str, copied_set: Path) -> None:
    (copied_set / file).write_bytes(b"no table")
    restate(copied_set)
    assert only_kind_and_file(copied_set) == (
        ErrorKind.FILE,
        file,
    )
    (copied_set / file).write_bytes((copied_set / INDEX).read_bytes())
    restate(copied_set)
    assert only_kind_and_file(copied_set) == (
        ErrorKind.FILE,
        file,
    )


def test_unreadable_index(copied_set: Path) -> None:
    (copied_set / INDEX).write_bytes(b"no table")
    restate(copied_set)
    assert only_kind_and_file(copied_set) == (ErrorKind.INDEX, INDEX)
    flip_byte(copied_set / SHARD, 0)  # shards are still checked as files
    assert kinds(copied_set) == {ErrorKind.INDEX: 1, ErrorKind.SHA256: 1}


def test_missing_index(copied_set: Path) -> None:
    (copied_set / INDEX).unlink()
    report = verified(copied_set)
    assert report.errors.counts == {ErrorKind.FILE: 1, ErrorKind.INDEX: 1}
    assert report.not_checked[-2].startswith("images of 1 shard")


def test_damaged_index(copied_set: Path) -> None:
    path = copied_set / INDEX
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    column = columns["image_crc32"]
    flip_byte(path, column.data_page_offset + column.total_compressed_size - 1)
    restate(copied_set)
    errors = [(error.kind, error.file) for error in verified(copied_set).errors.listed]
    assert errors == [(ErrorKind.INDEX, SHARD)]


def test_files_that_the_manifest_does_not_list(copied_set: Path) -> None:
    shutil.copy(copied_set / SHARD, copied_set / "train-00008-of-00009.tar")
    (copied_set / "pages").mkdir()
    shutil.copy(copied_set / SHARD, copied_set / "pages")
    (copied_set / "old.tar").symlink_to("nowhere.tar")
    (copied_set / f".{SHARD}.{'0' * 32}").touch()  # of a killed build
    errors = verified(copied_set).errors
    assert errors.counts == {ErrorKind.UNKNOWN_FILE: 3}
    assert [f.file for f in errors.listed] == ["old.tar", "pages/", "train-00008-of-00009.tar"]


def test_file_that_the_manifest_lists_twice(copied_set: Path) -> None:
    edit_manifest(copied_set, lambda manifest: manifest.files.append(manifest.files[0]))
    error = only_error(copied_set)
    assert (error.kind, error.file) == (ErrorKind.DUPLICATE_FILE, "rejected.parquet")


def test_shard_with_other_licenses_than_the_unknown_one_first(copied_set: Path) -> None:
    edit_manifest(copied_set, lambda manifest: manifest.shards[1].licenses.insert(0, 1))
    assert f"{SHARD} has licenses [1, 0" in of_kind(copied_set, ErrorKind.LICENSE)[0].message


def test_swapped_tars(copied_set: Path) -> None:
    one, other = (copied_set / SHARD).read_bytes(), (copied_set / OTHER).read_bytes()
    assert len(one) != len(other)
    (copied_set / SHARD).write_bytes(other)
    (copied_set / OTHER).write_bytes(one)
    assert kinds(copied_set) == {ErrorKind.FILE: 2}
    restate(copied_set)  # the manifest agrees with them
    counts = kinds(copied_set)
    members = 2 * (len(index_rows(copied_set, SHARD)) + len(index_rows(copied_set, OTHER)))
    assert counts[ErrorKind.MEMBER] == 2 * members


@pytest.mark.parametrize(
    "name", ["images", "captions", "regions", "sentences", "characters", "questions"]
)
def test_wrong_totals_in_the_manifest(name: str, copied_set: Path) -> None:
    def edit(manifest: mf.Manifest) -> None:
        manifest.totals["train"][name] += 1

    edit_manifest(copied_set, edit)
    error = only_error(copied_set)
    assert (error.kind, error.file) == (ErrorKind.TOTALS, mf.NAME)
    assert f" {name}, " in error.message


def test_wrong_counts_of_a_shard_in_the_manifest(copied_set: Path) -> None:
    def captions(manifest: mf.Manifest) -> None:
        manifest.shards[1].captions += 1

    def images(manifest: mf.Manifest) -> None:
        manifest.shards[2].images += 1

    edit_manifest(copied_set, captions)
    assert only_kind_and_file(copied_set) == (
        ErrorKind.TOTALS,
        SHARD,
    )
    edit_manifest(copied_set, images)
    assert kinds(copied_set) == {ErrorKind.TOTALS: 1, ErrorKind.INDEX: 1}


# --- tars -----------------------------------------------------------------------------------------


def test_truncated_tar(copied_set: Path) -> None:
    row = index_rows(copied_set)[2]
    content = (copied_set / SHARD).read_bytes()
    (copied_set / SHARD).write_bytes(content[: row.json_offset])
    restate(copied_set)
    counts = kinds(copied_set)
    assert counts.keys() == {ErrorKind.TAR, ErrorKind.CRC32}
    assert counts[ErrorKind.TAR] == 1


def test_tar_with_a_damaged_header(copied_set: Path) -> None:
    first, second = index_rows(copied_set)[:2]
    flip_byte(copied_set / SHARD, second.image_offset - 512)
    restate(copied_set)
    assert only_error(copied_set).kind is ErrorKind.TAR
    assert "ends after 2 of" in only_error(copied_set).message
    flip_byte(copied_set / SHARD, first.image_offset - 512)
    restate(copied_set)
    assert "cannot be read" in only_error(copied_set).message


def test_empty_tar(copied_set: Path) -> None:
    (copied_set / SHARD).write_bytes(b"")
    restate(copied_set)
    assert only_error(copied_set).kind is ErrorKind.TAR


def test_missing_tar_member(copied_set: Path) -> None:
    gone = index_rows(copied_set)[1]

    def drop(members: dict[str, bytes]) -> dict[str, bytes]:
        return {name: m for name, m in members.items() if name != gone.image_name}

    retar(copied_set, SHARD, drop)
    errors = verified(copied_set).errors.listed
    assert [(e.kind, e.key) for e in errors] == [
        (ErrorKind.MEMBER, gone.key),
        (ErrorKind.CRC32, gone.key),
    ]


def test_data_after_the_end_of_a_tar(copied_set: Path) -> None:
    content = (copied_set / SHARD).read_bytes()
    (copied_set / SHARD).write_bytes(content + bytes(10_240))
    restate(copied_set)
    assert kinds(copied_set) == {}
    for data in (content, bytes(512) + b"?"):
        (copied_set / SHARD).write_bytes(content + data)
        restate(copied_set)
        assert only_error(copied_set).kind is ErrorKind.TAR
        assert "there is data after its end" in only_error(copied_set).message


def test_tar_member_that_is_not_a_regular_file(copied_set: Path) -> None:
    """webdataset skips it, though its bytes are there."""
    row = index_rows(copied_set)[1]
    content = bytearray((copied_set / SHARD).read_bytes())
    header = slice(row.json_offset - 512, row.json_offset)
    info = tarfile.TarInfo.frombuf(bytes(content[header]), "utf-8", "strict")
    info.type = tarfile.CHRTYPE
    content[header] = info.tobuf(tarfile.USTAR_FORMAT)
    (copied_set / SHARD).write_bytes(content)
    restate(copied_set)
    errors = [
        error for error in verified(copied_set).errors.listed if "regular file" in error.message
    ]
    assert [(error.kind, error.key) for error in errors] == [(ErrorKind.MEMBER, row.key)]


def test_tar_member_that_the_index_lacks(copied_set: Path) -> None:
    retar(copied_set, SHARD, lambda members: members | {"coco/7.txt": b"?"})
    assert only_kind_and_key(copied_set) == (
        ErrorKind.MEMBER,
        "coco/7",
    )


def test_image_that_is_not_named_by_its_key(copied_set: Path) -> None:
    key, name = (row := index_rows(copied_set)[0]).key, row.image_name

    def rename(members: dict[str, bytes]) -> dict[str, bytes]:
        return {("coco/7.jpg" if m == name else m): members[m] for m in members}

    retar(copied_set, SHARD, rename)
    reindex(copied_set, lambda rows: setattr(rows[SHARD][0], "image_name", "coco/7.jpg"))
    assert only_kind_and_key(copied_set) == (
        ErrorKind.MEMBER,
        key,
    )


def test_members_of_a_sample_that_are_not_consecutive(copied_set: Path) -> None:
    apart = index_rows(copied_set)[0]

    def move(members: dict[str, bytes]) -> dict[str, bytes]:
        return members | {apart.image_name: members.pop(apart.image_name)}

    retar(copied_set, SHARD, move)
    error = only_error(copied_set)
    assert (error.kind, error.key) == (ErrorKind.MEMBER, apart.key)
    assert "do not follow one another" in error.message


def test_members_of_a_sample_may_have_either_order(copied_set: Path) -> None:
    """webdataset accepts both."""

    def swap(members: dict[str, bytes]) -> dict[str, bytes]:
        names = list(members)
        swapped = (name for pair in zip(names[1::2], names[::2], strict=True) for name in pair)
        return {name: members[name] for name in swapped}

    retar(copied_set, SHARD, swap)
    assert kinds(copied_set) == {}
