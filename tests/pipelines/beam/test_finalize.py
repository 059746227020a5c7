"""What the last step of a build refuses."""

from pathlib import Path

import pytest

from tests import tiny


@pytest.mark.parametrize("width", [tiny.WIDTH, tiny.WIDTH // 2])
def test_an_evaluated_image_or_a_crop_of_it_is_not_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    refs = [tiny.reference(5, 1, {1: "a cat"}, split="val")]
    coco = tiny.write_coco(tmp_path, [tiny.coco_image(5)], [tiny.coco_annotation(1, 5)], refs)
    vg = tiny.write_vg(
        tmp_path,
        [tiny.vg_image(7, coco_id=5, width=width), tiny.vg_image(8)],
        [tiny.vg_graph(i, tiny.vg_region(i, "a dog")) for i in (7, 8)],
    )
    tiny.write(tmp_path / "vg/images/7.jpg", tiny.image_file(width))
    recipe = {
        "splits": {"train": {"shards": 1}, "val": {"shards": 1}},
        "sources": {"coco": coco, "vg": vg},
    }
    tiny.write(tmp_path / "other.txt", b"8\n")
    other = {"exclude": {"other": {"ids": ["other.txt"], "of": "vg"}}}
    assert tiny.build(tmp_path, **recipe, **other) == 1
    message = capsys.readouterr().err
    is_crop = width != tiny.WIDTH
    leak = (
        "vg/7 (in train, and in val as coco/5, of the same photo)"
        if is_crop
        else "coco/5 (in train"
    )
    assert "1 image would be both trained and evaluated on" in message and leak in message

    tiny.write(tmp_path / "eval.txt", b"5\n")
    tables = {"exclude": {"val": {"ids": ["eval.txt"], "of": "coco"}}}
    assert tiny.build(tmp_path, **recipe, **tables) == 0
    assert tiny.samples(tmp_path).keys() == {"coco/5", "vg/8"}


def test_an_evaluated_photo_is_not_trained_on_under_rules_that_do_not_merge_photos(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "http://farm6.staticflickr.com/5062/5896644212_a326e96ea9_z.jpg"
    refs = [tiny.reference(5, 1, {1: "a cat"}, split="val")]
    coco = tiny.write_coco(
        tmp_path, [tiny.coco_image(5, flickr_url=url)], [tiny.coco_annotation(1, 5)], refs
    )
    flickr30k = tiny.write_flickr30k(tmp_path, {5896644212: ["A dog runs ."]})
    splits = {"train": {"shards": 1}, "val": {"shards": 1}}
    sources = {"coco": coco, "flickr30k": flickr30k}
    assert tiny.build(tmp_path, rules="mdetr", splits=splits, sources=sources) == 1
    leak = "flickr30k/5896644212 (in train, and in val as coco/5, of the same photo)"
    assert leak in capsys.readouterr().err
