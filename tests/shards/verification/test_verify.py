"""``mdetr-shards verify``: intact sets pass, leaks are found, and the report is complete."""

import json
import shutil
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest

from shards.__main__ import main
from shards.format import manifest as mf
from shards.format.index import IndexRow
from shards.reading.shard_set import ShardSet
from shards.verification import verify as verify_module
from shards.verification.errors import MAX_LISTED, ErrorKind, VerificationError
from shards.verification.held_out import read_held_out
from shards.verification.set_checks import IndexedShard, check_keys
from shards.verification.verify import WITHOUT_RAW, verify
from tests.shard_sets import read_indexes, sample, write_samples, write_shard_set
from tests.shards.verification.conftest import build_set
from tests.shards.verification.corruption import (
    OTHER,
    SHARD,
    ShardContents,
    flip_byte,
    index_rows,
    kinds,
    of_kind,
    reindex,
    replace_fields,
    rewrite,
    verified,
)
from tests.test_architecture import modules_loaded_by

AS_PUBLISHED = [
    "word borders of gqa",
    "word borders of vg",
    "boxes against the image borders",
    "areas against boxes",
]


# --- intact sets ----------------------------------------------------------------------------------


def test_intact_set_passes(demo_set: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(demo_set), "--quiet"]) == 0
    out, err = capsys.readouterr()
    totals = mf.load(demo_set).totals.values()
    images, captions, regions = (
        sum(split_totals[name] for split_totals in totals)
        for name in ("images", "captions", "regions")
    )
    assert out == (
        "not checked: pixels, which are not decoded\n"
        "not checked: boxes of phrases against the image borders: no rule clips them\n"
        f"not checked: {WITHOUT_RAW[0]}\n"
        f"checked 27 files, {images:,} images, {captions:,} captions, {regions:,} regions, "
        "0 held-out ids: no errors\n"
    )
    assert err == ""
    assert main(["verify", str(demo_set)]) == 0
    assert f"{images}/{images}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("recipe", "rules", "unchecked"),
    [
        ("demo", "mdetr", ["pixels", *AS_PUBLISHED, "boxes of phrases"]),
        ("demo_gqa", "mdetr", ["pixels", *AS_PUBLISHED]),
        ("flickr30k", "paper", ["pixels", "boxes of phrases"]),
        ("refcoco", "paper", ["pixels"]),
    ],
)
def test_intact_sets_of_other_recipes_pass(
    recipe: str, rules: str, unchecked: list[str], demo_dataset: Path, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(f'base = "{recipe}"\nrules = "{rules}"')
    build_set(str(path), demo_dataset, tmp_path / "shards")
    report = verified(tmp_path / "shards")
    assert report.errors.listed == []
    assert report.checked["images"] > 10
    for check, begin in zip(report.not_checked, [*unchecked, "what the raw"], strict=True):
        assert check.startswith(begin)


def test_rewritten_set_passes(copied_set: Path) -> None:
    rewrite(copied_set, lambda contents: None)
    assert kinds(copied_set) == {}


def test_several_processes_find_the_same_errors(
    copied_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in (SHARD, OTHER):
        flip_byte(copied_set / file, index_rows(copied_set, file)[0].image_offset)
    serial = verified(copied_set)
    monkeypatch.setattr(verify_module, "_IMAGES_PER_PROCESS", 10)
    parallel = verified(copied_set)
    assert parallel.errors.listed == serial.errors.listed
    assert (parallel.checked, parallel.not_checked) == (serial.checked, serial.not_checked)


def test_set_without_a_recipe(tmp_path: Path) -> None:
    """A set that no build wrote: what a recipe requires is not checked."""
    report = verified(write_shard_set(tmp_path / "set", [[1, 2], [3]], images=False))
    assert {error.kind for error in report.errors.listed} == {ErrorKind.TOTALS}  # it has none
    assert [check.partition(":")[0] for check in report.not_checked] == [
        "pixels, which are not decoded",
        "caption lengths and overlaps of sentences",
        "how sentences are joined, datasets, and shards of images",
        "counts of stats.json",
        "sentences of the sources",
        "excluded images",
        "rejected records",
        "what the raw files say (--raw)",
    ]


def test_remote_set(copied_set: Path, tmp_path: Path) -> None:
    flip_byte(copied_set / SHARD, 512)
    (copied_set / OTHER).unlink()
    memory = fsspec.filesystem("memory")
    memory.put(f"{copied_set}/", "/verify/", recursive=True)
    report = verify(ShardSet.open("memory://verify", cache=tmp_path / "cache"))
    assert [(error.kind, error.file) for error in report.errors.listed] == [
        (ErrorKind.FILE, SHARD),
        (ErrorKind.FILE, OTHER),
    ]
    one = verify(ShardSet.open("memory://verify", cache=tmp_path / "cache of one"), num_images=1)
    assert one.checked["images"] == 1
    assert "whether shards without a chosen image exist" in one.not_checked
    assert len(list((tmp_path / "cache of one/mdetr-cache").glob("*.tar"))) == 1


# --- images in the wrong split --------------------------------------------------------------------


def test_image_twice_in_a_split(copied_set: Path) -> None:
    rewrite(copied_set, lambda contents: contents[OTHER].append(contents[SHARD][0]))
    [error] = of_kind(copied_set, ErrorKind.DUPLICATE_IMAGE)
    assert error.file == OTHER and SHARD in error.message
    assert [e.file for e in of_kind(copied_set, ErrorKind.PLACEMENT)] == [OTHER]


def test_train_image_in_val(copied_set: Path) -> None:
    val = "val-00000-of-00002.tar"

    def leak(contents: ShardContents) -> None:
        contents[val].append(contents[SHARD][0])

    rewrite(copied_set, leak)
    [error] = of_kind(copied_set, ErrorKind.LEAK)
    assert error.file == SHARD and val in error.message


def test_image_in_two_evaluation_splits_is_no_error(copied_set: Path) -> None:
    val, test = "val-00000-of-00002.tar", "test-00000-of-00002.tar"
    rewrite(copied_set, lambda contents: contents[test].append(contents[val][0]))
    assert not kinds(copied_set).keys() & {ErrorKind.LEAK, ErrorKind.DUPLICATE_IMAGE}


def test_unsafe_key(copied_set: Path) -> None:
    shards = ShardSet.open(copied_set)
    [error] = check_keys(shards, {1: IndexedShard(["coco/../7", "coco/8"], 0, 0)})
    assert (error.kind, error.file) == (ErrorKind.KEY, SHARD)


@pytest.mark.parametrize("name", ["duplicate_of", "image"])
def test_excluded_image_in_its_split(name: str, copied_set: Path) -> None:
    """By the key that it would have, and by that of the copy that was left out."""
    rows = pq.read_table(copied_set / "excluded.parquet").to_pylist()
    row = next(row for row in rows if row["excluded"] and row["image"] != row["duplicate_of"])

    def put_back(contents: ShardContents) -> None:
        contents[SHARD][0] = replace_fields(contents[SHARD][0], key=row[name])

    rewrite(copied_set, put_back)
    [error] = of_kind(copied_set, ErrorKind.HELD_OUT)
    assert error.key == row[name]
    assert "excluded.parquet lists it: " in error.message


def test_held_out_lists(demo_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = [row["key"] for row in read_indexes(demo_set, "train")]
    coco = [key.partition("/")[2] for key in trained if key.startswith("coco/")]
    ids = tmp_path / "ids.txt"
    ids.write_text("".join(f"{int(id_):012d}\n" for id_ in [*coco[:3], "999999999"]))
    assert main(["verify", str(demo_set), "--quiet", "--held-out", f"coco={ids}"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[2] for line in lines[:3]] == [
        f"coco/{id_}: held-out image: coco={ids} lists it" for id_ in coco[:3]
    ]
    assert lines[-1].endswith("4 held-out ids: 3 errors")
    assert lines[3] == "" and lines[4].split() == ["held-out", "image", "3"]
    ids.write_text("999999999\n")
    assert main(["verify", str(demo_set), "--quiet", "--held-out", f"coco={ids}"]) == 0
    capsys.readouterr()
    assert main(["verify", str(demo_set), "--quiet", "--held-out", f"clevr={ids}"]) == 0
    assert "not checked: clevr=" in capsys.readouterr().out
    report = verify(ShardSet.open(demo_set), held_out=[read_held_out(f"vg={ids}")] * 2)
    assert report.checked["held-out ids"] == 2
    ids.write_text("n999999999\n")
    not_checked = verify(
        ShardSet.open(demo_set), held_out=[read_held_out(f"gqa={ids}")]
    ).not_checked
    assert not_checked[-2].startswith(
        f"gqa={ids}: its images that are also in COCO have COCO's keys"
    )


@pytest.mark.parametrize("column", ["key", "crop_of"])
def test_held_out_list_contains_crops_of_its_images(
    column: str, copied_set: Path, tmp_path: Path
) -> None:
    row = index_rows(copied_set)[0]

    def cut_from_coco(rows: dict[str, list[IndexRow]]) -> None:
        rows[SHARD][0].crop_of = "coco/999999999"

    reindex(copied_set, cut_from_coco)
    namespace, _, id_ = (row.key if column == "key" else "coco/999999999").partition("/")
    (tmp_path / "ids.txt").write_text(id_)
    held_out = [read_held_out(f"{namespace}={tmp_path / 'ids.txt'}")]
    errors = verify(ShardSet.open(copied_set), held_out=held_out).errors.listed
    [error] = [error for error in errors if error.kind is ErrorKind.HELD_OUT]
    assert (error.file, error.key) == (SHARD, row.key)
    assert ("of which it is a crop" in error.message) == (column == "crop_of")


def test_held_out_list_cannot_find_photos_under_other_keys(tmp_path: Path) -> None:
    """The images of a set that was built without COCO have keys of Visual Genome."""
    made = write_samples(tmp_path / "set", [[(sample(key, 1), None) for key in ("coco/1", "vg/7")]])
    for namespace, others in (("coco", "vg"), ("flickr30k", "coco and vg"), ("vg", "coco")):
        (tmp_path / "ids.txt").write_text("139")
        held_out = [read_held_out(f"{namespace}={tmp_path / 'ids.txt'}")]
        not_checked = verify(ShardSet.open(made), held_out=held_out).not_checked
        assert any(f"that have only keys of {others};" in check for check in not_checked)


# --- some of the images ---------------------------------------------------------------------------


def test_num_images_are_spread_and_the_report_says_what_is_left_out(
    copied_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip_byte(copied_set / SHARD, 512 * 2 - 1)  # padding: only the sha256 changes
    (copied_set / OTHER).unlink()
    report = verify(ShardSet.open(copied_set), num_images=20)
    assert [error.kind for error in report.errors.listed if error.kind is not ErrorKind.CRC32] == [
        ErrorKind.FILE
    ]
    assert 10 < report.checked["images"] <= 20
    assert main(["verify", str(copied_set), "--num-images", "20", "--quiet"]) == 1
    assert "not checked: the sha256 and the tar of each shard" in capsys.readouterr().out


def test_num_images_of_all_images_finds_a_damaged_one(copied_set: Path) -> None:
    row = index_rows(copied_set)[0]
    flip_byte(copied_set / SHARD, row.image_offset)
    report = verify(ShardSet.open(copied_set), num_images=10_000)
    [error] = report.errors.listed
    assert (error.kind, error.key) == (ErrorKind.CRC32, row.key)


# --- the command ----------------------------------------------------------------------------------


def test_many_errors_are_counted_and_some_are_listed(
    demo_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied_set = Path(shutil.copytree(demo_set, tmp_path / "shards"))

    def empty(contents: ShardContents) -> None:
        for samples in contents.values():
            samples[:] = [sample._replace(image=b"no image") for sample in samples]

    rewrite(copied_set, empty)
    images = sum(totals["images"] for totals in mf.load(copied_set).totals.values())
    assert images > MAX_LISTED
    assert main(["verify", str(copied_set), "--quiet"]) == 1
    lines = capsys.readouterr().out.splitlines()
    errors = verified(copied_set).errors.counts.total()  # all have the file of another key, too
    assert lines[MAX_LISTED] == f"and {errors - MAX_LISTED} more"
    assert lines[-1].endswith(f": {errors} errors")
    assert f"image {images}" in [" ".join(line.split()) for line in lines]


@pytest.mark.parametrize("recipe", [{"rules": {}}, {"rules": {"conflict": "none"}}])
def test_recipe_of_another_version_cannot_be_verified(
    recipe: dict[str, object], copied_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((copied_set / mf.NAME).read_text())
    content["recipe"] |= recipe
    (copied_set / mf.NAME).write_text(json.dumps(content))
    assert main(["verify", str(copied_set), "--quiet"]) == 2
    assert "is not one of this version" in capsys.readouterr().err


def test_error_is_one_line() -> None:
    assert (
        str(VerificationError(ErrorKind.MEMBER, "a\nb", key="\x1b[1mé"))
        == "\\x1b[1mé: tar member: a\\nb"
    )


def test_folder_that_is_not_a_shard_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "is not a shard set" in err


@pytest.mark.parametrize("argument", ["ids.txt", "coco=", "co/co=ids.txt", "coco=nowhere.txt"])
def test_unreadable_list_has_status_2(
    argument: str, demo_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(demo_set), "--quiet", "--held-out", argument]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("mdetr-shards: error: ")


def test_help_of_verify_loads_no_heavy_library() -> None:
    loaded = modules_loaded_by(
        "from shards.__main__ import main\n"
        "try:\n    main(['verify', '--help'])\nexcept SystemExit as end:\n    assert end.code == 0"
    )
    assert not {"numpy", "pyarrow", "PIL", "tqdm", "webdataset"} & loaded
