"""Audits of what the exporters write, of shard sets, and of files that other tools write."""

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from schemas import safe_pickle
from shards.__main__ import main
from shards.reading.shard_set import ShardSet

REFS = "refcoco/refcoco/refs(unc).p"


def audit(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Returns the exit status and the output of an audit."""
    status = main(["audit", *map(str, arguments)])
    output, errors = capsys.readouterr()
    return status, output + errors


def leaks_of(path: Path) -> set[tuple[str, str, str]]:
    leaks = json.loads(path.read_text())["leaks"]
    return {(leak["image"], leak["eval_set"], leak["join"]) for leak in leaks}


@pytest.fixture(scope="module")
def held_out(demo_dataset: Path) -> set[str]:
    """The images of RefCOCO's splits that are evaluated on."""
    refs = safe_pickle.loads((demo_dataset / REFS).read_bytes())
    return {f"coco/{ref['image_id']}" for ref in refs if ref["split"] != "train"}


def keys_of(demo_set: Path, split: str, *, flickr: bool = True) -> list[str]:
    shards = ShardSet.open(demo_set)
    tables = [shards.rows(i, ["key"]) for i in shards.shards_of(split)]
    keys = [key for table in tables for key in table["key"].to_pylist()]
    return [key for key in keys if flickr or not key.startswith("flickr30k/")]


@pytest.mark.parametrize(
    ("format_", "file", "flickr"),
    [
        ("mdetr-json", "final_mixed_val.json", False),
        ("ultralytics", "val.json", True),
        ("odvg", "val_vg.jsonl", True),
        ("coco", "instances_val.json", True),
        ("grit", "val", True),
        ("hf", "data", True),
        ("energon", "val", True),
    ],
)
def test_leaks_in_every_export_are_those_of_its_images(
    format_: str,
    file: str,
    flickr: bool,
    demo_set: Path,
    demo_dataset: Path,
    held_out: set[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images = [] if format_ in ("hf", "energon") else ["--with-images"]
    export = ["export", format_, str(demo_set), "--output", str(tmp_path / "x"), "--split", "val"]
    assert main([*export, *images]) == 0
    keys = keys_of(demo_set, "val", flickr=flickr)
    expected = {(key, "refcoco", "id") for key in keys if key in held_out}
    assert expected
    against = f"refcoco={demo_dataset / REFS}"
    output, clean = tmp_path / "leaks.json", tmp_path / "clean"
    arguments = [tmp_path / "x" / file, "--against", against, "--output", output]
    if format_ == "energon":  # its tars are links to those of the shard set
        assert audit(capsys, *arguments)[0] == 1
    else:
        assert audit(capsys, *arguments, "--write", clean)[0] == 1
        status, text = audit(capsys, clean, "--against", against)
        assert status == 0
        if format_ != "grit":  # which leaves out images without boxes
            assert f"{len(keys) - len(expected):,} images" in text
    assert leaks_of(output) == expected
    if format_ != "grit":
        assert json.loads(output.read_text())["total"]["images"] == len(keys)


def test_shard_set_trains_on_no_image_that_its_recipe_holds_out(
    demo_set: Path, demo_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = sorted((demo_dataset / "coco/annotations").glob("instances_*.json"))
    identities = tmp_path / "identities.parquet"
    table_names = [str(t) for t in (*tables, demo_dataset / "vg/image_data.json")]
    assert main(["identities", *table_names, "--output", str(identities)]) == 0
    options = ["--identities", identities, "--against", f"own={demo_set}"]
    options += ["--against", f"flickr30k={demo_dataset / 'flickr30k/test.txt'}"]
    options += ["--against", f"refcoco={demo_dataset / REFS}"]
    options += ["--against", f"lvis={demo_dataset / 'lvis/lvis_v1_minival.json'}"]
    options += ["--against", f"gqa={demo_dataset / 'gqa/testdev_balanced_questions.json'}"]
    options += ["--against", f"gqa={demo_dataset / 'gqa/val_sceneGraphs.json'}"]
    status, text = audit(capsys, demo_set, *options)
    assert status == 0, text
    # Its evaluation images, as a file that somebody trains on, leak by every join.
    export = ["export", "hf", str(demo_set), "--output", str(tmp_path / "x"), "--split", "val"]
    assert main(export) == 0
    status, text = audit(capsys, tmp_path / "x", *options, "--output", tmp_path / "leaks.parquet")
    assert status == 1
    leaks = pq.read_table(tmp_path / "leaks.parquet")
    assert {*leaks["join"].to_pylist()} == {"id", "coco_id", "flickr photo id"}
    of_set = leaks.filter([name == "own" for name in leaks["eval_set"].to_pylist()])
    assert {*of_set["image"].to_pylist()} >= {*keys_of(demo_set, "val")}


def test_shard_set_is_not_written(
    demo_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ids").write_text("coco/139\n")
    against = f"a={tmp_path / 'ids'}"
    status, text = audit(capsys, demo_set, "--against", against, "--write", tmp_path / "clean")
    assert status == 2
    assert "build it again with the evaluation set under [exclude]" in text
    assert not (tmp_path / "clean").exists()


@pytest.mark.parametrize("join", ["hash", "hash of files"])
def test_copies_under_names_of_their_own_are_found_by_their_pixels(
    join: str, demo_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    ids = (demo_dataset / "flickr30k/test.txt").read_text().split()
    others = (demo_dataset / "flickr30k/train.txt").read_text().split()
    (tmp_path / "mine").mkdir()
    rows = []
    for number, id_ in enumerate((*ids[:5], *others[:5])):
        with Image.open(demo_dataset / f"flickr30k/flickr30k-images/{id_}.jpg") as image:
            small = image.resize((image.width * 2 // 3, image.height * 2 // 3))
            small.save(tmp_path / f"mine/p_{number}.jpg", quality=70)
        rows.append({"image": f"p_{number}.jpg", "caption": "a dog"})
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(rows))
    if join == "hash":  # the images are in the file
        import pyarrow as pa

        file = tmp_path / "mine.parquet"
        contents = [(tmp_path / "mine" / str(row["image"])).read_bytes() for row in rows]
        images = [{"bytes": c, "path": row["image"]} for c, row in zip(contents, rows, strict=True)]
        pq.write_table(pa.table({"image": images}), file)
    output = tmp_path / "leaks.json"
    arguments = [file, "--against", f"flickr30k={demo_dataset / 'flickr30k/test.txt'}"]
    status, text = audit(capsys, *arguments)
    assert status == 0
    assert "10 images (such as p_0.jpg" in text
    folders = ["--eval-images", demo_dataset / "flickr30k"]
    if join == "hash of files":
        folders += ["--images", tmp_path / "mine"]
    assert audit(capsys, *arguments, *folders, "--output", output)[0] == 1
    names = [f"p_{i}.jpg" + (f" (record {i})" if join == "hash" else "") for i in range(5)]
    expected = {(image, "flickr30k", "perceptual hash") for image in names}
    assert leaks_of(output) == expected
    result = json.loads(output.read_text())
    assert (result["clean"]["images"], result["not_checked"]["images"]) == (5, 0)


def _mdetr(ids: list[int], **fields: Any) -> bytes:
    images = [
        {"id": n, "original_id": id_, "data_source": "coco", "caption": "a"} | fields
        for n, id_ in enumerate(ids)
    ]
    return json.dumps({"images": images, "annotations": []}).encode()


def _zipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.json", content)
    return buffer.getvalue()


def _tar_gz(image: int = 139) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        info = tarfile.TarInfo(f"COCO_val2014_{image:012d}.jpg")
        tar.addfile(info, io.BytesIO())
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        _mdetr([139]),
        b"\xef\xbb\xbf" + _mdetr([139]),
        gzip.compress(_mdetr([139])),
        _zipped(_mdetr([139])),
        _mdetr([139], area=float("nan")),
        _mdetr([139], caption="\ud83d"),
        json.dumps([{"image": "COCO_train2014_000000000139.jpg", "x": float("inf")}]).encode(),
        b'[139, "n7"]',
        b'[{"image": "\\ud83d.jpg"}, {"image": "coco/139.jpg"}]',
        b'{"filename": "coco/139.jpg", "grounding": {"caption": "a", "regions": []}}',
        b'\n{"filename": "a.jpg"}\r\n{"filename": "coco/139.jpg"}\n\n',
        b'{"file_name": "x.jpg", "area": NaN}\nno JSON\n{"file_name": "coco/139.jpg"}',
        b"\xef\xbb\xbf139\r\n",
        b"000000000139.jpg\n",
        _tar_gz(),
        json.dumps({"images": [{"id": 1, "filename": "x.jpg", "cocoid": 139}]}).encode(),
        json.dumps(
            {
                "images": [{"id": 7, "coco_url": "http://images.org/val2017/000000000139.jpg"}],
                "annotations": [{"image_id": 7, "caption": "a"}, {"image_id": 7, "caption": "b"}],
            }
        ).encode(),
    ],
)
def test_leak_is_found_in_every_form(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(content)
    (tmp_path / "ids").write_text("139\n")
    arguments = [
        tmp_path / "file",
        "--namespace",
        "coco",
        "--against",
        f"a=coco:{tmp_path / 'ids'}",
    ]
    status, text = audit(capsys, *arguments)
    assert (status, "leaks: 1 of" in text) == (1, True), text


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_concatenated_tars_are_refused(
    pack: Callable[[bytes], bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reading ends at the first end mark: a leak of the second would not be found."""
    parts = [gzip.decompress(_tar_gz(image)) for image in (285, 139)]
    (tmp_path / "a.tar").write_bytes(pack(b"".join(parts)))
    (tmp_path / "ids").write_text("139\n")
    arguments = [tmp_path / "a.tar", "--namespace", "coco", "--against"]
    status, text = audit(capsys, *arguments, f"a=coco:{tmp_path / 'ids'}")
    assert (status, "a.tar: bytes follow its end mark" in text) == (2, True), text


def test_gzipped_references_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refs = [{"image_id": 139, "split": "val"}, {"image_id": 285, "split": "train"}]
    (tmp_path / "refs.p.gz").write_bytes(gzip.compress(pickle.dumps(refs)))
    (tmp_path / "file").write_text("000000000139.jpg\n000000000285.jpg\n")
    against = f"refcoco={tmp_path / 'refs.p.gz'}"
    status, text = audit(capsys, tmp_path / "file", "--against", against)
    assert (status, "leaks: 1 of 2 images" in text) == (1, True), text


@pytest.mark.parametrize(
    ("record", "is_leak"),
    [
        ({"original_id": "139", "data_source": "vg"}, False),  # of another dataset
        ({"original_id": -1, "data_source": "coco"}, False),
        ({"original_id": 0, "data_source": "coco", "file_name": "139.jpg"}, True),
        ({"original_id": 285, "data_source": "coco", "file_name": "139.jpg"}, False),
        # Contradicting names of published files: either holds out.
        ({"original_id": 285, "data_source": "coco", "file_name": "000000000139.jpg"}, True),
        ({"original_id": 139, "data_source": "yard"}, False),  # images of one's own
        ({"original_id": 139, "dataset_name": "refcocog"}, True),
        ({"original_id": "n139", "data_source": "gqa"}, True),
        ({"file_name": "139.jpg"}, False),  # of an unknown dataset
        ({"file_name": "COCO_train2014_000000000139_4.jpg"}, True),
        ({"id": 139, "file_name": "a.jpg"}, False),
        ({"original_id": [139], "data_source": "coco"}, False),
    ],
)
def test_join_that_is_no_id_is_none(
    record: dict[str, Any], is_leak: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = {"images": [{"id": 1, "caption": "a"} | record], "annotations": []}
    (tmp_path / "a.json").write_text(json.dumps(content))
    (tmp_path / "ids").write_text("139\n")
    status, text = audit(capsys, tmp_path / "a.json", "--against", f"a=coco:{tmp_path / 'ids'}")
    assert status == (1 if is_leak else 0), text
