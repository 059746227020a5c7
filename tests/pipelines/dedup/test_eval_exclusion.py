"""The images of evaluation sets, from each kind of file that names them."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.dedup import eval_exclusion
from pipelines.dedup.eval_exclusion import Exclusion, read_held_out
from pipelines.io.raw_files import RawFileError
from pipelines.io.slices import SliceRange, find_slices, read_slice
from schemas import EvalImage
from tests import tiny


def read(exclusion: Exclusion, scratch: Path) -> list[EvalImage]:
    """Returns the images of an evaluation set named ``set``, read as in the pipeline."""
    eval_images: list[EvalImage] = []
    for input in exclusion.inputs():
        for slice_range in find_slices("set", 0, input, str(scratch)):
            assert isinstance(slice_range, SliceRange)
            eval_images += read_held_out("set", exclusion.dataset, read_slice(slice_range))
    return eval_images


def keys(exclusion: Exclusion, scratch: Path) -> dict[str, str]:
    """Returns the held-out keys with their photo ids."""
    held = read(exclusion, scratch)
    assert all(h.eval_set == "set" for h in held)
    return {h.key: h.photo_id for h in held}


def test_refs_hold_out_images_that_are_not_in_train(tmp_path: Path) -> None:
    splits = {1: "train", 2: "val", 3: "testA", 4: "testB", 5: "test"}
    refs = [tiny.reference(i, 10 * i, {i: "a cat"}, split) for i, split in splits.items()]
    refs.append(tiny.reference(2, 21, {6: "a dog"}, "val"))
    refs.append(tiny.reference(3, 31, {7: "a dog"}, "train"))  # RefCOCOg's splits are by object
    path = tiny.write_refs(tmp_path / "refs(unc).p", refs)
    held = keys(Exclusion(refs=[str(path)]), tmp_path)
    assert held == {"coco/2": "", "coco/3": "", "coco/4": "", "coco/5": ""}


def test_questions_hold_out_images_of_visual_genome_and_coco(tmp_path: Path) -> None:
    questions = {str(i): {"imageId": id_} for i, id_ in enumerate(["7", "n9", "7", "n10", 8])}
    path = tiny.write_json(tmp_path / "testdev.json", questions)
    held = keys(Exclusion(questions=[str(path)]), tmp_path)
    assert set(held) == {"vg/7", "coco/9", "coco/10", "vg/8"}


def test_instances_hold_out_images_with_the_photo_id_of_their_url(tmp_path: Path) -> None:
    url = "http://farm6.staticflickr.com/5062/5896644212_a326e96ea9_z.jpg"
    images = [{"id": 1, "flickr_url": url}, {"id": 2}]  # LVIS has no flickr_url
    path = tiny.write_json(tmp_path / "val.json", {"annotations": [], "images": images})
    held = keys(Exclusion(instances=[str(path)]), tmp_path)
    assert held == {"coco/1": "5896644212", "coco/2": ""}


def test_files_of_instances_are_stated_or_have_the_published_name(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "val2017/000000000001.jpg"}, {"id": 2}]
    path = tiny.write_json(tmp_path / "val.json", {"annotations": [], "images": images})
    held = read(Exclusion(instances=[str(path)]), tmp_path)
    assert [h.file for h in held] == ["val2017/000000000001.jpg", "COCO_val2014_000000000002.jpg"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ids.txt", b"12\n\n 34 \r\n56"),
        ("ids.json", b'[12, "34", 56]'),
        ("refer_val.json", b'[{"image_id": 12, "x": 1}, {"image_id": "34"}, {"image_id": 56}]'),
        ("ids.p", pickle.dumps([12, "34", 56])),
        ("ids.pkl", pickle.dumps({12, 34, 56}, protocol=2)),
        ("ids.pickle", pickle.dumps(frozenset({"12", 34, 56}))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # the bytes of a set vary
)
def test_ids_are_read_from_every_format(tmp_path: Path, name: str, content: bytes) -> None:
    path = str(tiny.write(tmp_path / name, content))
    held = {"12": "", "34": "", "56": ""}
    assert keys(Exclusion(ids=[path], dataset="coco"), tmp_path) == {f"coco/{k}": "" for k in held}
    assert keys(Exclusion(ids=[path], dataset="vg"), tmp_path) == {f"vg/{k}": "" for k in held}
    photos = keys(Exclusion(ids=[path], dataset="flickr30k"), tmp_path)
    assert photos == {f"flickr30k/{k}": k for k in held}


def test_gqa_ids_may_name_coco_images(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "ids.txt", b"12\nn34\n")
    assert set(keys(Exclusion(ids=[str(path)], dataset="vg"), tmp_path)) == {"vg/12", "coco/34"}
    assert set(keys(Exclusion(ids=[str(path)], dataset="gqa"), tmp_path)) == {"vg/12", "coco/34"}


@pytest.mark.parametrize(
    ("dataset", "id_", "file"),
    [
        ("gqa", "n34", "n34.jpg"),
        ("vg", "n34", "n34.jpg"),
        ("gqa", "34", "34.jpg"),
        ("coco", "34", "COCO_val2014_000000000034.jpg"),
        ("lvis", "34", "COCO_val2014_000000000034.jpg"),
        ("flickr30k", "34", "34.jpg"),
    ],
)
def test_files_of_ids_have_the_name_that_the_dataset_publishes(
    tmp_path: Path, dataset: str, id_: str, file: str
) -> None:
    path = tiny.write(tmp_path / "ids.txt", id_.encode())
    [held] = read(Exclusion(ids=[str(path)], dataset=dataset), tmp_path)
    assert held.file == file


def test_ids_of_a_set_are_read_in_one_order(tmp_path: Path) -> None:
    """Its own depends on the process, and a build's bytes must not."""
    path = tiny.write(tmp_path / "ids.p", pickle.dumps({56, 34, 12}))
    held = read(Exclusion(ids=[str(path)], dataset="coco"), tmp_path)
    assert [h.key for h in held] == ["coco/12", "coco/34", "coco/56"]


@pytest.mark.parametrize("layout", [json.dumps, lambda ids: "".join(f"{id_}\n" for id_ in ids)])
def test_lists_are_read_up_to_a_number_of_ids(
    tmp_path: Path, layout: Callable[[list[int]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eval_exclusion, "MAX_LISTED_IDS", 3)
    name = "ids.json" if layout is json.dumps else "ids.txt"
    path = tiny.write(tmp_path / name, layout([1, 2, 3]).encode())
    exclusion = Exclusion(ids=[str(path)], dataset="coco")
    assert len(read(exclusion, tmp_path)) == 3
    tiny.write(path, layout([1, 2, 3, 4]).encode())
    with pytest.raises(RawFileError, match="4 ids, more than 3"):
        read(exclusion, tmp_path)


@pytest.mark.parametrize(
    ("fields", "ids"),
    [
        ({"questions": ["q.json"]}, {"vg": set(), "coco": None}),
        ({"scene_graphs": ["s.json"]}, {"vg": set(), "coco": None}),
        ({"ids": ["ids.txt"], "dataset": "gqa"}, {"vg": set(), "coco": None}),
        ({"ids": ["ids.txt"], "dataset": "vg"}, {"vg": set(), "coco": None}),
        ({"ids": ["ids.txt"], "dataset": "lvis"}, {"coco": set()}),
        ({"ids": ["ids.txt"], "dataset": "flickr30k"}, {"flickr30k": set()}),
        ({"ids": ["ids.txt"]}, {}),
        ({"refs": ["refs.p"]}, {"coco": set()}),
        ({"refs": ["refs.p"], "dataset": "vg"}, {"coco": set()}),
        ({"refs": ["refs.p"], "questions": ["q.json"]}, {"vg": set(), "coco": set()}),
        ({"instances": ["i.json"]}, {"coco": {"flickr photo id"}}),
        ({"namespace": "mine"}, {"mine": set()}),
    ],
)
def test_namespaces_of_an_exclusion_and_the_ids_that_it_states(
    fields: dict[str, Any], ids: dict[str, set[str] | None]
) -> None:
    """Images of COCO that GQA's files name are of test2015: no other dataset has them."""
    assert Exclusion(**fields).image_ids() == ids


def test_several_files_are_read_together(tmp_path: Path) -> None:
    paths = [str(tiny.write(tmp_path / f"{i}.txt", f"{i}\n".encode())) for i in (1, 2)]
    exclusion = Exclusion(ids=paths, dataset="coco")
    assert exclusion.paths() == paths
    assert set(keys(exclusion, tmp_path)) == {"coco/1", "coco/2"}


def test_bad_record_of_an_evaluation_set_is_an_error(tmp_path: Path) -> None:
    """Its image could otherwise be trained on."""
    path = tiny.write_json(tmp_path / "q.json", {"1": {"imageId": "7"}, "2": {"image": "8"}})
    with pytest.raises(RawFileError, match="malformed record 2"):
        read(Exclusion(questions=[str(path)]), tmp_path)
    path = tiny.write_json(tmp_path / "val.json", {"images": [{"id": "x"}, {"id": 5}]})
    with pytest.raises(RawFileError, match="malformed record 0"):
        read(Exclusion(instances=[str(path)]), tmp_path)


def test_bad_reference_of_train_is_ignored(tmp_path: Path) -> None:
    refs = [{"image_id": None, "split": "train"}, tiny.reference(2, 20, {1: "a cat"}, "val")]
    path = tiny.write_refs(tmp_path / "refs(unc).p", refs)
    assert set(keys(Exclusion(refs=[str(path)]), tmp_path)) == {"coco/2"}
    path = tiny.write_refs(tmp_path / "refs(umd).p", [{"image_id": None, "split": "val"}])
    with pytest.raises(RawFileError, match="not a list of refs"):
        read(Exclusion(refs=[str(path)]), tmp_path)


@pytest.mark.parametrize("dataset", ["coco", "vg", "flickr30k"])
def test_ids_are_read_as_numbers(tmp_path: Path, dataset: str) -> None:
    path = str(tiny.write(tmp_path / "ids.txt", b"\xef\xbb\xbf000000000139\n42\n"))
    assert set(keys(Exclusion(ids=[path], dataset=dataset), tmp_path)) == {
        f"{dataset}/139",
        f"{dataset}/42",
    }


@pytest.mark.parametrize(
    ("dataset", "line"),
    [
        ("coco", "n7"),
        ("coco", "0"),
        ("vg", "7.5"),
        ("flickr30k", "n7"),
        ("vg", "vg/7"),
        ("coco", "-7"),
    ],
)
def test_line_that_is_no_id_is_an_error(tmp_path: Path, dataset: str, line: str) -> None:
    path = str(tiny.write(tmp_path / "ids.txt", line.encode()))
    with pytest.raises(RawFileError, match="is not an image id of"):
        read(Exclusion(ids=[path], dataset=dataset), tmp_path)


@pytest.mark.parametrize(
    ("role", "name", "content"),
    [
        ("refs", "refs.p", pickle.dumps({"image_id": 1})),
        ("refs", "refs.p", pickle.dumps([{"image_id": 1}])),
        ("refs", "refs.p", pickle.dumps([1, 2])),
        ("refs", "refs.p", b"no pickle"),
        ("refs", "refs.p", pickle.dumps([print])),
        ("questions", "q.json", b"[1, 2]"),
        ("questions", "q.json", b'{"1": {"imageId": "7"}'),
        ("instances", "val.json", b"[]"),
        ("instances", "val.json", b'{"annotations": []}'),
        ("ids", "ids.json", b'{"12": 1}'),
        ("ids", "ids.json", b"[1.5]"),
        ("ids", "ids.json", b"[null]"),
        ("ids", "ids.json", b'[{"image": 1}]'),
        ("ids", "ids.json", b"[1, 2"),
        ("ids", "ids.json", b'["\xff"]'),
        ("ids", "ids.txt", b"\xff\xfe1\x00"),
        ("ids", "ids.pkl", pickle.dumps({"a": 1})),
        ("ids", "ids.pkl", pickle.dumps({1, None})),
        ("ids", "ids.pkl", pickle.dumps([Path("x")])),
    ],
)
def test_wrong_content_is_an_error_that_names_the_file(
    tmp_path: Path, role: str, name: str, content: bytes
) -> None:
    path = str(tiny.write(tmp_path / name, content))
    fields: dict[str, Any] = {role: [path]}
    with pytest.raises(RawFileError) as error:
        read(Exclusion(**fields), tmp_path)
    assert path in str(error.value)


def test_text_file_named_json_is_an_error(tmp_path: Path) -> None:
    path = str(tiny.write(tmp_path / "ids.json", b"12\n34\n"))
    with pytest.raises(RawFileError, match="expected JSON"):
        read(Exclusion(ids=[path], dataset="coco"), tmp_path)


def test_json_lists_survive_a_round_trip(tmp_path: Path) -> None:
    ids = list(range(1, 1000))
    path = tiny.write(tmp_path / "ids.json", json.dumps(ids).encode())
    assert set(keys(Exclusion(ids=[str(path)], dataset="coco"), tmp_path)) == {
        f"coco/{i}" for i in ids
    }
