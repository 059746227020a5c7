"""Files, index and tars of a shard set: one damage is one fault, and all else is looked at."""

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from shards.format import manifest as mf
from shards.verification.errors import Kind
from tests.shards.verification.damage import (
    OTHER,
    SHARD,
    flip,
    kinds,
    one_fault,
    reindex,
    restate,
    retar,
    rows_of,
    verified,
)


def edit_manifest(folder: Path, edit: Callable[[mf.Manifest], object]) -> None:
    manifest = mf.load(folder)
    edit(manifest)
    (folder / mf.NAME).write_bytes(mf.encode(manifest))


# --- files ----------------------------------------------------------------------------------------


def test_a_damaged_byte_of_an_image(damaged: Path, demo_set: Path) -> None:
    row = rows_of(damaged)[1]
    flip(damaged / SHARD, row.image_offset + row.image_size // 2)
    report = verified(damaged)
    assert [(f.kind, f.file, f.key) for f in report.faults.first] == [
        (Kind.SHA256, SHARD, ""),
        (Kind.CRC32, SHARD, row.key),
    ]
    assert report.checked == verified(demo_set).checked


def test_a_damaged_byte_of_a_caption(damaged: Path) -> None:
    row = rows_of(damaged)[1]
    flip(damaged / SHARD, row.json_offset + 5)
    assert kinds(damaged) == {Kind.SHA256: 1, Kind.CRC32: 1}


@pytest.mark.parametrize("file", [SHARD, "stats.json", "rejected.parquet", "excluded.parquet"])
def test_a_file_that_is_missing_or_cut_off(file: str, damaged: Path, demo_set: Path) -> None:
    content = (damaged / file).read_bytes()
    (damaged / file).unlink()
    missing = one_fault(damaged)
    assert (missing.kind, missing.file) == (Kind.FILE, file)
    (damaged / file).write_bytes(content[: len(content) // 2])
    cut = one_fault(damaged)
    assert (cut.kind, cut.file) == (Kind.FILE, file)
    if file != SHARD:
        assert verified(damaged).checked == verified(demo_set).checked


def test_tables_of_another_content(damaged: Path) -> None:
    content = (damaged / "stats.json").read_bytes()
    (damaged / "stats.json").write_bytes(content.replace(b"\n", b" "))
    assert (one_fault(damaged).kind, one_fault(damaged).file) == (Kind.SHA256, "stats.json")
    restate(damaged)
    assert kinds(damaged) == {}


@pytest.mark.parametrize("file", ["stats.json", "rejected.parquet", "excluded.parquet"])
def test_tables_that_cannot_be_read(file: str, damaged: Path) -> None:
    (damaged / file).write_bytes(b"no table")
    restate(damaged)
    assert (one_fault(damaged).kind, one_fault(damaged).file) == (Kind.FILE, file)
    (damaged / file).write_bytes((damaged / "index.parquet").read_bytes())
    restate(damaged)
    assert (one_fault(damaged).kind, one_fault(damaged).file) == (Kind.FILE, file)


def test_an_index_that_cannot_be_read(damaged: Path) -> None:
    (damaged / "index.parquet").write_bytes(b"no table")
    restate(damaged)
    assert (one_fault(damaged).kind, one_fault(damaged).file) == (Kind.INDEX, "index.parquet")
    flip(damaged / SHARD, 0)  # shards are looked at all the same, as files
    assert kinds(damaged) == {Kind.INDEX: 1, Kind.SHA256: 1}


def test_an_index_that_is_missing(damaged: Path) -> None:
    (damaged / "index.parquet").unlink()
    report = verified(damaged)
    assert report.faults.counts == {Kind.FILE: 1, Kind.INDEX: 1}
    assert report.not_checked[-1].startswith("images of 12 shards")


def test_an_index_that_is_damaged_at_a_shard(damaged: Path) -> None:
    path = damaged / "index.parquet"
    group = pq.ParquetFile(path).metadata.row_group(1)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    column = columns["image_crc32"]
    flip(path, column.data_page_offset + column.total_compressed_size - 1)
    restate(damaged)
    found = [(fault.kind, fault.file) for fault in verified(damaged).faults.first]
    assert found == [(Kind.INDEX, SHARD)]


def test_files_of_nobody(damaged: Path) -> None:
    shutil.copy(damaged / SHARD, damaged / "train-00008-of-00009.tar")
    (damaged / "pages").mkdir()
    shutil.copy(damaged / SHARD, damaged / "pages")
    (damaged / "old.tar").symlink_to("nowhere.tar")
    (damaged / f".{SHARD}.{'0' * 32}").touch()  # of a killed build
    faults = verified(damaged).faults
    assert faults.counts == {Kind.UNKNOWN_FILE: 3}
    assert [f.file for f in faults.first] == ["old.tar", "pages/", "train-00008-of-00009.tar"]


def test_a_file_that_the_manifest_names_twice(damaged: Path) -> None:
    edit_manifest(damaged, lambda manifest: manifest.files.append(manifest.files[1]))
    fault = one_fault(damaged)
    assert (fault.kind, fault.file) == (Kind.FILE_TWICE, "rejected.parquet")


def test_swapped_tars(damaged: Path) -> None:
    one, other = (damaged / SHARD).read_bytes(), (damaged / OTHER).read_bytes()
    assert len(one) != len(other)
    (damaged / SHARD).write_bytes(other)
    (damaged / OTHER).write_bytes(one)
    assert kinds(damaged) == {Kind.FILE: 2}
    restate(damaged)  # as if the manifest had been made of them
    found = kinds(damaged)
    members = 2 * (len(rows_of(damaged, SHARD)) + len(rows_of(damaged, OTHER)))
    assert found[Kind.MEMBER] == 2 * members


@pytest.mark.parametrize(
    "name", ["images", "captions", "regions", "sentences", "characters", "questions"]
)
def test_wrong_totals(name: str, damaged: Path) -> None:
    def edit(manifest: mf.Manifest) -> None:
        manifest.totals["train"][name] += 1

    edit_manifest(damaged, edit)
    fault = one_fault(damaged)
    assert (fault.kind, fault.file) == (Kind.TOTALS, mf.NAME)
    assert f" {name}, " in fault.what


def test_wrong_counts_of_a_shard(damaged: Path) -> None:
    def captions(manifest: mf.Manifest) -> None:
        manifest.shards[1].captions += 1

    def images(manifest: mf.Manifest) -> None:
        manifest.shards[2].images += 1

    edit_manifest(damaged, captions)
    assert (one_fault(damaged).kind, one_fault(damaged).file) == (Kind.TOTALS, SHARD)
    edit_manifest(damaged, images)
    assert kinds(damaged) == {Kind.TOTALS: 1, Kind.INDEX: 1}


# --- tars -----------------------------------------------------------------------------------------


def test_a_tar_whose_end_is_missing(damaged: Path) -> None:
    row = rows_of(damaged)[2]
    content = (damaged / SHARD).read_bytes()
    (damaged / SHARD).write_bytes(content[: row.json_offset])
    restate(damaged)
    found = kinds(damaged)
    assert found.keys() == {Kind.TAR, Kind.CRC32}
    assert found[Kind.TAR] == 1


def test_a_tar_with_a_damaged_header(damaged: Path) -> None:
    first, second = rows_of(damaged)[:2]
    flip(damaged / SHARD, second.image_offset - 512)
    restate(damaged)
    assert one_fault(damaged).kind is Kind.TAR
    assert "ends after 2 of" in one_fault(damaged).what
    flip(damaged / SHARD, first.image_offset - 512)
    restate(damaged)
    assert "cannot be read" in one_fault(damaged).what


def test_an_empty_tar(damaged: Path) -> None:
    (damaged / SHARD).write_bytes(b"")
    restate(damaged)
    assert one_fault(damaged).kind is Kind.TAR


def test_a_member_that_is_gone(damaged: Path) -> None:
    gone = rows_of(damaged)[1]

    def drop(members: dict[str, bytes]) -> dict[str, bytes]:
        return {name: of for name, of in members.items() if name != gone.image_name}

    retar(damaged, SHARD, drop)
    found = verified(damaged).faults.first
    assert [(f.kind, f.key) for f in found] == [(Kind.MEMBER, gone.key), (Kind.CRC32, gone.key)]


def test_what_lies_behind_the_end_of_a_tar(damaged: Path) -> None:
    content = (damaged / SHARD).read_bytes()
    (damaged / SHARD).write_bytes(content + bytes(10_240))
    restate(damaged)
    assert kinds(damaged) == {}
    for behind in (content, bytes(512) + b"?"):
        (damaged / SHARD).write_bytes(content + behind)
        restate(damaged)
        assert one_fault(damaged).kind is Kind.TAR
        assert "there is more behind its end" in one_fault(damaged).what


def test_a_member_that_is_no_plain_file(damaged: Path) -> None:
    """As webdataset leaves out, though its bytes are there."""
    row = rows_of(damaged)[1]
    content = bytearray((damaged / SHARD).read_bytes())
    header = slice(row.json_offset - 512, row.json_offset)
    info = tarfile.TarInfo.frombuf(bytes(content[header]), "utf-8", "strict")
    info.type = tarfile.CHRTYPE
    content[header] = info.tobuf(tarfile.USTAR_FORMAT)
    (damaged / SHARD).write_bytes(content)
    restate(damaged)
    faults = [fault for fault in verified(damaged).faults.first if "plain file" in fault.what]
    assert [(fault.kind, fault.key) for fault in faults] == [(Kind.MEMBER, row.key)]


def test_a_member_that_no_index_lists(damaged: Path) -> None:
    retar(damaged, SHARD, lambda members: members | {"coco/7.txt": b"?"})
    assert (one_fault(damaged).kind, one_fault(damaged).key) == (Kind.MEMBER, "coco/7")


def test_an_image_that_is_not_named_by_its_key(damaged: Path) -> None:
    key, name = (row := rows_of(damaged)[0]).key, row.image_name

    def rename(members: dict[str, bytes]) -> dict[str, bytes]:
        return {("coco/7.jpg" if of == name else of): members[of] for of in members}

    retar(damaged, SHARD, rename)
    reindex(damaged, lambda rows: setattr(rows[SHARD][0], "image_name", "coco/7.jpg"))
    assert (one_fault(damaged).kind, one_fault(damaged).key) == (Kind.MEMBER, key)


def test_members_of_an_image_that_lie_apart(damaged: Path) -> None:
    apart = rows_of(damaged)[0]

    def move(members: dict[str, bytes]) -> dict[str, bytes]:
        return members | {apart.image_name: members.pop(apart.image_name)}

    retar(damaged, SHARD, move)
    fault = one_fault(damaged)
    assert (fault.kind, fault.key) == (Kind.MEMBER, apart.key)
    assert "do not follow one another" in fault.what


def test_members_of_an_image_in_the_other_order(damaged: Path) -> None:
    """As webdataset takes them, too."""
    retar(damaged, SHARD, lambda members: dict(reversed(members.items())))
    reindex(damaged, lambda rows: rows[SHARD].reverse())
    assert kinds(damaged) == {}
