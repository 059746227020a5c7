"""Raw files of a few synthetic images, in the published layouts, for tests that change one record.

Record makers (``vg_region``, ``coco_image``, ...) return plain Python values, which a test may
corrupt before a writer (``write_json``, ``write_refs``, ...) makes a file of them. `build` runs the
real pipeline in this process.
"""

import io
import json
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pyarrow.parquet as pq
import webdataset
from PIL import Image, ImageDraw

from pipelines.build import main

WIDTH, HEIGHT = 200, 100


# --- images -------------------------------------------------------------------------------------


def drawing(width: int = WIDTH, height: int = HEIGHT, hue: int = 0) -> Image.Image:
    """Returns an image with a gradient and two shapes, so that it is not one flat color."""
    image = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    draw = ImageDraw.Draw(image)
    x, y = width / (2 + hue % 5), height / (2 + hue % 3)
    draw.rectangle((x * 0.2, y * 0.3, x, y), fill=(hue * 40 % 256, 200, 60))
    draw.ellipse((x * 0.8, y * 0.5, x * 1.9, y * 1.8), fill=(250, hue * 70 % 256, 30))
    return image


def encoded(image: Image.Image, format_: str = "JPEG", **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, format_, **options)
    return content.getvalue()


def undecodable_png() -> bytes:
    """Returns a PNG with a right header and right CRC-32s, whose pixels cannot be decoded."""
    content = bytearray(encoded(drawing(), "PNG"))
    chunk = content.index(b"IDAT")
    content[chunk + 10 : chunk + 60] = b"\xff" * 50
    end = chunk + 4 + int.from_bytes(content[chunk - 4 : chunk])
    content[end : end + 4] = zlib.crc32(content[chunk:end]).to_bytes(4)
    return bytes(content)


def image_file(width: int = WIDTH, height: int = HEIGHT, hue: int = 0) -> bytes:
    return encoded(drawing(width, height, hue))


# --- records --------------------------------------------------------------------------------------


def vg_image(id_: int, **fields: Any) -> dict[str, Any]:
    """Returns a row of image_data.json."""
    return {
        "image_id": id_,
        "width": WIDTH,
        "height": HEIGHT,
        "coco_id": None,
        "flickr_id": None,
        **fields,
    }


def vg_region(id_: int, phrase: str, x: Any = 10, y: Any = 10, **fields: Any) -> dict[str, Any]:
    return {
        "region_id": id_,
        "phrase": phrase,
        "x": x,
        "y": y,
        "width": 40,
        "height": 30,
        "objects": [],
        "synsets": [],
        **fields,
    }


def vg_graph(id_: int, *regions: dict[str, Any]) -> dict[str, Any]:
    """Returns an element of region_graphs.json."""
    return {"image_id": id_, "regions": list(regions)}


def coco_image(id_: int, **fields: Any) -> dict[str, Any]:
    return {
        "id": id_,
        "file_name": f"{id_}.jpg",
        "width": WIDTH,
        "height": HEIGHT,
        "flickr_url": "",
        **fields,
    }


def coco_annotation(
    id_: int, image_id: int, bbox: Any = (10, 10, 40, 30), **fields: Any
) -> dict[str, Any]:
    return {"id": id_, "image_id": image_id, "category_id": 1, "bbox": bbox, "area": 900, **fields}


def reference(
    image_id: int, ann_id: int, sentences: dict[int, str], split: str = "train"
) -> dict[str, Any]:
    """Returns an element of refs(unc).p: ``sentences`` by their ids."""
    return {
        "image_id": image_id,
        "ann_id": ann_id,
        "category_id": 1,
        "split": split,
        "sentences": [{"sent_id": id_, "sent": text} for id_, text in sentences.items()],
    }


def gqa_question(image_id: str, text: str, **fields: Any) -> dict[str, Any]:
    return {"imageId": image_id, "question": text, "answer": "yes", "isBalanced": True, **fields}


def scene_graph(**objects: tuple[float, float, float, float]) -> dict[str, Any]:
    """Returns a scene graph, its objects as id -> x, y, w, h."""
    objects = {k: dict(zip("xywh", box, strict=True)) for k, box in objects.items()}
    return {"width": WIDTH, "height": HEIGHT, "objects": objects}


# --- files ----------------------------------------------------------------------------------------


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def write_json(path: Path, value: Any) -> Path:
    return write(path, json.dumps(value).encode())


def write_refs(path: Path, references: Any) -> Path:
    return write(path, pickle.dumps(references, protocol=2))


def write_vg(root: Path, images: Sequence[Any], graphs: Sequence[Any]) -> dict[str, Any]:
    """Writes Visual Genome, with an image for each row of its table; returns the recipe's table."""
    for image in images:
        id_ = image["image_id"]
        write(root / f"vg/images/{id_}.jpg", image_file(hue=id_))
    write_json(root / "vg/image_data.json", images)
    write_json(root / "vg/region_graphs.json", graphs)
    return {
        "image_data": "vg/image_data.json",
        "region_graphs": "vg/region_graphs.json",
        "images": ["vg/images"],
    }


def write_coco(
    root: Path, images: Sequence[Any], annotations: Sequence[Any], references: Any
) -> dict[str, Any]:
    for image in images:
        write(root / f"coco/images/{image['id']}.jpg", image_file(hue=image["id"]))
    write_json(root / "coco/instances.json", {"images": images, "annotations": annotations})
    write_refs(root / "coco/refs.p", references)
    return {
        "instances": ["coco/instances.json"],
        "refs": {"refcoco": "coco/refs.p"},
        "images": ["coco/images"],
    }


def write_gqa(root: Path, questions: Any, graphs: Any) -> dict[str, Any]:
    """Writes GQA, with images of its scene graphs; returns the recipe's table."""
    for id_ in graphs:
        write(root / f"gqa/images/{id_}.jpg", image_file(hue=int(id_)))
    write_json(root / "gqa/questions.json", questions)
    write_json(root / "gqa/graphs.json", graphs)
    return {
        "questions": {"train": ["gqa/questions.json"]},
        "scene_graphs": {"train": "gqa/graphs.json"},
        "images": ["gqa/images"],
    }


def write_flickr30k(root: Path, sentences: dict[int, list[str]], boxes: str = "") -> dict[str, Any]:
    """Writes Flickr30k Entities: ``sentences`` by image, ``boxes`` the objects of each XML file."""
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
    for id_, lines in sentences.items():
        write(root / f"flickr30k/images/{id_}.jpg", image_file(hue=id_))
        write(root / f"flickr30k/Sentences/{id_}.txt", "\n".join(lines).encode())
        xml = f"<annotation>{size}{boxes}</annotation>"
        write(root / f"flickr30k/Annotations/{id_}.xml", xml.encode())
    write(root / "flickr30k/train.txt", "".join(f"{id_}\n" for id_ in sentences).encode())
    return {
        "annotations": "flickr30k",
        "split_files": {"train": "flickr30k/train.txt"},
        "images": ["flickr30k/images"],
    }


def write_recipe(path: Path, **tables: Any) -> Path:
    """Writes a recipe of one train shard, in which any share of the records may be rejected."""
    tables = {
        "name": "tiny",
        "splits": {"train": {"shards": 1}},
        "reject_limit": 1.0,
        **tables,
    }
    return write_toml(path, tables)


def write_toml(path: Path, table: dict[str, Any]) -> Path:
    """Writes a TOML file, with one line for each key."""
    lines = [f"{key} = {_toml(value)}\n" for key, value in table.items()]
    return write(path, "".join(lines).encode())


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


# --- building -------------------------------------------------------------------------------------


class Row(msgspec.Struct, frozen=True):
    """A row of rejected.parquet."""

    source: str
    record: str
    reason: str
    detail: str
    image: str
    records: int
    boxes: int


def build(root: Path, *options: str, **tables: Any) -> int:
    """Builds ``root``/shards from a recipe of these tables; returns the command's exit status."""
    recipe = write_recipe(root / "recipe.toml", **tables)
    fixed = ["--direct_running_mode=in_memory", "--quiet"]
    return main([str(recipe), f"--root={root}", f"--output={root}/shards", *fixed, *options])


def rejected(root: Path) -> list[Row]:
    return [Row(**row) for row in pq.read_table(root / "shards/rejected.parquet").to_pylist()]


def samples(root: Path) -> dict[str, dict[str, Any]]:
    """Returns the samples of a shard set by key, as webdataset reads them, with ``image`` bytes."""
    urls = [str(path) for path in sorted((root / "shards").glob("*.tar"))]
    by_key = {}
    for sample in webdataset.WebDataset(urls, shardshuffle=False, empty_check=False):
        by_key[sample["__key__"]] = orjson.loads(sample["json"]) | {"image": sample.get("jpg")}
    return by_key
