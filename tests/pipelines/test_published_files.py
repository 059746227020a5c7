"""Raw files as they are published: packed, with byte order marks, images under any name.

Each place of a file is located by ``with_root``; some of them are built from.
"""

import gzip
import json
import pickle
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipelines.launch import BuildFailedError, run
from pipelines.recipe import Recipe, RecipeError, load, with_root
from pipelines.sources.base import Source
from tests import tiny

MARK = b"\xef\xbb\xbf"


def recipe(root: Path, sources: dict[str, Any], images: str) -> Recipe:
    return load(str(tiny.write_recipe(root / "recipe.toml", sources=sources, images=images)))


def located(root: Path, images: str = "none", **sources: Any) -> Source:
    """Returns the only source with its paths, without the root."""
    [source] = with_root(recipe(root, sources, images), str(root)).sources.values()
    return source


def errors(root: Path, images: str = "none", **sources: Any) -> str:
    with pytest.raises(RecipeError) as error:
        with_root(recipe(root, sources, images), str(root))
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
        "sources.coco: coco/annotations/x.json is in several archives, name one of them: "
        "coco/one.zip/annotations/x.json, coco/two.zip/annotations/x.json"
    )


def test_folder_that_is_zipped_and_in_a_tar_is_an_error(tmp_path: Path) -> None:
    flickr = tiny.write_flickr30k(tmp_path, {7: ["A man ."]}) | {"images": ["flickr30k/photos"]}
    tiny.write_zip(tmp_path / "flickr30k/photos.zip", {"7.jpg": tiny.image_file()})
    tiny.write_tar(tmp_path / "flickr30k/photos.tar", {"7.jpg": tiny.image_file()})
    assert errors(tmp_path, "embed", flickr30k=flickr) == (
        "sources.flickr30k: flickr30k/photos is in several archives, name one of them: "
        "flickr30k/photos.zip, flickr30k/photos.tar"
    )


@pytest.mark.parametrize("ending", [".zip", ".tar"])
def test_missing_folder_of_images_is_found_in_an_archive_beside_it(
    tmp_path: Path, ending: str
) -> None:
    flickr = tiny.write_flickr30k(tmp_path, {7: ["A man ."]}) | {"images": ["flickr30k/photos"]}
    write = tiny.write_zip if ending == ".zip" else tiny.write_tar
    for name, place in (
        ("photos", "flickr30k/photos"),  # as the folder itself was packed
        ("all", "flickr30k/all/photos"),  # as a folder in an archive
        ("wrapped", "flickr30k/wrapped/wrapped/photos"),  # below a folder of the archive's name
    ):
        members = {
            "photos": "photos/7.jpg",
            "all": "photos/7.jpg",
            "wrapped": "wrapped/photos/7.jpg",
        }
        path = write(tmp_path / f"flickr30k/{name}{ending}", {members[name]: tiny.image_file()})
        shown = place.replace(name, f"{name}{ending}", 1)
        assert located(tmp_path, "embed", flickr30k=flickr).images == [f"{tmp_path}/{shown}"]
        path.unlink()


def test_missing_folder_names_the_packed_tar_beside_it(tmp_path: Path) -> None:
    flickr = tiny.write_flickr30k(tmp_path, {7: ["A man ."]})
    flickr["images"] = ["flickr30k/flickr30k-images"]
    packed = tmp_path / "flickr30k/flickr30k-images.tar.gz"
    tiny.write_tar(tmp_path / "plain.tar", {"flickr30k-images/7.jpg": tiny.image_file()})
    packed.write_bytes(gzip.compress((tmp_path / "plain.tar").read_bytes()))
    (tmp_path / "plain.tar").unlink()
    message = errors(tmp_path, "embed", flickr30k=flickr)
    assert message.endswith(
        "; flickr30k/flickr30k-images.tar.gz is packed by gzip, in which no file can be read "
        "without all before it; gunzip -k flickr30k/flickr30k-images.tar.gz makes a plain tar of it"
    )
    subprocess.run(["gunzip", "-k", packed], check=True)
    expected = [f"{tmp_path}/flickr30k/flickr30k-images.tar"]
    assert located(tmp_path, "embed", flickr30k=flickr).images == expected
    assert tiny.build(tmp_path, sources={"flickr30k": flickr}) == 0
    assert [sample["image"] for sample in tiny.samples(tmp_path).values()] == [tiny.image_file()]


def test_packed_file_is_refused_with_the_command_that_unpacks_it(tmp_path: Path) -> None:
    for name in ("a.json.gz", "lines.jsonl.bz2"):
        tiny.write(tmp_path / name, b"x")
        message = errors(tmp_path, coco={"instances": [name]})
        command = "gunzip" if name.endswith(".gz") else "bunzip2"
        assert f"{name} is packed by " in message
        assert f"which builds do not read; {command} -k {name} makes a plain file" in message
    message = errors(tmp_path, coco={"instances": ["a.json"]})
    assert "; a.json.gz is packed by gzip, which builds do not read; gunzip -k " in message


def test_broken_archive_that_was_not_searched_is_named(tmp_path: Path) -> None:
    tiny.write(tmp_path / "all.zip", b"no zip")
    message = errors(tmp_path, coco={"instances": ["a.json"]})
    assert message.endswith("; all.zip: not a readable zip file: File is not a zip file")


def test_missing_file_says_where_it_was_searched(tmp_path: Path) -> None:
    (tmp_path / "coco").mkdir()
    tiny.write_zip(tmp_path / "coco/refcoco+.zip", {"refcoco+/refs.p": b""})
    message = errors(tmp_path, coco={"instances": [], "refs": {"refcoco": "coco/refcoco/refs.p"}})
    assert message == (
        "sources.coco: there is no coco/refcoco/refs.p, no refs.p.zip or .tar, and no zip or tar "
        "in its folder or above that has it"
    )


@pytest.mark.parametrize("name", ["images.tar.gz", "images.rar", "images.jpg"])
def test_images_in_another_archive_are_refused_before_any_work(tmp_path: Path, name: str) -> None:
    vg = tiny.write_vg(tmp_path, [tiny.vg_image(1)], [tiny.vg_graph(1, tiny.vg_region(1, "a cat"))])
    tiny.write(tmp_path / name, b"\x1f\x8b" + bytes(50))
    path = str(tiny.write_recipe(tmp_path / "recipe.toml", sources={"vg": vg | {"images": [name]}}))
    with pytest.raises(BuildFailedError, match=rf"images: .*/{name} is neither a folder nor a zip"):
        run(path, str(tmp_path / "shards"), str(tmp_path), [])
    assert not (tmp_path / "shards").exists()


REPOSITORY = "flickr30k_entities-master"  # as GitHub names its zip, and the folder in it


@pytest.mark.parametrize("folder", ["", "annotations/"])
@pytest.mark.parametrize("place", ["flickr30k", "repository", "named"])
def test_annotations_of_flickr30k_are_found_in_the_zip_of_their_repository(
    tmp_path: Path, folder: str, place: str
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
    packed = tmp_path / "flickr30k/annotations.zip"
    tiny.write_zip(packed, members | {"__MACOSX/._7.xml": b""})
    if place != "flickr30k":
        names = ["train.txt", "annotations.zip"]
        content = {f"{REPOSITORY}/{n}": (tmp_path / "flickr30k" / n).read_bytes() for n in names}
        tiny.write_zip(tmp_path / f"flickr30k/{REPOSITORY}.zip", {f"{REPOSITORY}/": b"", **content})
        for name in names:
            (tmp_path / "flickr30k" / name).unlink()
    if place == "named":
        flickr["annotations"] = f"flickr30k/{REPOSITORY}.zip"
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


def test_images_of_any_name_are_found_in_folders_zips_and_tars(tmp_path: Path) -> None:
    names = [
        "DSC-3-30(100).JPG",
        "left view 2.jpg",
        "fünf%20[1].jpg",
        "50% {a,b}? *é#.jpg",
        "für/Straße & Söhne/[x] 1.jpg",
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
    for packed in ("folder", "zip", "tar"):
        assert tiny.build(tmp_path, "--overwrite", sources={"mdetr_json": source}) == 0
        assert not tiny.rejected(tmp_path)
        by_file = {sample["file"]: sample["image"] for sample in tiny.samples(tmp_path).values()}
        assert by_file == {name: tiny.image_file(hue=i) for i, name in enumerate(names, 1)}
        members = {f"all/{name}": (tmp_path / "photos" / name).read_bytes() for name in names}
        if packed == "folder":
            tiny.write_zip(tmp_path / "photos.zip", members)
            source["images"] = ["photos.zip"]
        else:
            tiny.write_tar(tmp_path / "photos.tar", members)
            source["images"] = ["photos.tar/all"]


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
