"""Ids, joins and exclusions through whole builds: what is one image, and what is held out."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipelines.build import main
from tests import tiny

URL = "http://farm6.staticflickr.com/5062/{}_a326e96ea9_z.jpg"


def build(root: Path, **tables: Any) -> int:
    """Builds ``root``/shards in milliseconds; returns the command's exit status."""
    recipe = tiny.write_recipe(root / "recipe.toml", **tables)
    options = [f"--root={root}", f"--output={root}/shards", "--quiet", "--overwrite"]
    return main([str(recipe), *options, "--runner=tests.eager_runner.EagerRunner"])


def manifest(root: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((root / "shards/manifest.json").read_bytes())
    return result


def vg(root: Path, *images: dict[str, Any]) -> dict[str, Any]:
    graphs = [
        tiny.vg_graph(i["image_id"], tiny.vg_region(i["image_id"], f"a cat {i['image_id']}"))
        for i in images
        if isinstance(i["image_id"], int)
    ]
    return tiny.write_vg(root, images, graphs)


def mdetr_json(root: Path, *images: dict[str, Any], name: str = "mixed.json") -> dict[str, Any]:
    """Writes a file with a caption and a box about each image; returns the recipe's table."""
    rows, boxes = [], []
    for number, fields in enumerate(images):
        size = {"width": tiny.WIDTH, "height": tiny.HEIGHT}
        row = {"id": number, "caption": f"a cat {number}", "dataset_name": "mixed", **size}
        rows.append(row | fields)
        boxes.append(
            {"id": number, "image_id": number, "bbox": [1, 2, 30, 40], "tokens_positive": [[2, 5]]}
        )
        tiny.write(root / "images" / fields["file_name"], tiny.image_file(hue=number))
    tiny.write_json(root / name, {"images": rows, "annotations": boxes})
    return {"files": {"train": [name]}, "images": ["images"]}


def sentences(root: Path) -> dict[str, list[str]]:
    return {
        key: [caption["text"] for caption in sample["captions"]]
        for key, sample in tiny.samples(root).items()
    }


@pytest.mark.parametrize("field", ["coco_id", "flickr_id"])
@pytest.mark.parametrize("no_id", [-1, 0, None, "", -1.0, "0"])
def test_no_id_joins_nothing(tmp_path: Path, field: str, no_id: Any) -> None:
    source = vg(tmp_path, *(tiny.vg_image(i, **{field: no_id}) for i in (1, 2, 3)))
    tiny.write(tmp_path / "ids.txt", b"0002\n")
    exclude = {"set": {"ids": ["ids.txt"], "of": "vg"}}
    assert build(tmp_path, sources={"vg": source}, exclude=exclude) == 0
    assert sentences(tmp_path) == {"vg/1": ["a cat 1."], "vg/3": ["a cat 3."]}
    assert tiny.rejected(tmp_path) == []


@pytest.mark.parametrize("field", ["coco_id", "flickr_id"])
def test_id_of_many_images_stops_the_build(
    tmp_path: Path, field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [tiny.vg_image(i, **{field: 5555}) for i in (1, 2)] + [tiny.vg_image(3)]
    sources = {"vg": vg(tmp_path, *rows)}
    assert build(tmp_path, sources=sources, reject_limit=0.5) == 1
    message = capsys.readouterr().err
    assert "2 of 3 images of vg share an id of another dataset" in message
    assert "5555 is stated for vg/1, vg/2" in message
    # Where that is allowed: they are not one image, but held out together.
    tiny.write(tmp_path / "ids.txt", b"1\n")
    exclude = {"set": {"ids": ["ids.txt"], "of": "vg"}}
    assert build(tmp_path, sources=sources, reject_limit=0.7) == 0
    assert sentences(tmp_path).keys() == {"vg/1", "vg/2", "vg/3"}
    [row] = tiny.rejected(tmp_path)
    assert (row.source, row.record, row.records) == ("vg", "vg/1", 0)
    assert "5555 is stated for vg/1, vg/2" in row.detail
    [warning] = manifest(tmp_path)["warnings"]
    assert "they are not merged, and held out together" in warning
    assert f"warning: {warning}" in capsys.readouterr().err
    assert build(tmp_path, sources=sources, exclude=exclude) == 0
    assert sentences(tmp_path).keys() == {"vg/3"}


def test_id_of_images_of_several_tables_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [tiny.vg_image(i, flickr_id=5555) for i in (1, 2)]
    tiny.write_json(tmp_path / "table.json", rows)
    sources = {"vg": vg(tmp_path, rows[0], tiny.vg_image(3))}
    tables = {"vg": ["table.json"]}
    assert build(tmp_path, sources=sources, image_tables=tables, reject_limit=0.5) == 1
    message = capsys.readouterr().err
    assert "2 of 2 images of image_tables.vg share an id of another dataset" in message
    assert "5555 is stated for vg/1, vg/2" in message


def test_crop_is_not_merged_by_a_photo_id_under_any_rules(tmp_path: Path) -> None:
    """The published scripts know no photo ids, and would rescale its boxes."""
    crop = tiny.vg_image(1, flickr_id=77, width=100)
    sources = {
        "vg": vg(tmp_path, crop, tiny.vg_image(2, flickr_id=78)),
        "flickr30k": tiny.write_flickr30k(
            tmp_path, {i: [f"[/EN#{i}/animals A cat] sits {i} ."] for i in (77, 78)}
        ),
    }
    tiny.write(tmp_path / "vg/images/1.jpg", tiny.image_file(100))
    for rules in ({"base": "mdetr", "same_photo": True}, "paper"):
        assert build(tmp_path, sources=sources, rules=rules) == 0
        assert sentences(tmp_path).keys() == {"vg/1", "vg/2", "flickr30k/77"}


def test_file_of_another_source_is_no_image_of_the_first(tmp_path: Path) -> None:
    coco = {"data_source": "coco", "original_id": 7}
    other = mdetr_json(tmp_path, coco | {"file_name": "other.jpg"}, name="other.json")
    mixed = mdetr_json(
        tmp_path,
        coco | {"file_name": "train2014/COCO_train2014_000000000007.jpg"},
        {"data_source": "coco", "original_id": 8, "file_name": "8.jpg"},
    )
    sources = {"mdetr_json": mixed, "other": other | {"reader": "mdetr_json", "allow_empty": True}}
    assert build(tmp_path, sources=sources, reject_limit=1.0) == 0
    assert sentences(tmp_path) == {"coco/7": ["a cat 0."], "coco/8": ["a cat 1."]}
    [row] = tiny.rejected(tmp_path)
    reason = (row.source, row.image, row.reason, row.records)
    assert reason == ("other", "coco/7", "another image of this id", 1)
    assert "other: 'other.jpg' 200x100" in row.detail
    assert "mdetr_json: 'train2014/COCO_train2014_000000000007.jpg' 200x100" in row.detail


@pytest.mark.parametrize("scale", [1, 2, 0.5])
def test_boxes_are_in_pixels_of_the_size_that_their_source_states(
    tmp_path: Path, scale: float
) -> None:
    """GQA's scene graphs and Visual Genome's tables may state two sizes of one image."""
    graph = tiny.scene_graph(cat=tuple(scale * value for value in (20, 10, 40, 30)))
    graph |= {"width": int(scale * tiny.WIDTH), "height": int(scale * tiny.HEIGHT)}
    question = tiny.gqa_question("1", "Is it a cat?", annotations={"question": {"3": "cat"}})
    sources = {
        "vg": vg(tmp_path, tiny.vg_image(1)),
        "gqa": tiny.write_gqa(tmp_path, {"q": question}, {"1": graph}),
    }
    assert build(tmp_path, sources=sources) == 0
    [sample] = tiny.samples(tmp_path).values()
    boxes = [tuple(r["box"]) for caption in sample["captions"] for r in caption["regions"]]
    assert (20, 10, 60, 40) in boxes


def test_shape_of_another_source_is_no_image_of_the_first(tmp_path: Path) -> None:
    graph = tiny.scene_graph(cat=(20, 10, 40, 30)) | {"width": tiny.HEIGHT, "height": tiny.WIDTH}
    question = tiny.gqa_question("1", "Is it a cat?", annotations={"question": {"3": "cat"}})
    sources = {
        "vg": vg(tmp_path, tiny.vg_image(1), tiny.vg_image(2)),
        "gqa": tiny.write_gqa(tmp_path, {"q": question}, {"1": graph}) | {"allow_empty": True},
    }
    assert build(tmp_path, sources=sources, reject_limit=1.0) == 0
    assert sentences(tmp_path) == {"vg/1": ["a cat 1."], "vg/2": ["a cat 2."]}
    [row] = tiny.rejected(tmp_path)
    reason = (row.source, row.image, row.reason, row.records)
    assert reason == ("gqa", "vg/1", "image of another size", 1)


def test_ids_of_no_stated_dataset_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write(tmp_path / "ids.txt", b"2\n")
    sources = {"vg": vg(tmp_path, tiny.vg_image(1, coco_id=2), tiny.vg_image(2))}
    assert build(tmp_path, sources=sources, exclude={"set": {"ids": ["ids.txt"]}}) == 1
    assert "state the dataset of its ids" in capsys.readouterr().err


def test_held_out_ids_are_hashed_under_their_published_names(tmp_path: Path) -> None:
    sources = {"vg": vg(tmp_path, tiny.vg_image(1), tiny.vg_image(2))}
    image = (tmp_path / "vg/images/1.jpg").read_bytes()
    tiny.write(tmp_path / "ids.txt", b"139\n140\n")
    exclude = {"set": {"ids": ["ids.txt"], "of": "coco", "images": ["val"]}}
    near = {"action": "exclude", "distance": 0}
    for name in ("COCO_val2014_000000000139.jpg", "000000000139.jpg"):
        (tmp_path / "val").mkdir()
        tiny.write(tmp_path / "val" / name, image)
        assert build(tmp_path, sources=sources, exclude=exclude, near_duplicates=near) == 0
        assert sentences(tmp_path).keys() == {"vg/2"}
        warnings = "\n".join(manifest(tmp_path)["warnings"])
        assert "exclude.set: near-duplicates of 1 image are not found" in warnings
        shutil.rmtree(tmp_path / "val")
    del exclude["set"]["images"]
    assert build(tmp_path, sources=sources, exclude=exclude, near_duplicates=near) == 0
    warnings = "\n".join(manifest(tmp_path)["warnings"])
    assert "near-duplicates of 2 images are not found, because no source has the files" in warnings


def test_one_id_of_several_files_loses_its_captions(tmp_path: Path) -> None:
    table = mdetr_json(
        tmp_path,
        *({"file_name": f"own{i}.jpg", "original_id": 1, "data_source": "vg"} for i in range(3)),
        {"file_name": "7.jpg", "original_id": "0007", "data_source": "VG"},
    )
    assert build(tmp_path, sources={"mdetr_json": table}) == 0
    assert sentences(tmp_path) == {"vg/7": ["a cat 3."]}
    rows = tiny.rejected(tmp_path)
    assert {(row.image, row.reason) for row in rows} == {("vg/1", "one id of several images")}
    assert sum(row.records for row in rows) == 3
    assert "'own0.jpg' 200x100, 'own1.jpg' 200x100, 'own2.jpg' 200x100" in rows[0].detail


def test_boxes_of_one_key_are_scaled_to_its_image(tmp_path: Path) -> None:
    """A file may state a thumbnail's size; another shape is another image."""
    fields = {"dataset_name": "gqa", "file_name": "7.jpg", "original_id": 7}
    half = fields | {"width": tiny.WIDTH // 2, "height": tiny.HEIGHT // 2}
    other = fields | {"file_name": "8.jpg", "original_id": 8, "width": 99}
    sources = {
        "vg": vg(tmp_path, tiny.vg_image(7), tiny.vg_image(8)),
        "mdetr_json": mdetr_json(tmp_path, half, other),
    }
    assert build(tmp_path, sources=sources, rules={"length": "joined", "max_length": 9}) == 0
    of_mdetr = tiny.samples(tmp_path)["vg/7"]["captions"][1]
    assert (of_mdetr["text"], of_mdetr["regions"][0]["box"]) == ("a cat 0.", [2, 4, 62, 84])
    [row] = tiny.rejected(tmp_path)
    assert (row.image, row.reason, row.records) == ("vg/8", "image of another size", 1)


def test_id_that_was_counted_anew_is_not_believed(tmp_path: Path) -> None:
    """An exclusion by it would hold out other images than its file shows."""
    table = mdetr_json(
        tmp_path,
        {
            "file_name": "COCO_train2014_000000000139.jpg",
            "original_id": 1,
            "data_source": "coco",
        },
        {"file_name": "000000000007.jpg", "original_id": 7.0, "dataset_name": "lvis"},
    )
    assert build(tmp_path, sources={"mdetr_json": table}) == 0
    assert sentences(tmp_path).keys() == {"coco/7"}
    [row] = tiny.rejected(tmp_path)
    assert (row.reason, row.records) == ("file of another image", 1)
    assert "coco/1 has 'COCO_train2014_000000000139.jpg'" in row.detail


@pytest.mark.parametrize("names", [("a.json", "b.json"), ("a/x.json", "b/x.json")])
def test_files_may_count_their_ids_from_0(tmp_path: Path, names: tuple[str, str]) -> None:
    images = [{"file_name": f"{i}.jpg", "original_id": i, "data_source": "vg"} for i in (5, 6)]
    for name in names:
        table = mdetr_json(tmp_path, *images, name=name)
    table["files"] = {"train": list(names)}
    assert build(tmp_path, sources={"mdetr_json": table}, rules="mdetr") == 0
    assert {key: len(texts) for key, texts in sentences(tmp_path).items()} == {"vg/5": 2, "vg/6": 2}
    assert tiny.rejected(tmp_path) == []


def test_own_images_need_a_namespace_in_the_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [
        {"file_name": f"img {i}.jpg", "original_id": f"img_{i}", "data_source": "shop"}
        for i in (1, 2)
    ]
    table = mdetr_json(tmp_path, *images)
    assert build(tmp_path, sources={"mdetr_json": table}, reject_limit=0.01) == 1
    assert "there is no namespace 'shop' of images; known are" in capsys.readouterr().err
    table["namespaces"] = {"shop": "shop"}
    tiny.write_json(tmp_path / "ids.json", ["img_2.jpg"])
    exclude = {"set": {"ids": ["ids.json"], "of": "shop"}}
    assert build(tmp_path, sources={"mdetr_json": table}, exclude=exclude) == 0
    assert sentences(tmp_path).keys() == {"shop/img_1"}
    assert manifest(tmp_path)["exclusions"]["set"] == {
        "named": 1,
        "excluded": {"id": {"images": 1, "captions": 1}},
        "joins": {"mdetr_json": ["id"]},
    }


def test_image_tables_join_what_the_sources_do_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An image of VG with a photo and no coco_id, which is an image of RefCOCO's test."""
    sources = {
        "vg": vg(
            tmp_path,
            tiny.vg_image(1, flickr_id=77),
            tiny.vg_image(2, flickr_id=78),
            tiny.vg_image(3, coco_id=9),
        )
    }
    tiny.write_refs(
        tmp_path / "refs.p",
        [tiny.reference(i, i, {i: "the cat"}, "testA") for i in (9, 10)],
    )
    table = [tiny.coco_image(10, flickr_url=URL.format(77)), tiny.coco_image(9)]
    tiny.write_json(tmp_path / "instances.json", {"images": table, "annotations": []})
    exclude = {"refcoco": {"refs": ["refs.p"]}}
    assert build(tmp_path, sources=sources, exclude=exclude) == 0
    assert sentences(tmp_path).keys() == {"vg/1", "vg/2"}
    assert manifest(tmp_path)["exclusions"]["refcoco"]["joins"] == {"vg": ["coco_id"]}
    [warning] = manifest(tmp_path)["warnings"]
    assert "no table states the flickr photo id of images of coco" in warning
    assert f"warning: {warning}" in capsys.readouterr().err
    tables = {"coco": ["instances.json"]}
    assert build(tmp_path, sources=sources, exclude=exclude, image_tables=tables) == 0
    assert sentences(tmp_path).keys() == {"vg/2"}
    assert manifest(tmp_path)["exclusions"]["refcoco"] == {
        "named": 2,
        "excluded": {
            "coco_id": {"images": 1, "captions": 1},
            "flickr photo id": {"images": 1, "captions": 1},
        },
        "joins": {"vg": ["coco_id", "flickr photo id"]},
    }
    [warning] = manifest(tmp_path)["warnings"]  # of the row without a URL
    assert "exclude.refcoco: no table states the flickr photo id of 1 of its images" in warning
    # Rows of such a table are no images: all of COCO is excluded by them, and nothing is added.
    exclude = {"coco": {"namespace": "coco"}}
    assert build(tmp_path, sources=sources, exclude=exclude, image_tables=tables) == 0
    assert sentences(tmp_path).keys() == {"vg/2"}


def test_row_that_an_image_table_cannot_join_stops_the_build(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [tiny.coco_image(9), {"id": "x", "file_name": "x.jpg", "width": 1, "height": 1}]
    tiny.write_json(tmp_path / "instances.json", {"images": rows, "annotations": []})
    tables = {"coco": ["instances.json"]}
    assert build(tmp_path, sources={"vg": vg(tmp_path, tiny.vg_image(1))}, image_tables=tables) == 1
    assert "instances.json: image 0 from byte 92: malformed record" in capsys.readouterr().err


@pytest.mark.parametrize("width", [0, "wide", None, -5])
def test_row_that_cannot_be_used_still_joins_images_of_other_sources(
    tmp_path: Path, width: Any
) -> None:
    sources = {
        "vg": vg(tmp_path, tiny.vg_image(1, coco_id=9, width=width), tiny.vg_image(2)),
        "gqa": tiny.write_gqa(
            tmp_path, {"q": tiny.gqa_question("1", "Is it a cat?")}, {"1": tiny.scene_graph()}
        )
        | {"allow_empty": True},
    }
    tiny.write(tmp_path / "ids.txt", b"9\n")
    exclude = {"set": {"ids": ["ids.txt"], "of": "coco"}}
    assert build(tmp_path, sources=sources, exclude=exclude) == 0
    assert sentences(tmp_path).keys() == {"vg/2"}
    assert manifest(tmp_path)["exclusions"]["set"]["excluded"]["coco_id"]["images"] == 1


def test_rows_that_only_join_are_not_hashed(tmp_path: Path) -> None:
    sources = {"vg": vg(tmp_path, tiny.vg_image(1, flickr_id=77), tiny.vg_image(2))}
    tiny.write(tmp_path / "ids.txt", b"9\n")
    table = [tiny.coco_image(9, flickr_url=URL.format(77))]
    tiny.write_json(tmp_path / "instances.json", {"images": table, "annotations": []})
    status = build(
        tmp_path,
        sources=sources,
        exclude={"set": {"ids": ["ids.txt"], "of": "coco"}},
        image_tables={"coco": ["instances.json"]},
        near_duplicates={"action": "exclude", "distance": 0},
    )
    assert status == 0
    assert sentences(tmp_path).keys() == {"vg/2"}
    assert tiny.rejected(tmp_path) == []


@pytest.mark.parametrize(
    ("exclusion", "content", "message"),
    [
        ({"questions": ["x.json"]}, {}, "x.json: exclude.set names no image by it"),
        ({"scene_graphs": ["x.json"]}, {}, "x.json: exclude.set names no image by it"),
        ({"instances": ["x.json"]}, {"images": []}, "x.json: exclude.set names no image by it"),
        (
            {"instances": ["x.json"]},
            {"images": [{"id": 1, "file_name": "COCO_val2014_000000000139.jpg"}]},
            "image 1 is the file 'COCO_val2014_000000000139.jpg'",
        ),
    ],
)
def test_files_of_an_exclusion_must_name_images(
    tmp_path: Path,
    exclusion: dict[str, Any],
    content: Any,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tiny.write_json(tmp_path / "x.json", content)
    sources = {"vg": vg(tmp_path, tiny.vg_image(1))}
    assert build(tmp_path, sources=sources, exclude={"set": exclusion}) == 1
    assert message in capsys.readouterr().err


def test_exclusion_that_matches_no_image_is_warned_of(tmp_path: Path) -> None:
    tiny.write(tmp_path / "ids.txt", b"1000\n")
    sources = {"vg": vg(tmp_path, tiny.vg_image(1))}
    exclude = {"set": {"ids": ["ids.txt"], "of": "vg"}}
    assert build(tmp_path, sources=sources, exclude=exclude) == 0
    [warning] = manifest(tmp_path)["warnings"]
    assert "exclude.set: none of the images of vg" in warning
    assert "are they ids of another dataset?" in warning


def test_scene_graphs_hold_out_their_images(tmp_path: Path) -> None:
    tiny.write_json(tmp_path / "val_sceneGraphs.json", {"2": tiny.scene_graph()})
    sources = {"vg": vg(tmp_path, tiny.vg_image(1), tiny.vg_image(2))}
    exclude = {"gqa": {"scene_graphs": ["val_sceneGraphs.json"]}}
    assert build(tmp_path, sources=sources, exclude=exclude) == 0
    assert sentences(tmp_path).keys() == {"vg/1"}
