"""Inputs for which an audit could call a leak clean, or invent one: names that several images have,
ids that are not compared, files that are not read, and splits that are not trained on."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from shards.__main__ import main
from shards.audit.audit import Audit
from shards.audit.eval_sets import EvalSet
from shards.audit.files.statements import Statement
from tests import tiny

COCO_NAME = "COCO_val2014_{:012d}.jpg"


def pixels(seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((96, 96), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


def write_parquet(path: Path, **columns: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def names_in(path: Path) -> list[str]:
    with tarfile.open(path) as tar:
        return tar.getnames()


def leaks_of(folder: Path, *arguments: object) -> set[tuple[str, str]]:
    """Returns file and evaluation image of each leak that an audit finds."""
    output = folder / "leaks.json"
    output.unlink(missing_ok=True)
    assert main(["audit", *map(str, arguments), "--output", str(output)]) in (0, 1)
    leaks = json.loads(output.read_text())["leaks"]
    return {(leak["file"], leak["eval_image"]) for leak in leaks}


@pytest.fixture
def against(tmp_path: Path) -> list[object]:
    """Options of an evaluation set of one image of Flickr30k, coco/139 being no photo of it."""
    (tmp_path / "test.txt").write_text("589\n")
    tiny.write(tmp_path / "eval/flickr30k-images/589.jpg", pixels(589))
    return ["--against", f"flickr30k={tmp_path / 'test.txt'}", "--eval-images", tmp_path / "eval"]


# --- several images of one name -------------------------------------------------------------------


@pytest.mark.parametrize("path", ["image.jpg", None])
def test_images_of_one_name_in_parquet_are_compared_each(
    path: str | None, tmp_path: Path, against: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    images = [{"bytes": pixels(seed), "path": path} for seed in (1, 2, 589, 3)]
    file = write_parquet(tmp_path / "a.parquet", image=images)
    clean = tmp_path / "clean.parquet"
    assert leaks_of(tmp_path, file, *against, "--write", clean) == {(path or "", "flickr30k/589")}
    assert "leaks: 1 of 4 images" in capsys.readouterr().out
    assert pq.read_table(clean)["image"].to_pylist() == [images[0], images[1], images[3]]


def test_samples_of_one_name_in_several_tars_are_compared_each(
    tmp_path: Path, against: list[object]
) -> None:
    for number, seed in enumerate((1, 2, 589)):
        tiny.write_tar(tmp_path / f"tars/{number}.tar", {"000000.jpg": pixels(seed)})
    clean = tmp_path / "clean"
    arguments = [tmp_path / "tars", *against, "--write", clean]
    assert leaks_of(tmp_path, *arguments) == {("000000.jpg", "flickr30k/589")}
    names = {path.name: names_in(path) for path in clean.iterdir()}
    assert names == {"0.tar": ["000000.jpg"], "1.tar": ["000000.jpg"], "2.tar": []}


def test_every_image_of_a_sample_is_compared(tmp_path: Path, against: list[object]) -> None:
    members = {"a.left.jpg": pixels(1), "a.right.JPG": pixels(589), "b.JPG": pixels(2)}
    file = tiny.write_tar(tmp_path / "a.tar", members)
    assert leaks_of(tmp_path, file, *against) == {("a.left.jpg", "flickr30k/589")}


def test_file_in_the_folder_of_another_dataset_is_another_image(
    tmp_path: Path, against: list[object]
) -> None:
    images = tmp_path / "images"
    tiny.write(images / "flickr30k-images/7.jpg", pixels(589))
    records = [{"image": "VG_100K/7.jpg"}, {"image": "7.jpg", "data_source": "vg", "image_id": 7}]
    file = tiny.write_json(tmp_path / "a.json", records)
    assert leaks_of(tmp_path, file, *against, "--images", images) == set()
    tiny.write(images / "VG_100K/7.jpg", pixels(589))
    assert leaks_of(tmp_path, file, *against, "--images", images) == {
        ("VG_100K/7.jpg", "flickr30k/589")
    }


def test_image_of_an_evaluation_set_is_not_hashed_from_another_dataset(tmp_path: Path) -> None:
    (tmp_path / "vg.json").write_text('[{"image": "VG_100K/589.jpg"}]')
    tiny.write(tmp_path / "eval/flickr30k-images/589.jpg", pixels(589))
    tiny.write(tmp_path / "mine/a.jpg", pixels(589))
    file = tiny.write_json(tmp_path / "a.json", ["a.jpg"])
    options = ["--eval-images", tmp_path / "eval", "--images", tmp_path / "mine"]
    assert leaks_of(tmp_path, file, "--against", f"s={tmp_path / 'vg.json'}", *options) == set()


# --- ids that are not compared --------------------------------------------------------------------


@pytest.mark.parametrize("dataset", ["coco", "vg"])
def test_set_of_two_datasets_is_as_its_two_sets(dataset: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"{dataset}/999\n")
    (tmp_path / "first.txt").write_text("139\n")
    (tmp_path / "flickr.txt").write_text("589\n")
    first, flickr = f"{dataset}:{tmp_path / 'first.txt'}", f"flickr30k:{tmp_path / 'flickr.txt'}"
    counts = []
    for names in (("one", "one"), ("one", "two")):
        against = ["--against", f"{names[0]}={first}", "--against", f"{names[1]}={flickr}"]
        leaks_of(tmp_path, tmp_path / "a.txt", *against)
        result = json.loads((tmp_path / "leaks.json").read_text())
        counts.append((result["clean"]["images"], result["not_checked"]["images"]))
    assert counts == [(0, 1), (0, 1)]


@pytest.mark.parametrize(("image", "is_clean"), [("coco/139", True), ("coco/140", False)])
def test_image_that_no_table_has_is_not_clean_beside_images_without_other_ids(
    image: str, is_clean: bool, tmp_path: Path
) -> None:
    coco = {"images": [{"id": 139, "flickr_url": "https://a.staticflickr.com/1/2/5_a_z.jpg"}]}
    vg = [{"image_id": 7, "coco_id": 1, "flickr_id": 6}, {"image_id": 8, "coco_id": None}]
    tables = [
        tiny.write_json(tmp_path / "coco.json", coco),
        tiny.write_json(tmp_path / "vg.json", vg),
    ]
    identities = tmp_path / "x.parquet"
    assert main(["identities", *map(str, tables), "--output", str(identities)]) == 0
    (tmp_path / "test.txt").write_text("7\n8\n")
    (tmp_path / "a.txt").write_text(f"{image}\n")
    against = ["--against", f"vg={tmp_path / 'test.txt'}", "--identities", identities]
    assert leaks_of(tmp_path, tmp_path / "a.txt", *against) == set()
    result = json.loads((tmp_path / "leaks.json").read_text())
    assert result["clean"]["images"] == is_clean


@pytest.mark.parametrize("names", [("one", "one"), ("one", "two")])
def test_images_without_other_ids_are_set_aside_beside_those_of_their_dataset_only(
    names: tuple[str, str], tmp_path: Path
) -> None:
    """That vg/7 is not vg/9 tells nothing of coco/139, of which no table states another id."""
    coco = {"images": [{"id": 139}, {"id": 1, "flickr_url": "http://a.staticflickr.com/1/5_a.jpg"}]}
    vg = [{"image_id": 7, "flickr_id": 6}, {"image_id": 9, "flickr_id": None}]
    tables = [
        tiny.write_json(tmp_path / "coco.json", coco),
        tiny.write_json(tmp_path / "vg.json", vg),
    ]
    identities = tmp_path / "x.parquet"
    assert main(["identities", *map(str, tables), "--output", str(identities)]) == 0
    for name, line in (("coco.txt", "139"), ("vg.txt", "7"), ("a.txt", "vg/9")):
        (tmp_path / name).write_text(f"{line}\n")
    options: list[object] = ["--identities", identities]
    for name, dataset in zip(names, ("coco", "vg"), strict=True):
        options += ["--against", f"{name}={dataset}:{tmp_path / dataset}.txt"]
    assert leaks_of(tmp_path, tmp_path / "a.txt", *options) == set()
    result = json.loads((tmp_path / "leaks.json").read_text())
    assert (result["clean"]["images"], result["not_checked"]["images"]) == (0, 1)


def test_crop_leaks_by_the_image_that_it_is_of() -> None:
    crop = Statement("flickr30k/589", ("flickr30k/589",), ("vg/7",))
    audit = Audit([EvalSet("set", {"flickr30k/589": crop}, set())])
    for key in ("vg/7", "vg/8"):
        audit.add(Statement(key, (key,)))
    assert [(leak.image, leak.join) for leak in audit.result().leaks] == [("vg/7", "id")]


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ([{"id": 1, "regions": []}, {"id": 2, "regions": []}], "coco_id or flickr_id"),
        ({"images": [{"id": 139, "file_name": "000000000139.jpg"}]}, "flickr_url"),
    ],
)
def test_table_that_states_no_ids_of_other_datasets_is_refused(
    document: object, field: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tiny.write_json(tmp_path / "table.json", document)
    assert main(["identities", str(table), "--output", str(tmp_path / "x.parquet")]) == 2
    assert f"no image has a {field}" in capsys.readouterr().err


def test_tables_that_contradict_each_other_both_count(tmp_path: Path) -> None:
    tables = [
        tiny.write_json(tmp_path / f"{photo}.json", [{"image_id": 7, "flickr_id": photo}])
        for photo in (588, 589, 590)
    ]
    identities = tmp_path / "x.parquet"
    assert main(["identities", *map(str, tables), "--output", str(identities)]) == 0
    (tmp_path / "test.txt").write_text("589\n")
    (tmp_path / "a.txt").write_text("vg/7\n")
    against = ["--against", f"flickr30k={tmp_path / 'test.txt'}", "--identities", identities]
    assert leaks_of(tmp_path, tmp_path / "a.txt", *against) == {("", "flickr30k/589")}


# --- files that are not read ----------------------------------------------------------------------


@pytest.fixture
def coco_139(tmp_path: Path) -> list[object]:
    (tmp_path / "ids.txt").write_text("139\n")
    return ["--against", f"coco={tmp_path / 'ids.txt'}"]


def test_extensions_in_capitals_are_read(tmp_path: Path, coco_139: list[object]) -> None:
    name = COCO_NAME.format(139)
    write_parquet(tmp_path / "p/a.PARQUET", file_name=[name])
    tiny.write_tar(tmp_path / "t/a.TAR", {name: b""})
    assert leaks_of(tmp_path, tmp_path / "p", *coco_139) == {(name, "coco/139")}
    assert leaks_of(tmp_path, tmp_path / "t", *coco_139) == {(name, "coco/139")}


@pytest.mark.parametrize("content", [b"[]", b"{}\n", None])
def test_file_without_records_is_refused(
    content: bytes | None, tmp_path: Path, coco_139: list[object]
) -> None:
    file = tmp_path / "a"
    if content is None:
        write_parquet(file, file_name=pa.array([], pa.string()))
    else:
        file.write_bytes(content)
    assert main(["audit", str(file), *map(str, coco_139)]) == 2


@pytest.mark.parametrize("other", ["b.jsonl", "b.tar.gz", "x/b.tgz"])
def test_files_beside_those_that_are_read_are_stated(
    other: str, tmp_path: Path, coco_139: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    write_parquet(tmp_path / "p/a.parquet", file_name=[COCO_NAME.format(285)])
    tiny.write_tar(tmp_path / "t/a.tar", {COCO_NAME.format(285): b""})
    for name in ("p", "t"):
        (tmp_path / name / other).parent.mkdir(exist_ok=True)
        (tmp_path / name / other).write_text("{}")
        leaks_of(tmp_path, tmp_path / name, *coco_139)
        output = capsys.readouterr().out
        assert f"not checked: 1 file: {other}\n" in output
        assert "1 are clean and 0 not checked; 1 file not checked" in output
        assert json.loads((tmp_path / "leaks.json").read_text())["files_not_checked"] == [other]


# --- splits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
        ("train.parquet", "testA.parquet"),
        ("train/0.parquet", "validation/0.parquet"),
    ],
)
def test_names_of_files_state_their_splits(train: str, test: str, tmp_path: Path) -> None:
    write_parquet(tmp_path / "eval" / train, image_id=[139])
    write_parquet(tmp_path / "eval" / test, image_id=[285])
    (tmp_path / "a.txt").write_text("coco/139\ncoco/285\n")
    against = ["--against", f"refcoco={tmp_path / 'eval'}"]
    assert leaks_of(tmp_path, tmp_path / "a.txt", *against) == {("", "coco/285")}
    # The same folder, as one that is trained on.
    (tmp_path / "ids.txt").write_text("139\n285\n")
    against = ["--against", f"refcoco={tmp_path / 'ids.txt'}"]
    leaks = leaks_of(tmp_path, tmp_path / "eval", *against, "--namespace", "coco")
    assert leaks == {("", "coco/139")}
    # One of its files is trained on, whatever its name.
    leaks = leaks_of(tmp_path, tmp_path / "eval" / test, *against, "--namespace", "coco")
    assert leaks == {("", "coco/285")}


@pytest.mark.parametrize("split", ["train", "Train", "training", "TRAIN", "restval"])
def test_records_to_train_on_are_no_evaluation_set(split: str, tmp_path: Path) -> None:
    records = [{"image_id": 139, "split": split}, {"image_id": 285, "split": "val"}]
    file = tiny.write_json(tmp_path / "refs.json", records)
    (tmp_path / "a.txt").write_text("coco/139\n")
    assert leaks_of(tmp_path, tmp_path / "a.txt", "--against", f"refcoco={file}") == set()


def test_records_of_evaluated_splits_are_counted_and_stay(
    tmp_path: Path, coco_139: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    splits = ["train", "test", "val", "Test", None, "chapter 1"]
    records = [{"image": COCO_NAME.format(139), "split": split} for split in splits]
    remaining = [r for r in records if r["split"] in ("test", "val", "Test")]
    table: dict[str, list[Any]] = {k: [r[k] for r in records] for k in ("image", "split")}
    images = [{"id": number, **record} for number, record in enumerate(records)]
    tar = {f"{n}.json": json.dumps(record).encode() for n, record in enumerate(records)}
    files = {
        "list": tiny.write_json(tmp_path / "list", records),
        "coco": tiny.write_json(tmp_path / "coco", {"images": images, "annotations": []}),
        "parquet": write_parquet(tmp_path / "parquet", **table),
        "tar": tiny.write_tar(tmp_path / "tar", tar),
    }
    (tmp_path / "lines").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    files["lines"] = tmp_path / "lines"
    for name, file in files.items():
        clean = tmp_path / f"clean {name}"
        leaks_of(tmp_path, file, *coco_139, "--write", clean)
        assert "not trained on: 1 record of split test\n" in capsys.readouterr().out
        if name == "list":
            assert json.loads(clean.read_text()) == remaining
        elif name == "coco":
            assert [i["id"] for i in json.loads(clean.read_text())["images"]] == [1, 2, 3]
        elif name == "parquet":
            assert pq.read_table(clean).to_pylist() == remaining
        elif name == "tar":
            assert names_in(clean) == ["1.json", "2.json", "3.json"]
        else:
            assert [json.loads(line) for line in clean.read_text().splitlines()] == remaining
        # Nothing of it is trained on.
        assert main(["audit", str(clean), *map(str, coco_139)]) == 2
        assert "1 of test" in capsys.readouterr().err


# --- writing --------------------------------------------------------------------------------------


def test_leaks_and_clean_file_are_two_files(tmp_path: Path, coco_139: list[object]) -> None:
    file = tiny.write_json(tmp_path / "a.json", [COCO_NAME.format(139)])
    (tmp_path / "x").mkdir()
    outputs = ["--output", tmp_path / "o.json", "--write", tmp_path / "x/../o.json"]
    assert main(["audit", *map(str, [file, *coco_139, *outputs])]) == 2
    assert not (tmp_path / "o.json").exists()


@pytest.mark.parametrize("id_", ["000000000139", "139", 139, 139.0, "139.0"])
def test_annotations_are_found_by_any_spelling_of_their_image(
    id_: object, tmp_path: Path, coco_139: list[object]
) -> None:
    images = [{"id": "0139.0", "file_name": COCO_NAME.format(139)}, {"id": 1, "file_name": "a.jpg"}]
    annotations = [{"id": 1, "image_id": id_}, {"id": 2, "image_id": "1.0"}]
    file = tiny.write_json(tmp_path / "a.json", {"images": images, "annotations": annotations})
    leaks_of(tmp_path, file, *coco_139, "--write", tmp_path / "clean")
    clean = json.loads((tmp_path / "clean").read_text())
    assert [annotation["id"] for annotation in clean["annotations"]] == [2]


# --- fields of other types ------------------------------------------------------------------------


def test_record_leaks_by_any_of_its_images(
    tmp_path: Path, coco_139: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    records = [
        {"image": ["a.jpg", COCO_NAME.format(139)], "conversations": []},
        {"image": ["a.jpg", "b.jpg"], "conversations": []},
        {"image": [], "conversations": []},
    ]
    file = tiny.write_json(tmp_path / "a.json", records)
    clean = tmp_path / "clean.json"
    name = COCO_NAME.format(139)
    assert leaks_of(tmp_path, file, *coco_139, "--write", clean) == {(name, "coco/139")}
    assert json.loads(clean.read_text()) == records[1:]
    assert "leaks: 1 of 4 images" in capsys.readouterr().out


def test_images_of_a_row_are_compared_each(tmp_path: Path, against: list[object]) -> None:
    rows = [
        [{"bytes": pixels(1), "path": "a.jpg"}, {"bytes": pixels(589), "path": "b.jpg"}],
        [{"bytes": pixels(2), "path": "b.jpg"}],
        [],
    ]
    file = write_parquet(tmp_path / "a.parquet", image=rows)
    assert leaks_of(tmp_path, file, *against) == {("b.jpg", "flickr30k/589")}


def test_bytes_of_an_image_beside_its_name_are_no_damage(
    tmp_path: Path, coco_139: list[object], against: list[object]
) -> None:
    names = [COCO_NAME.format(139), "a.jpg", "a.jpg"]
    images = [pixels(1), pixels(2), pixels(589)]
    file = write_parquet(tmp_path / "a.parquet", file_name=names, image=images)
    assert leaks_of(tmp_path, file, *coco_139) == {(names[0], "coco/139")}
    assert leaks_of(tmp_path, file, *coco_139, *against) == {
        (names[0], "coco/139"),
        ("a.jpg", "flickr30k/589"),
    }


@pytest.mark.parametrize("image", [7, {"width": 3}, [[1]], True])
def test_image_that_is_no_name_is_ignored_beside_one(
    image: object, tmp_path: Path, coco_139: list[object]
) -> None:
    name = COCO_NAME.format(139)
    file = tiny.write_json(tmp_path / "a.json", [{"image": image, "file_name": name}])
    assert leaks_of(tmp_path, file, *coco_139) == {(name, "coco/139")}
