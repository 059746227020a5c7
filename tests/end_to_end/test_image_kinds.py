"""Images as published sets have some: PNGs called .jpg, and JPEGs with an EXIF orientation.

Boxes refer to the pixels as stored, so everything that shows, exports or trains on an image has to
take them as stored. A red square is where the box is.
"""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw, ImageOps

from mdetr_model.data.transforms import EvalTransform, decode_transformed
from shards.__main__ import main
from shards.export.formats import FORMATS
from shards.inspection.browser.pages import BrowserPages
from shards.inspection.images import thumbnail
from shards.reading.reader import ShardReader
from shards.reading.shard_set import ShardSet
from tests import tiny

BOX = (150, 10, 190, 40)  # in the upper right corner, which no turn leaves there
TURNED, PNG, PLAIN = 1, 2, 3  # ids of the images


def image(format_: str, **options: object) -> bytes:
    drawn = Image.new("RGB", (tiny.WIDTH, tiny.HEIGHT), "white")
    ImageDraw.Draw(drawn).rectangle(BOX, fill="red")
    return tiny.encoded(drawn, format_, **options)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw files and the shard set of three images with a region each."""
    root = tmp_path_factory.mktemp("kinds")
    ids = (TURNED, PNG, PLAIN)
    x0, y0, x1, y1 = BOX
    region = {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0}
    graphs = [tiny.vg_graph(n, tiny.vg_region(n, "a red square", **region)) for n in ids]
    vg = tiny.write_vg(root, [tiny.vg_image(n) for n in ids], graphs)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    tiny.write(root / f"vg/images/{TURNED}.jpg", image("JPEG", exif=exif))
    tiny.write(root / f"vg/images/{PNG}.jpg", image("PNG"))
    tiny.write(root / f"vg/images/{PLAIN}.jpg", image("JPEG"))
    assert tiny.build(root, sources={"vg": vg}) == 0
    assert not tiny.rejected(root)
    return root


def assert_square_is_in_box(content: bytes | memoryview) -> None:
    """Checks an image as viewers show it, which turn it by its EXIF orientation."""
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    assert shown.size == (tiny.WIDTH, tiny.HEIGHT)
    assert_red(np.array(shown), scale=1)


def assert_red(pixels: np.ndarray, scale: float) -> None:
    x0, y0, x1, y1 = (round(side * scale) for side in BOX)
    edge = round(8 * scale)  # of blocks of a JPEG, which have both colors
    inside = pixels[y0 + edge : y1 - edge, x0 + edge : x1 - edge].astype(int)
    assert inside.size and (inside[..., 0] > 200).all() and (inside[..., 1:] < 60).all()
    assert (pixels[:y1, : x0 - edge] > 200).all()


def samples(root: Path) -> dict[str, tuple[str, bytes]]:
    """Returns name and content of the image of each key."""
    reader = ShardReader(ShardSet.open(root / "shards"))
    images = {s.sample.key: reader.image(s.shard, s.row) for s in reader.samples("train")}
    return {key: (image.name, bytes(image.content)) for key, image in images.items()}


def test_shards_have_the_original_bytes_under_the_extension_of_their_content(root: Path) -> None:
    for id_, extension in {TURNED: "jpg", PNG: "png", PLAIN: "jpg"}.items():
        name, content = samples(root)[f"vg/{id_}"]
        assert name == f"vg/{id_}.{extension}"
        assert content == (root / f"vg/images/{id_}.jpg").read_bytes()


def test_set_is_verified_also_against_its_raw_files(root: Path) -> None:
    assert main(["verify", str(root / "shards"), "--quiet", "--raw", str(root)]) == 0


def test_browser_and_report_show_the_pixels_as_stored(root: Path) -> None:
    shards = ShardSet.open(root / "shards")
    pages = BrowserPages(shards, "train")
    media_types = set()
    for row in range(3):
        content, media_type = pages.image(0, row)
        assert_square_is_in_box(content)
        media_types.add(media_type)
    assert media_types == {"image/jpeg", "image/png"}
    for _, content in samples(root).values():
        assert_square_is_in_box(thumbnail(content))
    report = root / "report.html"
    assert main(["stats", str(root / "shards"), "--html", str(report)]) == 0


def exported_images(folder: Path) -> Iterator[bytes]:
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".jpg", ".png"):
            yield path.read_bytes()
        elif path.suffix == ".tar":
            with tarfile.open(path) as archive:
                for member in archive:
                    if member.name.endswith((".jpg", ".png")):
                        file = archive.extractfile(member)
                        assert file is not None
                        yield file.read()
        elif path.suffix == ".parquet":
            rows = pq.read_table(path).to_pylist()
            images = [row.get("image") for row in rows]  # of `croissant`, its key
            yield from (image["bytes"] for image in images if isinstance(image, dict))


#: Formats of the tars themselves, whose readers take the pixels as stored.
OF_TARS = ("energon", "croissant")


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_exported_images_have_the_box_where_every_reader_looks(
    name: str, root: Path, tmp_path: Path
) -> None:
    options = ["--with-images"] if name not in ("hf", *OF_TARS) else []
    output = tmp_path / "out"
    assert main(["export", name, str(root / "shards"), "--output", str(output), *options]) == 0
    images = list(exported_images(output))
    assert len(images) == 3
    if name in OF_TARS:
        assert images == [content for _, content in samples(root).values()]
        return
    for content in images:
        assert_square_is_in_box(content)
    names = {Image.open(io.BytesIO(content)).format for content in images}
    assert names == {"JPEG", "PNG"}
    for path in output.rglob("*.json"):
        if path.name.startswith(("final", "instances")):
            for row in json.loads(path.read_bytes())["images"]:
                assert (output / "images" / row["file_name"]).is_file()


def test_training_gets_the_pixels_as_stored(root: Path) -> None:
    rng = np.random.default_rng(0)
    for name, content in samples(root).values():
        size = (tiny.WIDTH, tiny.HEIGHT)
        geometry = EvalTransform().sample(size, [list(BOX)], "a red square", rng)
        pixels = decode_transformed(content, name, size, geometry)
        assert_red(pixels, scale=pixels.shape[1] / tiny.WIDTH)


def test_size_of_a_turned_image_as_it_is_shown_is_rejected_with_a_reason(tmp_path: Path) -> None:
    shown = tiny.vg_image(1, width=tiny.HEIGHT, height=tiny.WIDTH)
    graphs = [tiny.vg_graph(1, tiny.vg_region(1, "a red square"))]
    vg = tiny.write_vg(tmp_path, [shown], graphs)
    exif = Image.Exif()
    exif[0x0112] = 6
    tiny.write(tmp_path / "vg/images/1.jpg", image("JPEG", exif=exif))
    splits = {"train": {"shards": 1, "allow_empty": True}}
    vg["allow_empty"] = True
    assert tiny.build(tmp_path, sources={"vg": vg}, splits=splits) == 0
    [row] = tiny.rejected(tmp_path)
    assert row.reason == "image of another size"
    assert row.detail.startswith("200x100, annotated as 100x200")
