"""``python -m shards verify``: clean sets pass, and one damage is one fault, whatever else is."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest

from shards.__main__ import main
from shards.format import manifest as mf
from shards.reading.shard_set import ShardSet
from shards.verification import verify as verify_module
from shards.verification.errors import SHOWN, Fault, Kind
from shards.verification.held_out import read_held_out
from shards.verification.set_checks import Indexed, key_faults
from shards.verification.verify import verify
from tests.shard_sets import write_shard_set
from tests.shards.verification.conftest import build_set
from tests.shards.verification.damage import (
    OTHER,
    SHARD,
    Contents,
    change,
    flip,
    kinds,
    one_fault,
    rewrite,
    rows_of,
    verified,
)

AS_PUBLISHED = ["word borders of gqa", "word borders of vg", "boxes against the borders"]


# --- clean sets -----------------------------------------------------------------------------------


def test_a_clean_set_passes(demo_set: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(demo_set), "--quiet"]) == 0
    out, err = capsys.readouterr()
    totals = mf.load(demo_set).totals.values()
    images, captions, regions = (
        sum(of[name] for of in totals) for name in ("images", "captions", "regions")
    )
    assert out == (
        "not checked: pixels, which are not decoded\n"
        "not checked: boxes of phrases against the borders of their images: no rules cut them\n"
        f"checked 16 files, {images:,} images, {captions:,} captions, {regions:,} regions, "
        "0 held-out ids: no fault\n"
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
def test_sets_of_other_recipes_pass(
    recipe: str, rules: str, unchecked: list[str], demo_dataset: Path, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(f'base = "{recipe}"\nrules = "{rules}"')
    build_set(str(path), demo_dataset, tmp_path / "shards")
    report = verified(tmp_path / "shards")
    assert report.faults.first == []
    assert report.checked["images"] > 10
    for what, begin in zip(report.not_checked, unchecked, strict=True):
        assert what.startswith(begin)


def test_a_set_that_is_written_again_passes(damaged: Path) -> None:
    rewrite(damaged, lambda contents: None)
    assert kinds(damaged) == {}


def test_several_processes_find_what_one_finds(
    damaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in (SHARD, OTHER):
        flip(damaged / file, rows_of(damaged, file)[0].image_offset)
    alone = verified(damaged)
    monkeypatch.setattr(verify_module, "_IMAGES_A_PROCESS", 10)
    together = verified(damaged)
    assert together.faults.first == alone.faults.first
    assert (together.checked, together.not_checked) == (alone.checked, alone.not_checked)


def test_a_set_without_a_recipe(tmp_path: Path) -> None:
    """One that other code than a build has written: what no recipe promises is not checked."""
    report = verified(write_shard_set(tmp_path / "set", [[1, 2], [3]], images=False))
    assert {fault.kind for fault in report.faults.first} == {Kind.TOTALS}  # it states none
    assert [what.partition(":")[0] for what in report.not_checked] == [
        "pixels, which are not decoded",
        "length of captions, overlap of parts",
        "counts of stats.json",
        "sentences of the sources",
        "images that were left out",
    ]


def test_a_set_behind_a_url(damaged: Path, tmp_path: Path) -> None:
    flip(damaged / SHARD, 512)
    (damaged / OTHER).unlink()
    memory = fsspec.filesystem("memory")
    memory.put(f"{damaged}/", "/verify/", recursive=True)
    report = verify(ShardSet.open("memory://verify", cache=tmp_path / "cache"))
    assert [(fault.kind, fault.file) for fault in report.faults.first] == [
        (Kind.FILE, SHARD),
        (Kind.FILE, OTHER),
    ]
    one = verify(ShardSet.open("memory://verify", cache=tmp_path / "cache of one"), sample=1)
    assert one.checked["images"] == 1
    assert one.not_checked[-1] == "whether shards with nothing of the sample are there"
    assert len(list((tmp_path / "cache of one").glob("*.tar"))) == 1


# --- which images are where ---------------------------------------------------------------------


def test_an_image_twice_in_a_split(damaged: Path) -> None:
    rewrite(damaged, lambda contents: contents[OTHER].append(contents[SHARD][0]))
    fault = one_fault(damaged)
    assert (fault.kind, fault.file) == (Kind.TWICE, OTHER)
    assert SHARD in fault.what


def test_an_image_of_train_in_val(damaged: Path) -> None:
    val = "val-00000-of-00002.tar"

    def leak(contents: Contents) -> None:
        contents[val].append(contents[SHARD][0])

    rewrite(damaged, leak)
    fault = one_fault(damaged)
    assert (fault.kind, fault.file) == (Kind.LEAK, SHARD)
    assert val in fault.what


def test_an_image_in_two_splits_for_evaluation_is_no_fault(damaged: Path) -> None:
    val, test = "val-00000-of-00002.tar", "test-00000-of-00002.tar"
    rewrite(damaged, lambda contents: contents[test].append(contents[val][0]))
    assert kinds(damaged) == {}


def test_an_unsafe_key(damaged: Path) -> None:
    shards = ShardSet.open(damaged)
    [fault] = key_faults(shards, {1: Indexed(["coco/../7", "coco/8"], 0, 0)})
    assert (fault.kind, fault.file) == (Kind.KEY, SHARD)


@pytest.mark.parametrize("name", ["duplicate_of", "image"])
def test_an_excluded_image(name: str, damaged: Path) -> None:
    """By the key that it would have, and by that of the copy that was left out."""
    rows = pq.read_table(damaged / "excluded.parquet").to_pylist()
    row = next(row for row in rows if row["excluded"] and row["image"] != row["duplicate_of"])

    def put_back(contents: Contents) -> None:
        contents[SHARD][0] = change(contents[SHARD][0], key=row[name])

    rewrite(damaged, put_back)
    faults = verified(damaged).faults
    assert faults.counts[Kind.HELD_OUT] == 1
    assert faults.counts.keys() <= {Kind.HELD_OUT, Kind.LEAK}  # it may be in val, for which it was
    assert faults.first[-1].key == row[name]
    assert "has it left out: " in faults.first[-1].what


def test_held_out_images(
    demo_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = pq.read_table(demo_set / "index.parquet", columns=["shard", "key"]).to_pylist()
    trained = [row["key"] for row in keys if row["shard"].startswith("train")]
    coco = [key.partition("/")[2] for key in trained if key.startswith("coco/")]
    ids = tmp_path / "ids.txt"
    ids.write_text("".join(f"{int(id_):012d}\n" for id_ in [*coco[:3], "999999999"]))
    assert main(["verify", str(demo_set), "--quiet", "--held-out", f"coco={ids}"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[2] for line in lines[:3]] == [
        f"coco/{id_}: held out: coco={ids} names it" for id_ in coco[:3]
    ]
    assert lines[-1].endswith("4 held-out ids: 3 faults")
    assert lines[3] == "" and lines[4].split() == ["held", "out", "3"]
    ids.write_text("999999999\n")
    assert main(["verify", str(demo_set), "--quiet", "--held-out", f"coco={ids}"]) == 0
    capsys.readouterr()
    assert main(["verify", str(demo_set), "--quiet", "--held-out", f"clevr={ids}"]) == 0
    assert "not checked: clevr=" in capsys.readouterr().out
    report = verify(ShardSet.open(demo_set), held_out=[read_held_out(f"vg={ids}")] * 2)
    assert report.checked["held-out ids"] == 2
    ids.write_text("n999999999\n")
    told = verify(ShardSet.open(demo_set), held_out=[read_held_out(f"gqa={ids}")]).not_checked
    assert told[-1].startswith(f"gqa={ids}: its images that COCO has too stand under COCO's keys")


# --- a sample of the images ---------------------------------------------------------------------


def test_a_sample_is_spread_and_says_what_it_leaves_out(
    damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(damaged / SHARD, 512 * 2 - 1)  # the rest of a member's last block: only sha256 has it
    (damaged / OTHER).unlink()
    report = verify(ShardSet.open(damaged), sample=20)
    assert [fault.kind for fault in report.faults.first if fault.kind is not Kind.CRC32] == [
        Kind.FILE
    ]
    assert 10 < report.checked["images"] <= 20
    assert main(["verify", str(damaged), "--sample", "20", "--quiet"]) == 1
    assert "not checked: the sha256 and the tar of each shard" in capsys.readouterr().out


def test_a_sample_of_all_images_sees_a_damaged_one(damaged: Path) -> None:
    row = rows_of(damaged)[0]
    flip(damaged / SHARD, row.image_offset)
    report = verify(ShardSet.open(damaged), sample=10_000)
    [fault] = report.faults.first
    assert (fault.kind, fault.key) == (Kind.CRC32, row.key)


# --- the command ----------------------------------------------------------------------------------


def test_many_faults_are_counted_and_some_are_shown(
    damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def empty(contents: Contents) -> None:
        for items in contents.values():
            items[:] = [item._replace(image=b"no image") for item in items]

    rewrite(damaged, empty)
    images = sum(of["images"] for of in mf.load(damaged).totals.values())
    assert images > SHOWN
    assert main(["verify", str(damaged), "--quiet"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[SHOWN] == f"and {images - SHOWN} more"
    assert lines[-1].endswith(f": {images} faults")
    assert Counter(line.split(": ")[2] for line in lines[:SHOWN]) == {"image": SHOWN}


@pytest.mark.parametrize("recipe", [{"rules": {}}, {"rules": {"conflict": "none"}}])
def test_a_recipe_of_another_version(
    recipe: dict[str, object], damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((damaged / mf.NAME).read_text())
    content["recipe"] |= recipe
    (damaged / mf.NAME).write_text(json.dumps(content))
    assert main(["verify", str(damaged), "--quiet"]) == 2
    assert "is not one of this version" in capsys.readouterr().err


def test_a_fault_is_one_line() -> None:
    assert str(Fault(Kind.MEMBER, "a\nb", key="\x1b[1mé")) == "\\x1b[1mé: member of a tar: a\\nb"


def test_what_is_no_shard_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "is not a shard set" in err


@pytest.mark.parametrize("argument", ["ids.txt", "coco=", "co/co=ids.txt", "coco=nowhere.txt"])
def test_a_list_that_cannot_be_read(
    argument: str, demo_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(demo_set), "--quiet", "--held-out", argument]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("shards verify: ")


@pytest.mark.parametrize("n", ["0", "many"])
def test_a_sample_of_nothing(n: str, demo_set: Path) -> None:
    with pytest.raises(SystemExit) as end:
        main(["verify", str(demo_set), "--sample", n])
    assert end.value.code == 2


def test_help_is_light_and_tells_of_visual_genome() -> None:
    code = (
        "import sys\nfrom shards.__main__ import main\n"
        "try:\n    main(['verify', '--help'])\nexcept SystemExit:\n    print(*sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "stands under COCO's key" in " ".join(out.stdout.split())
    loaded = set(out.stdout.splitlines()[-1].split())
    assert not {"numpy", "pyarrow", "PIL", "tqdm", "webdataset"} & loaded
