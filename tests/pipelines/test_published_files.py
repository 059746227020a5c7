"""Raw files as they are published: zipped, with byte order marks, images under any name.

Each place of a file is located by ``with_root``; some of them are built from.
"""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipelines.launch import BuildFailedError, run
from pipelines.recipe import Recipe, RecipeError, load, with_root
from pipelines.sources.base import Source
from tests import tiny

MARK = b"\xef\xbb\xbf"


def recipe(root: Path, **sources: Any) -> Recipe:
    return load(str(tiny.write_recipe(root / "recipe.toml", sources=sources, images="none")))


def located(root: Path, **sources: Any) -> Source:
    """Returns the only source with its paths, without the root."""
    [source] = with_root(recipe(root, **sources), str(root)).sources.values()
    return source


def errors(root: Path, **sources: Any) -> str:
    with pytest.raises(RecipeError) as error:
        with_root(recipe(root, **sources), str(root))
    return str(error.value).replace(f"{root}/", "")


# --- where files are found ------------------------------------------------------------------------


def test_files_are_found_in_zips_of_many(tmp_path: Path) -> None:
    questions = {"train_questions.json": b"{}", "all/0.json": b"{}", "readme.txt": b""}
    tiny.write_zip(tmp_path / "gqa/questions1.2.zip", questions)
    tiny.write_zip(tmp_path / "gqa/sceneGraphs.zip", {"train.json": b"{}", "val.json": b"{}"})
    source = located(
        tmp_path,
        gqa={
            "questions": {"train": ["gqa/train_questions.json", "gqa/all/0.json"]},
            "scene_graphs": {"train": "gqa/train.json"},
        },
    )
    assert [path.removeprefix(f"{tmp_path}/gqa/") for path in source.paths()] == [
        "questions1.2.zip/train_questions.json",
        "questions1.2.zip/all/0.json",
        "sceneGraphs.zip/train.json",
    ]


def test_path_may_lead_into_a_zip(tmp_path: Path) -> None:
    tiny.write_zip(tmp_path / "all.zip", {"a/instances.json": b"{}", "b.json": b"{}"})
    coco = {"instances": ["all.zip/a/instances.json"]}
    assert located(tmp_path, coco=coco).paths() == [f"{tmp_path}/all.zip/a/instances.json"]
    message = "sources.coco: all.zip: there is no c.json in the zip"
    assert errors(tmp_path, coco={"instances": ["all.zip/c.json"]}) == message
    message = errors(tmp_path, coco={"instances": ["all.zip"]})
    assert (
        "all.zip: expected one .json file in the zip, found 2; the path of one of them" in message
    )


def test_file_in_several_zips_is_an_error(tmp_path: Path) -> None:
    for name in ("one", "two"):
        tiny.write_zip(tmp_path / f"coco/{name}.zip", {"annotations/x.json": b"{}"})
    message = errors(tmp_path, coco={"instances": ["coco/annotations/x.json"]})
    assert message == (
        "sources.coco: coco/annotations/x.json is in several zips, name one of them: "
        "coco/one.zip/annotations/x.json, coco/two.zip/annotations/x.json"
    )


def test_missing_file_says_where_it_was_searched(tmp_path: Path) -> None:
    (tmp_path / "coco").mkdir()
    tiny.write_zip(tmp_path / "coco/refcoco+.zip", {"refcoco+/refs.p": b""})
    message = errors(tmp_path, coco={"instances": [], "refs": {"refcoco": "coco/refcoco/refs.p"}})
    assert message == (
        "sources.coco: there is no coco/refcoco/refs.p, no refs.p.zip, and no zip in its folder or "
        "above that has it"
    )


@pytest.mark.parametrize("name", ["images.tar.gz", "images.rar", "images.jpg"])
def test_images_in_another_archive_are_refused_before_any_work(tmp_path: Path, name: str) -> None:
    vg = tiny.write_vg(tmp_path, [tiny.vg_image(1)], [tiny.vg_graph(1, tiny.vg_region(1, "a cat"))])
    tiny.write(tmp_path / name, b"\x1f\x8b" + bytes(50))
    path = str(tiny.write_recipe(tmp_path / "recipe.toml", sources={"vg": vg | {"images": [name]}}))
    with pytest.raises(BuildFailedError, match=rf"images: .*/{name} is neither a folder nor a zip"):
        run(path, str(tmp_path / "shards"), str(tmp_path), [])
    assert not (tmp_path / "shards").exists()


@pytest.mark.parametrize("folder", ["", "annotations/"])
def test_annotations_of_flickr30k_are_found_zipped_in_their_folder(
    tmp_path: Path, folder: str
) -> None:
    flickr = tiny.write_flickr30k(tmp_path, {7: ["[/EN#1/people A man] ."] * 5})
    members = {
        f"{folder}{path.relative_to(tmp_path / 'flickr30k')}": path.read_bytes()
        for kind in ("Annotations", "Sentences")
        for path in (tmp_path / f"flickr30k/{kind}").iterdir()
    }
    for kind in ("Annotations", "Sentences"):
        shutil.rmtree(tmp_path / f"flickr30k/{kind}")
    message = errors(tmp_path, flickr30k=flickr)
    assert message == (
        "sources.flickr30k: flickr30k has neither Sentences/ and Annotations/ nor annotations.zip"
    )
    tiny.write_zip(tmp_path / "flickr30k/annotations.zip", members | {"__MACOSX/._7.xml": b""})
    assert tiny.build(tmp_path, sources={"flickr30k": flickr}) == 0
    assert not tiny.rejected(tmp_path)
    [sample] = tiny.samples(tmp_path).values()
    assert sum(len(caption["provenance"]) for caption in sample["captions"]) == 5


# --- builds ---------------------------------------------------------------------------------------


def test_marked_zipped_and_json_files_give_the_same_shards(tmp_path: Path) -> None:
    """The same data plain, and as Windows, zips and other tools would have it."""
    plain, published = tmp_path / "plain", tmp_path / "published"
    for root in (plain, published):
        coco = tiny.write_coco(
            root,
            [tiny.coco_image(i) for i in (1, 2)],
            [tiny.coco_annotation(i, i) for i in (1, 2)],
            [tiny.reference(i, i, {i: f"the red dog {i}"}) for i in (1, 2)],
        )
        flickr = tiny.write_flickr30k(
            root, {7: ["[/EN#1/people A man] sits .", "A dog ."], 8: ["A"]}
        )
        assert tiny.build(root, sources={"coco": coco, "flickr30k": flickr}) == 0
        if root == published:
            instances = root / "coco/instances.json"
            tiny.write_zip(root / "all.zip", {"coco/instances.json": MARK + instances.read_bytes()})
            instances.unlink()
            refs = root / "coco/refs.p"
            text = json.dumps(pickle.loads(refs.read_bytes())).encode()
            tiny.write_zip(root / "coco/refs.p.zip", {"refs.p": MARK + text})
            refs.unlink()
            for path in (root / "flickr30k").rglob("*.*"):
                if path.suffix in (".txt", ".xml"):
                    path.write_bytes(MARK + path.read_bytes().replace(b"\n", b"\r\n"))
    before = {path.name: path.read_bytes() for path in (plain / "shards").glob("*.tar")}
    assert tiny.build(published, "--overwrite", sources={"coco": coco, "flickr30k": flickr}) == 0
    assert not tiny.rejected(published)
    assert {p.name: p.read_bytes() for p in (published / "shards").glob("*.tar")} == before


def test_images_of_any_name_are_found_in_folders_and_zips(tmp_path: Path) -> None:
    names = [
        "DSC-3-30(100).JPG",
        "left view 2.jpg",
        "fünf%20[1].jpg",
        "sub/dir/plain.jpg",
        ".a.jpg",
    ]
    images, annotations = [], []
    for number, name in enumerate(names, 1):
        tiny.write(tmp_path / "photos" / name, tiny.image_file(hue=number))
        image = {"id": number, "file_name": name, "caption": "a dog", "dataset_name": "mixed"}
        image |= {"width": tiny.WIDTH, "height": tiny.HEIGHT}
        images.append(image | {"data_source": "vg", "original_id": number})
        annotation = {"id": number, "image_id": number, "bbox": [1, 1, 9, 9]}
        annotations.append(annotation | {"tokens_positive": [[2, 5]], "area": 81, "iscrowd": 0})
    tiny.write_json(tmp_path / "m.json", {"images": images, "annotations": annotations})
    source = {"files": {"train": ["m.json"]}, "images": ["photos"]}
    for _ in ("folder", "zip"):
        assert tiny.build(tmp_path, "--overwrite", sources={"mdetr_json": source}) == 0
        assert not tiny.rejected(tmp_path)
        by_file = {sample["file"]: sample["image"] for sample in tiny.samples(tmp_path).values()}
        assert by_file == {name: tiny.image_file(hue=i) for i, name in enumerate(names, 1)}
        members = {f"all/{name}": (tmp_path / "photos" / name).read_bytes() for name in names}
        tiny.write_zip(tmp_path / "photos.zip", members)
        source["images"] = ["photos.zip"]


def test_images_of_one_name_in_two_folders_are_not_mixed_up(tmp_path: Path) -> None:
    images = []
    for number, (name, hue) in enumerate({"coco": 1, "vg": 2, "flickr30k": 3}.items(), 1):
        image = {"id": number, "file_name": f"{name}/7.jpg", "caption": "a dog"}
        image |= {"width": tiny.WIDTH, "height": tiny.HEIGHT, "dataset_name": "mixed"}
        images.append(image | {"data_source": name, "original_id": 7})
        if name != "flickr30k":
            tiny.write(tmp_path / f"images/{name}/7.jpg", tiny.image_file(hue=hue))
    tiny.write_json(tmp_path / "m.json", {"images": images, "annotations": []})
    members = {
        str(path.relative_to(tmp_path)): path.read_bytes()
        for path in (tmp_path / "images").rglob("*.jpg")
    }
    shutil.rmtree(tmp_path / "images")
    tiny.write_zip(tmp_path / "images.zip", members)
    source = {"files": {"train": ["m.json"]}, "images": ["images"]}
    assert tiny.build(tmp_path, sources={"mdetr_json": source}) == 0
    samples = tiny.samples(tmp_path)
    assert samples.keys() == {"coco/7", "vg/7"}
    assert samples["coco/7"]["image"] == tiny.image_file(hue=1)
    assert samples["vg/7"]["image"] == tiny.image_file(hue=2)
    [row] = tiny.rejected(tmp_path)
    assert (row.reason, row.image) == ("image missing", "flickr30k/7")
