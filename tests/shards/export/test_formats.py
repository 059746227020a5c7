"""``mdetr-shards export``: the files it writes, and what it refuses.

tests/consumers shows that the readers of other projects can read them.
"""

import json
import tarfile
from pathlib import Path
from typing import Any

import fsspec
import msgspec
import pyarrow.parquet as pq
import pytest

from schemas import AbsentSpan, Caption, Provenance, Region, Sample
from shards.__main__ import main
from shards.export.formats import FORMATS
from shards.format import manifest as mf
from shards.reading.shard_set import ShardSet
from tests.shard_sets import write_index, write_manifest, write_samples, write_shard_set

NAMING_FILES = ["mdetr-json", "ultralytics", "odvg", "coco"]


def caption(text: str, *regions: Region, dataset: str = "vg") -> Caption:
    return Caption(text, list(regions), [], [Provenance(dataset, "1", (0, len(text)))])


def region(*spans: tuple[int, int], category: int = 1) -> Region:
    return Region(list(spans), (10, 20, 30.5, 40), category=category)


def sample(key: str, *captions: Caption) -> Sample:
    return Sample(key, 640, 480, f"{key.rpartition('/')[2]}.jpg", list(captions))


def make_set(folder: Path, *samples: Sample) -> Path:
    return write_samples(folder / "set", [[(s, s.key.encode()) for s in samples]])


def export(name: str, shard_set: object, out: Path, *options: str) -> Path:
    assert main(["export", name, str(shard_set), "--output", str(out), *options]) == 0
    return out


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


MIXED = (
    sample("coco/139", caption("a red dog", region((0, 1), (2, 9)))),
    sample("vg/7", caption("a cat", region((0, 5))), caption("no box")),
    sample("flickr30k/33", caption("the hat", region((0, 7)), dataset="flickr30k")),
    sample("gqa/n5", caption("is it a hut?", region((6, 11)), dataset="gqa")),
)


def absent(start: int, stop: int) -> AbsentSpan:
    return AbsentSpan((start, stop), "gqa", "9", "answered no", "proven")


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_absent_phrases_are_exported_as_words_without_boxes_or_counted(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of captions without boxes are left out where such captions are."""
    both = caption("a red dog. kite", region((0, 1), (2, 9)))
    both.provenance[0].span = (0, 9)
    both.absent, both.tokens_negative = [absent(11, 15)], [(0, 9), (11, 15)]
    only = Caption("sun. moon", [], [(0, 3), (5, 9)], [], absent=[absent(0, 3), absent(5, 9)])
    out = export(name, make_set(tmp_path, sample("coco/139", both, only)), tmp_path / "out")
    left_out = {"coco": 3, "grit": 2, "odvg": 2, "ultralytics": 2}.get(name, 0)
    printed = capsys.readouterr().out
    assert ("left out" in printed) == (left_out > 0)
    assert f"left out: {left_out} absent phrases" in printed or not left_out
    if name == "mdetr-json":
        content = json.loads((out / "final_mixed_train.json").read_bytes())
        negative = [image["tokens_negative"] for image in content["images"]]
        assert negative == [[[0, 9], [11, 15]], [[0, 3], [5, 9]]]
        assert [a["tokens_positive"] for a in content["annotations"]] == [[[0, 1], [2, 9]]]
    if name == "odvg":
        [line] = lines(out / "train_vg.jsonl")
        assert line["grounding"]["caption"] == both.text
        assert [r["tokens_positive"] for r in line["grounding"]["regions"]] == [[[0, 9]]]
    if name == "hf":
        [row] = pq.read_table(next(out.glob("data/*.parquet"))).to_pylist()
        phrases = [phrase for caption in row["captions"] for phrase in caption["absent"]]
        assert [(p["span"], p["strength"]) for p in phrases] == [
            ([11, 15], "proven"),
            ([0, 3], "proven"),
            ([5, 9], "proven"),
        ]
    if name == "croissant":
        rows = pq.read_table(out / "captions.parquet").to_pylist()
        assert [row["absent_spans"] for row in rows] == [[[11, 15]], [[0, 3], [5, 9]]]


@pytest.mark.parametrize("name", FORMATS)
def test_same_set_gives_same_bytes(name: str, tmp_path: Path) -> None:
    made = make_set(tmp_path, *MIXED)
    first, second = (export(name, made, tmp_path / out) for out in ("first", "second"))
    assert files(first) == files(second) != []
    sqlite = ".nv-meta/index.sqlite"  # counts its writes
    for file in files(first):
        same = (first / file).read_bytes() == (second / file).read_bytes()
        assert same or file.endswith(sqlite)


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - {"croissant"}))  # which needs an address
def test_remote_set_is_exported_like_a_local_one(name: str, tmp_path: Path) -> None:
    made = make_set(tmp_path, *MIXED)
    system = fsspec.filesystem("memory")
    system.put(str(made), "/exported", recursive=True)
    try:
        remote = export(name, "memory://exported", tmp_path / "remote")
    finally:
        system.rm("/exported", recursive=True)
    local = export(name, made, tmp_path / "local")
    assert files(remote) == [file for file in files(local) if not file.endswith(".tar")]


def test_mdetr_json_has_a_file_for_flickr30k_and_one_for_the_rest(tmp_path: Path) -> None:
    out = export("mdetr-json", make_set(tmp_path, *MIXED), tmp_path / "out")
    assert files(out) == ["final_flickr_separateGT_train.json", "final_mixed_train.json"]
    mixed = json.loads((out / "final_mixed_train.json").read_bytes())
    assert [(image["data_source"], image["original_id"]) for image in mixed["images"]] == [
        ("coco", 139),
        ("vg", 7),
        ("vg", 7),
        ("gqa", "n5"),
    ]
    [image] = json.loads((out / "final_flickr_separateGT_train.json").read_bytes())["images"]
    assert (image["original_img_id"], image["sentence_id"]) == (33, 0)
    assert image["tokens_positive_eval"] == [[[0, 7]]]


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([["33#3"], ["33#1"]], [3, 1]),
        (
            [["33#3", "33#0"], ["33#1"]],
            [0, 1],
        ),  # combined: the number of one sentence could be another caption's
        ([["33#1"], ["7"]], [0, 1]),  # a sentence of Visual Genome
    ],
)
def test_sentence_ids_are_unique_within_an_image(
    records: list[list[str]], expected: list[int], tmp_path: Path
) -> None:
    captions = [
        Caption("a hat", [], [], [Provenance("flickr30k", r, (0, 5)) for r in sentences])
        for sentences in records
    ]
    out = export(
        "mdetr-json", make_set(tmp_path, sample("flickr30k/33", *captions)), tmp_path / "o"
    )
    images = json.loads((out / "final_flickr_separateGT_train.json").read_bytes())["images"]
    assert [image["sentence_id"] for image in images] == expected


def test_mdetr_json_of_merged_boxes_has_the_published_name(tmp_path: Path) -> None:
    made = make_set(tmp_path, MIXED[2])
    manifest = mf.load(made)
    manifest.recipe = {"sources": {"entities": {"ground_truth": "merged"}}}
    (made / mf.NAME).write_bytes(mf.encode(manifest))
    out = export("mdetr-json", made, tmp_path / "out")
    assert files(out) == ["final_flickr_mergedGT_train.json"]


def test_mdetr_json_lists_all_categories_that_occur(tmp_path: Path) -> None:
    dogs = sample("coco/9", caption("dogs", region((0, 4), category=18), region((0, 4))))
    out = export("mdetr-json", make_set(tmp_path, dogs), tmp_path / "out")
    content = json.loads((out / "final_mixed_train.json").read_bytes())
    assert [category["id"] for category in content["categories"]] == [1, 18]


@pytest.mark.parametrize("name", [*NAMING_FILES, "grit"])
def test_no_coco_leaves_out_the_images_of_coco(name: str, tmp_path: Path) -> None:
    out = export(name, make_set(tmp_path, *MIXED), tmp_path / "out", "--no-coco")
    content = b"".join((out / file).read_bytes() for file in files(out))
    assert b"139.jpg" not in content and b"7.jpg" in content
    if name == "mdetr-json":
        assert "final_mixed_train_no_coco.json" in files(out)


@pytest.mark.parametrize("name", NAMING_FILES)
def test_no_coco_leaves_out_crops_of_images_of_coco(name: str, tmp_path: Path) -> None:
    made = make_set(tmp_path, MIXED[1], MIXED[2])
    rows = ShardSet.open(made).index_rows(0)
    rows[0].crop_of = "coco/139"
    [entry] = mf.load(made).shards
    entry.index = write_index(made, entry.file, rows)
    write_manifest(made, [entry], "crops")
    out = export(name, made, tmp_path / "out", "--no-coco")
    content = b"".join((out / file).read_bytes() for file in files(out))
    assert b"7.jpg" not in content and b"33.jpg" in content


@pytest.mark.parametrize("name", NAMING_FILES)
def test_with_images_unpacks_images_under_their_keys(name: str, tmp_path: Path) -> None:
    out = export(name, make_set(tmp_path, *MIXED), tmp_path / "out", "--with-images")
    for s in MIXED:
        assert (out / "images" / f"{s.key}.jpg").read_bytes() == s.key.encode()
    content = b"".join((out / f).read_bytes() for f in files(out) if not f.endswith(".jpg"))
    for s in MIXED:
        assert f'"{s.key}.jpg"'.encode() in content


@pytest.mark.parametrize("name", [*NAMING_FILES, "grit"])
def test_with_images_fails_for_a_set_without_images(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = write_shard_set(tmp_path / "set", [[2, 1]], images=False)
    arguments = ["export", name, str(made), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--with-images"]) == 1
    assert "has no images" in capsys.readouterr().err
    assert files(tmp_path / "out") == []
    assert main(arguments) == 0


@pytest.mark.parametrize("name", FORMATS)
def test_output_folder_must_be_empty(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Readers would take old files for new ones, and an export could replace a tar by a link."""
    made = make_set(tmp_path, *MIXED)
    for out in (export(name, made, tmp_path / "out"), made):
        before = {file: (out / file).read_bytes() for file in files(out)}
        assert main(["export", name, str(made), "--output", str(out)]) == 1
        assert "is not an empty folder" in capsys.readouterr().err
        assert {file: (out / file).read_bytes() for file in files(out)} == before


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"energon"}))
def test_damaged_shard_leaves_no_output(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = write_shard_set(tmp_path / "set", [[2, 1, 1]])
    [tar] = made.glob("*.tar")
    tar.write_bytes(tar.read_bytes().replace(b"caption 0 of vg/2", b"caption 9 of vg/2"))
    assert main(["export", name, str(made), "--output", str(tmp_path / "out")]) == 1
    assert "vg/2.json is damaged" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_odvg_counts_characters_as_mmdetection_does(tmp_path: Path) -> None:
    """mmdetection strips and lowers a caption before it counts characters."""
    text = "  İ saw a dog, the big one "
    regions = region((10, 13), (15, 18), (19, 22)), region(), region((0, 3)), region((0, 1))
    made = make_set(tmp_path, sample("vg/7", caption(text, *regions)))
    out = export("odvg", made, tmp_path / "out")
    [line] = lines(out / "train_vg.jsonl")
    dog, first_letter = line["grounding"]["regions"]
    lowered = line["grounding"]["caption"].lower().strip()
    words = [lowered[start:stop] for start, stop in dog["tokens_positive"]]
    assert words == ["dog", "the big"]
    assert first_letter["tokens_positive"] == [[0, 1]]
    assert dog["phrase"] == "dog the big"
    assert dog["bbox"] == [10, 20, 30.5, 40]


def test_odvg_counts_the_absent_phrases_of_a_split_without_boxes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only = Caption("sun. moon", [], [(0, 3), (5, 9)], [], absent=[absent(0, 3), absent(5, 9)])
    out = export("odvg", make_set(tmp_path, sample("coco/139", only)), tmp_path / "out")
    assert "left out: 2 absent phrases" in capsys.readouterr().out
    assert files(out) == ["train_vg.jsonl"]
    assert lines(out / "train_vg.jsonl") == []


def test_odvg_labels_are_the_same_in_all_splits(tmp_path: Path) -> None:
    """A negative class of LVIS has no box, and so no label."""
    cat, dog = (caption(name, region((0, 3)), dataset="lvis") for name in ("cat", "dog"))
    none = caption("bow", dataset="lvis")
    made = write_samples(
        tmp_path / "set", [[(sample("coco/1", dog, none), b"1")], [(sample("coco/2", cat), b"2")]]
    )
    manifest = mf.load(made)
    manifest.shards[1].split = "val"
    manifest.roles["val"] = "eval"
    (made / mf.NAME).write_bytes(mf.encode(manifest))
    out = export("odvg", made, tmp_path / "out")
    assert files(out) == ["label_map.json", "train_od.jsonl", "val_od.jsonl"]
    assert json.loads((out / "label_map.json").read_bytes()) == {"0": "dog", "1": "cat"}
    [line] = lines(out / "val_od.jsonl")
    assert line["detection"]["instances"] == [
        {"bbox": [10, 20, 30.5, 40], "label": 1, "category": "cat"}
    ]


def test_odvg_labels_the_boxes_of_classes_that_are_joined(tmp_path: Path) -> None:
    joined = caption("cat. fire hydrant.", region((0, 3)), region((5, 17)), dataset="objects365")
    out = export("odvg", make_set(tmp_path, sample("objects365/1", joined)), tmp_path / "out")
    assert files(out) == ["label_map.json", "train_od.jsonl"]
    [line] = lines(out / "train_od.jsonl")
    categories = [instance["category"] for instance in line["detection"]["instances"]]
    assert categories == ["cat", "fire hydrant"]


def test_coco_writes_a_box_once_for_each_phrase(tmp_path: Path) -> None:
    captions = [
        caption("Red dog", region((0, 7))),
        caption("a red dog", region((2, 5), (6, 9)), region()),
    ]
    out = export("coco", make_set(tmp_path, sample("vg/7", *captions)), tmp_path / "out")
    content = json.loads((out / "instances_train.json").read_bytes())
    assert content["categories"] == [{"id": 1, "name": "red dog"}, {"id": 2, "name": "object"}]
    assert [(a["id"], a["category_id"], a["bbox"]) for a in content["annotations"]] == [
        (1, 1, [10, 20, 20.5, 20]),
        (2, 2, [10, 20, 20.5, 20]),
    ]
    assert content["images"][0] == {"id": 1, "file_name": "7.jpg", "width": 640, "height": 480}


def test_grit_with_images_writes_tars_like_img2dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shards.export.grit.PAIRS_PER_TAR", 2)
    out = export("grit", make_set(tmp_path, *MIXED), tmp_path / "out", "--with-images")
    assert files(out) == ["train.jsonl", "train/00000.tar", "train/00001.tar"]
    records = lines(out / "train.jsonl")
    assert [record["key"] for record in records] == [
        "000000000",
        "000000001",
        "000010000",
        "000010001",
    ]
    for name in ("00000", "00001"):
        with tarfile.open(out / "train" / f"{name}.tar") as tar:
            content = {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]
        in_tar = [record for record in records if record["key"].startswith(name)]
        assert len(content) == 3 * len(in_tar)
        for record in in_tar:
            assert json.loads(content[f"{record['key']}.json"]) == record
            assert content[f"{record['key']}.txt"].decode() == record["caption"]
            assert content[f"{record['key']}.jpg"].decode().endswith(record["file_name"][:-4])
    box = [10 / 640, 20 / 480, 30.5 / 640, 40 / 480, 1.0]
    assert records[0]["noun_chunks"] == records[0]["ref_exps"] == [[0, 9, *box]]


@pytest.mark.parametrize("option", ["--with-images", "--no-coco"])
def test_energon_refuses_to_unpack_or_leave_out_images(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_set(tmp_path, *MIXED)
    arguments = ["export", "energon", str(made), "--output", str(tmp_path / "out")]
    assert main([*arguments, option]) == 1
    assert "reads the tars as they are" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_energon_refuses_an_image_twice_in_a_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = write_samples(tmp_path / "set", [[(MIXED[0], b"1")], [(MIXED[0], b"1")]])
    assert main(["export", "energon", str(made), "--output", str(tmp_path / "out")]) == 1
    assert "an image is in the split twice" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_hugging_face_refuses_to_unpack_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_set(tmp_path, *MIXED)
    arguments = ["export", "hf", str(made), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--with-images"]) == 1
    assert "always contain the images" in capsys.readouterr().err


@pytest.mark.parametrize("name", [*NAMING_FILES, "grit", "hf"])
def test_empty_export_fails_or_writes_an_empty_file(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, out = make_set(tmp_path, MIXED[0]), tmp_path / "out"
    code = main(["export", name, str(made), "--output", str(out), "--no-coco"])
    if name in ("mdetr-json", "odvg", "hf"):  # the others write an empty file per split
        assert code == 1
        assert "nothing to export" in capsys.readouterr().err
        assert not out.exists()
    else:
        assert code == 0


@pytest.mark.parametrize(
    ("column", "value", "refusal"),
    [
        ("image_name", "../../../evil.jpg", "is not the name of an image"),
        ("image_name", "coco/139.jpg/../../../evil", "is not the name of an image"),
        ("split", "/../../evil", "names a split"),
        ("file", "../evil.tar", "names a file"),
    ],
)
def test_hostile_names_in_a_set_write_no_file(
    column: str, value: str, refusal: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_set(tmp_path, MIXED[0])
    manifest = mf.load(made)
    if column == "image_name":
        [row] = ShardSet.open(made).index_rows(0)
        row = msgspec.structs.replace(row, image_name=value)
        manifest.shards[0].index = write_index(made, manifest.shards[0].file, [row])
    else:
        setattr(manifest.shards[0], column, value)
    (made / mf.NAME).write_bytes(mf.encode(manifest))
    before = files(tmp_path)
    arguments = ["export", "coco", str(made), "--output", str(tmp_path / "out"), "--with-images"]
    assert main(arguments) == 1
    assert refusal in capsys.readouterr().err
    assert files(tmp_path) == before


@pytest.mark.parametrize("id_", ["00012", "1" * 25, "12"])
def test_image_id_is_a_number_if_that_loses_nothing(id_: str, tmp_path: Path) -> None:
    made = make_set(tmp_path, sample(f"vg/{id_}", caption("a cat", region((0, 5)))))
    out = export("mdetr-json", made, tmp_path / "out")
    [image] = json.loads((out / "final_mixed_train.json").read_bytes())["images"]
    assert image["original_id"] == (12 if id_ == "12" else id_)


def test_output_must_not_be_a_url(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make_set(tmp_path, MIXED[0])
    with pytest.raises(SystemExit):
        main(["export", "coco", str(made), "--output", "gs://bucket/out"])
    assert "is a URL" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--split", "dev"], ["--split", "train", "--split", "dev"]])
def test_unknown_split_is_refused_before_anything_is_written(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = write_shard_set(tmp_path / "set", [[1]])
    out = tmp_path / "out"
    assert main(["export", "coco", str(made), "--output", str(out), *options]) == 1
    assert "has no split 'dev'; it has train" in capsys.readouterr().err
    assert not out.exists()


def test_output_must_not_be_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = write_shard_set(tmp_path / "set", [[1]])
    (tmp_path / "out").write_text("a file")
    assert main(["export", "coco", str(made), "--output", str(tmp_path / "out")]) == 1
    assert str(tmp_path / "out") in capsys.readouterr().err
