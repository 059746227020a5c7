"""Perceptual hashes, and images of train that are near-duplicates of held-out ones."""

import io
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.dedup.near_duplicates import HashedImage, HeldOutHashes, perceptual_hash
from pipelines.io.images import UnusableImageError, inspect
from tests import tiny


def distance(a: bytes, b: bytes) -> int:
    return (perceptual_hash(a) ^ perceptual_hash(b)).bit_count()


@pytest.mark.parametrize("hue", range(5))
def test_hash_is_near_at_any_size_and_quality(hue: int) -> None:
    image = tiny.drawing(640, 480, hue)
    original = tiny.encoded(image, quality=95)
    assert 0 <= perceptual_hash(original) < 2**64
    assert distance(original, tiny.encoded(image, quality=30)) <= 4
    assert distance(original, tiny.encoded(image, "PNG")) <= 4
    assert distance(original, tiny.encoded(image.resize((500, 375)))) <= 4


@pytest.mark.parametrize(("width", "height"), [(640, 480), (33, 500), (20, 20)])
@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_hash_is_that_of_imagehash(width: int, height: int, image_format: str) -> None:
    rng = np.random.default_rng(width)
    noise = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
    for image in (tiny.drawing(width, height), noise):
        content = tiny.encoded(image, image_format)
        with Image.open(io.BytesIO(content)) as opened:
            opened.draft("L", (64, 64))
            expected = str(imagehash.phash(opened))
        assert f"{perceptual_hash(content):016x}" == expected


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_hash_of_any_mode_is_that_of_imagehash(mode: str) -> None:
    rng = np.random.default_rng(7)
    for width, height in rng.integers(4, 200, (20, 2)).tolist():
        if mode == "I;16":
            image = Image.fromarray(rng.integers(0, 2**16, (height, width)).astype(np.uint16))
        else:
            blobs = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8))
            image = blobs.resize((width, height)).convert(mode)
        content = tiny.encoded(image, "JPEG" if mode == "CMYK" else "PNG")
        with Image.open(io.BytesIO(content)) as opened:
            opened.draft("L", (64, 64))
            assert opened.mode in (mode, "L")
            assert f"{perceptual_hash(content):016x}" == str(imagehash.phash(opened))


def test_hash_of_one_color_has_no_frequency_but_the_constant() -> None:
    gray = tiny.encoded(Image.new("RGB", (50, 40), (100, 100, 100)), "PNG")
    assert perceptual_hash(gray) == 1 << 63


def test_hashes_of_different_images_are_far_apart() -> None:
    originals = [tiny.encoded(tiny.drawing(640, 480, hue)) for hue in range(2)]
    turned = tiny.encoded(tiny.drawing(640, 480).transpose(Image.Transpose.ROTATE_180))
    assert distance(originals[0], originals[1]) > 4
    assert distance(originals[0], turned) > 16


def test_hash_of_undecodable_pixels_is_an_error() -> None:
    content = tiny.undecodable_png()
    assert inspect(content).width == tiny.WIDTH  # the header is valid
    with pytest.raises(UnusableImageError, match="not an image"):
        perceptual_hash(content)


def test_held_out_images_within_the_distance_are_found_once() -> None:
    content = tiny.image_file()
    hash = perceptual_hash(content)
    same, near, far = (HashedImage(hash ^ bits, "val", f"coco/{bits}") for bits in (0, 7, 15))
    assert HeldOutHashes([far, near, same, near], 3).near(content) == [near, same]
    assert HeldOutHashes([far, near], 2).near(content) == []
    assert HeldOutHashes([], 64).near(b"not decoded") == []


def excluded(root: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(root / "shards/excluded.parquet").to_pylist()
    return rows


@pytest.mark.parametrize("action", ["report", "exclude"])
def test_near_duplicate_of_an_image_of_no_source_is_reported_or_excluded(
    tmp_path: Path, action: str
) -> None:
    images = [tiny.vg_image(1), tiny.vg_image(2)]
    graphs = [tiny.vg_graph(i, tiny.vg_region(i, "a red cat")) for i in (1, 2)]
    vg = tiny.write_vg(tmp_path, images, graphs)
    same = tiny.encoded(tiny.drawing(100, 50, hue=1), quality=60)
    tiny.write(tmp_path / "val/COCO_val2014_77.jpg", same)
    tiny.write_json(
        tmp_path / "val.json", {"images": [{"id": 77, "file_name": "COCO_val2014_77.jpg"}]}
    )
    exclude = {"coco_val2014": {"instances": ["val.json"], "images": ["val"]}}
    near = {"action": action, "distance": 6}
    assert tiny.build(tmp_path, sources={"vg": vg}, exclude=exclude, near_duplicates=near) == 0
    [row] = excluded(tmp_path)
    assert (row["image"], row["eval_set"], row["eval_image"]) == ("vg/1", "coco_val2014", "coco/77")
    assert (row["join"], row["excluded"]) == ("perceptual hash", action == "exclude")
    keys = set(tiny.samples(tmp_path))
    assert keys == ({"vg/2"} if action == "exclude" else {"vg/1", "vg/2"})


def test_missing_held_out_image_is_a_rejected_row(tmp_path: Path) -> None:
    graphs = [tiny.vg_graph(1, tiny.vg_region(1, "a red cat"))]
    vg = tiny.write_vg(tmp_path, [tiny.vg_image(1)], graphs)
    (tmp_path / "val").mkdir()
    tiny.write_json(tmp_path / "val.json", {"images": [{"id": 77, "file_name": "77.jpg"}]})
    exclude = {"coco_val2014": {"instances": ["val.json"], "images": ["val"]}}
    near = {"action": "report"}
    assert tiny.build(tmp_path, sources={"vg": vg}, exclude=exclude, near_duplicates=near) == 0
    [row] = tiny.rejected(tmp_path)
    assert (row.source, row.record, row.records) == ("exclude.coco_val2014", "coco/77", 0)
    assert row.reason == "held-out image missing"
