"""Random audits of which it is known which photo every image shows.

A photo may be in COCO, Visual Genome and Flickr30k, under an id of each. Tables, records and
evaluation sets state true ids, in random spellings, and leave out some. The oracle follows what is
stated, by a search of its own: what it reaches must be found, and nothing else. Where the audited
file contains images, and a folder has those of evaluation sets, each photo has pixels of its own.
"""

import json
import pickle
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

FORMATS = ("mdetr", "coco", "odvg", "json list", "list", "parquet", "parquet folder", "tar", "tars")
NO_IDS = (-1, 0, None, "", "0", "-1", "null")
#: What `data_source` may be for the images of a dataset.
SOURCES = {
    "coco": ("coco", "COCO", "refcoco"),
    "vg": ("vg", "VG"),
    "flickr30k": ("flickr", "flickr30k"),
}
FOLDERS = {
    "coco": ("coco", "train2014", "data/coco/train2017"),
    "vg": ("VG_100K", "vg", "images/VG_100K_2"),
    "flickr30k": ("flickr30k-images", "flickr30k", "a/flickr30k_images"),
}


class Photo(NamedTuple):
    """A photo with its id in each dataset that has it, and its id at Flickr."""

    ids: dict[str, int]
    flickr: int

    def key(self, dataset: str) -> str:
        return f"{dataset}/{self.ids[dataset]}"


class Entry(NamedTuple):
    """A record of the audited file.

    ``name`` is its image as the audit names it; ``photo`` what it shows, None for one of its own.
    It states ``key`` and ``link``, if these are not empty: the photo under its own and another id.
    """

    record: dict[str, Any]
    name: str
    photo: Photo | None
    key: str
    link: str


class Case(NamedTuple):
    """The files of an audit, its options, and what must be found."""

    format: str
    file: Path
    options: list[str]
    entries: list[Entry]
    leaks: set[tuple[str, str, str, str]]  # name, evaluation set, its image, join
    not_clean: dict[str, set[str]]  # by evaluation set, names of images that it has, unless aside
    records: Callable[[Path], list[Any]]  # the records of a file of the format, in order


def make_case(seed: int, folder: Path) -> Case:
    rng = Random(seed)
    photos = _photos(rng)
    edges: dict[str, dict[str, str]] = defaultdict(dict)
    in_tables: set[str] = set()
    options = _write_tables(rng, photos, edges, in_tables, folder) if rng.random() < 0.7 else []
    namespace = rng.choice(["", "", "coco", "vg", "flickr30k"])
    if namespace:
        options += ["--namespace", namespace]
    format_ = rng.choice(FORMATS)
    entries = [_entry(rng, photos, format_, namespace) for _ in range(rng.randint(1, 25))]
    has_pixels = format_.startswith(("tar", "parquet")) and rng.random() < 0.5
    if format_.startswith("tar") or has_pixels:
        entries = [_with_image(entries, number, format_) for number in range(len(entries))]
    sets: dict[str, dict[str, Photo]] = {}
    for number in range(rng.randint(1, 3)):
        name = f"set{number}"
        sets[name] = {}
        # Several files, as of a benchmark of several datasets, are one set.
        for dataset in rng.sample(["coco", "vg", "flickr30k"], rng.choice([1, 1, 2])):
            candidates = [photo for photo in photos if dataset in photo.ids]
            chosen = rng.sample(candidates, rng.randint(1, len(candidates)))
            path = _write_eval_set(rng, chosen, dataset, edges, folder / f"{name}_{dataset}")
            options += ["--against", f"{name}={dataset}:{path}"]
            sets[name] |= {photo.key(dataset): photo for photo in chosen}
    hashed: dict[str, Photo] = {}
    if has_pixels:
        hashed = _write_eval_images(
            rng, {k: p for s in sets.values() for k, p in s.items()}, folder
        )
        options += ["--eval-images", str(folder / "eval images")]
    leaks = {
        (entry.name, name, key, join)
        for entry in entries
        for name, keys in sets.items()
        for key, join in (_near(entry, hashed) | _reached(entry, edges)).items()
        if key in keys
    }
    not_clean = {
        name: {
            entry.name
            for entry in entries
            for key, photo in of_set.items()
            if photo == entry.photo and not _is_set_aside(key, entry, edges, in_tables)
        }
        for name, of_set in sets.items()
    }
    file, records = _write_file(rng, format_, entries, folder, has_pixels)
    return Case(format_, file, options, entries, leaks, not_clean, records)


def _photos(rng: Random) -> list[Photo]:
    photos = []
    numbers = iter(rng.sample(range(1, 10**6), 400))
    for _ in range(rng.randint(3, 25)):
        flickr = next(numbers)
        ids = {name: next(numbers) for name in ("coco", "vg") if rng.random() < 0.6}
        if rng.random() < 0.4 or not ids:
            ids["flickr30k"] = flickr
        photos.append(Photo(ids, flickr))
    for dataset in ("coco", "vg", "flickr30k"):
        if not any(dataset in photo.ids for photo in photos):
            flickr = next(numbers)
            photos.append(Photo({dataset: flickr}, flickr))
    return photos


# --- the oracle -----------------------------------------------------------------------------------

_ORDER = ("id", "coco_id", "flickr photo id")


def _reached(entry: Entry, edges: dict[str, dict[str, str]]) -> dict[str, str]:
    """Returns the keys that the facts of an entry reach, each by the weakest join on the way."""
    best: dict[str, int] = {}
    pending = [(entry.key, 0)] if entry.key else []
    if entry.link and entry.link != entry.key:
        pending.append((entry.link, _ORDER.index("flickr photo id")))
    while pending:
        key, weight = pending.pop()
        if weight < best.get(key, len(_ORDER)):
            best[key] = weight
            pending += [(k, max(weight, _ORDER.index(join))) for k, join in edges[key].items()]
    return {key: _ORDER[weight] for key, weight in best.items()}


def _near(entry: Entry, hashed: dict[str, Photo]) -> dict[str, str]:
    """Returns the keys of images with the pixels of an entry's."""
    return {key: "perceptual hash" for key, photo in hashed.items() if photo == entry.photo}


def _is_set_aside(
    key: str, entry: Entry, edges: dict[str, dict[str, str]], in_tables: set[str]
) -> bool:
    """Returns whether all tables are given, and state no id that could find an image elsewhere."""
    is_known = bool(entry.link) or entry.key in in_tables or entry.key.startswith("flickr30k/")
    return is_known and key in in_tables and not edges[key]


def _link(edges: dict[str, dict[str, str]], key: str, other: str) -> None:
    join = "coco_id" if other.startswith("coco/") else "flickr photo id"
    edges[key][other] = edges[other][key] = join


# --- tables and evaluation sets -------------------------------------------------------------------


def _write_tables(
    rng: Random,
    photos: list[Photo],
    edges: dict[str, dict[str, str]],
    in_tables: set[str],
    folder: Path,
) -> list[str]:
    """Writes image tables that have some rows; returns the option with their identities."""
    from shards.__main__ import main

    rows: dict[str, list[dict[str, Any]]] = {"coco": [], "vg": []}
    for photo in photos:
        if "coco" in photo.ids and rng.random() < 0.9:
            row: dict[str, Any] = {"id": photo.ids["coco"], "width": 4, "height": 3}
            if rng.random() < 0.8:
                row["flickr_url"] = _url(rng, photo.flickr)
                _link(edges, photo.key("coco"), f"flickr30k/{photo.flickr}")
            if rng.random() < 0.5:
                row["file_name"] = f"COCO_train2014_{photo.ids['coco']:012d}.jpg"
            rows["coco"].append(row)
            in_tables.add(photo.key("coco"))
        if "vg" in photo.ids and rng.random() < 0.9:
            # A crop has another shape, but shows the same photo.
            row = {"image_id": photo.ids["vg"], "width": rng.choice([4, 9]), "height": 3}
            row |= {"coco_id": rng.choice(NO_IDS), "flickr_id": rng.choice(NO_IDS)}
            if "coco" in photo.ids and rng.random() < 0.7:
                row["coco_id"] = _number(rng, photo.ids["coco"])
                _link(edges, photo.key("vg"), photo.key("coco"))
            if rng.random() < 0.7:
                row["flickr_id"] = _number(rng, photo.flickr)
                _link(edges, photo.key("vg"), f"flickr30k/{photo.flickr}")
            rows["vg"].append(row)
            in_tables.add(photo.key("vg"))
    # A table of which no row states an id is none.
    if rows["coco"]:
        rows["coco"].append({"id": 10**7, "flickr_url": _url(rng, 10**9)})
    if rows["vg"]:
        rows["vg"].append({"image_id": 10**7, "flickr_id": 10**9 + 1})
    tables = []
    if rows["coco"]:
        tables.append(folder / "instances.json")
        tables[-1].write_text(json.dumps({"images": rows["coco"], "annotations": []}))
    if rows["vg"]:
        tables.append(folder / "image_data.json")
        tables[-1].write_text(json.dumps(rows["vg"]))
    if not tables:
        return []
    output = folder / "identities.parquet"
    assert main(["identities", *map(str, tables), "--output", str(output)]) == 0
    return ["--identities", str(output)]


def _write_eval_set(
    rng: Random,
    photos: list[Photo],
    dataset: str,
    edges: dict[str, dict[str, str]],
    path: Path,
) -> Path:
    ids = [photo.ids[dataset] for photo in photos]
    kind = rng.choice(["list", "json", "records", *["coco", "refs"] * (dataset == "coco")])
    if kind == "list":
        spelled = (rng.choice([str(_number(rng, id_)), f"{id_}.jpg"]) for id_ in ids)
        path.write_text("".join(f"{text}\n" for text in spelled))
    elif kind == "json":
        path.write_text(json.dumps([_number(rng, id_) for id_ in ids]))
    elif kind == "records":
        records = [{"image_id": _number(rng, id_), "split": "val"} for id_ in ids]
        path.write_text(json.dumps(records))
    elif kind == "coco":
        rows: list[dict[str, Any]] = []
        for photo in photos:
            rows.append({"id": photo.ids["coco"]})
            if rng.random() < 0.5:
                rows[-1]["file_name"] = f"COCO_val2014_{photo.ids['coco']:012d}.jpg"
            if rng.random() < 0.3:
                rows[-1]["flickr_url"] = _url(rng, photo.flickr)
                _link(edges, photo.key("coco"), f"flickr30k/{photo.flickr}")
        path.write_text(json.dumps({"images": rows}))
    else:
        others = [{"image_id": 10**7 + i, "split": "train"} for i in range(3)]
        refs = [{"image_id": id_, "split": rng.choice(["val", "testA"])} for id_ in ids]
        path.write_bytes(pickle.dumps(others + refs, rng.choice([0, 2, 4])))
    return path


# --- spellings ------------------------------------------------------------------------------------


def _number(rng: Random, id_: int) -> int | str | float:
    return rng.choice([id_, id_, str(id_), f"{id_:08d}", float(id_), f"{id_}.0"])


def _url(rng: Random, photo: int) -> str:
    server = f"http{rng.choice(['', 's'])}://farm{rng.randint(1, 9)}.staticflickr.com"
    return f"{server}/5062/{photo}_a3_z.jpg"


def _file(rng: Random, dataset: str, id_: int, namespace: str) -> tuple[str, bool]:
    """Returns a name of an image file, and whether it states which image it is."""
    plain = f"{id_}.jpg"
    if dataset == "coco" and rng.random() < 0.7:
        name = rng.choice(
            [
                "COCO_train2014_{:012d}.jpg",
                "coco_val2014_{:012d}.JPG",
                "{:012d}.jpg",
                "COCO_train2014_{:012d}_16.jpg",
                "x/y/{:012d}.png",
            ]
        )
        return name.format(id_), True
    if rng.random() < 0.5:
        return f"{rng.choice(FOLDERS[dataset])}/{plain}", True
    return plain, namespace == dataset


def _entry(rng: Random, photos: list[Photo], format_: str, namespace: str) -> Entry:
    if rng.random() < 0.1:
        name = f"own_{rng.randint(0, 5)}.jpg"
        return Entry(_record(format_, {"file_name": name}), name, None, "", "")
    photo = rng.choice(photos)
    dataset = rng.choice(sorted(photo.ids))
    id_ = photo.ids[dataset]
    file, is_known = _file(rng, dataset, id_, namespace)
    fields: dict[str, Any] = {"file_name": file}
    if format_ not in ("coco", "odvg", "list"):
        if rng.random() < 0.6:
            is_known = True
            fields["data_source"] = rng.choice(SOURCES[dataset])
            if rng.random() < 0.6:
                fields["original_id" if format_ == "mdetr" else "image_id"] = _number(rng, id_)
                fields["file_name"] = rng.choice([file, "any.jpg", "77.jpg"])
        elif rng.random() < 0.4:
            fields["original_id"] = rng.choice(NO_IDS)
        if rng.random() < 0.2:
            fields["dataset_name"] = "mixed"
    if format_ == "list" and rng.random() < 0.4:
        is_known = True
        fields["file_name"] = f"{dataset}/{id_:0{rng.randint(1, 9)}d}"
        if namespace == dataset:
            fields["file_name"] = str(_number(rng, id_))
    if not is_known and namespace:
        # A number under the wrong namespace would be an image that it is not.
        is_known = True
        fields["file_name"] = f"{rng.choice(FOLDERS[dataset])}/{id_}.jpg"
    key, link = photo.key(dataset) if is_known else "", ""
    if format_ in ("coco", "json list") and rng.random() < 0.3:
        fields["flickr_url"] = _url(rng, photo.flickr)
        link = f"flickr30k/{photo.flickr}"
    return Entry(_record(format_, fields), key or link or fields["file_name"], photo, key, link)


def _with_image(entries: list[Entry], number: int, format_: str) -> Entry:
    """Returns an entry with the name of an image that its file contains."""
    entry = entries[number]
    if entry.key or entry.link:
        return entry
    place = f"record {number}"
    if format_ in ("tars", "parquet folder"):
        middle = len(entries) // 2
        names = ("0.tar", "1.tar") if format_ == "tars" else ("a.parquet", "b/c.parquet")
        file = int(number >= middle)
        place = f"record {number - middle * file} of {names[file]}"
    return entry._replace(name=f"{entry.name} ({place})")


def _pixels(rng: Random, seed: int) -> bytes:
    """Returns a JPEG of the image of a seed, in a random size and quality."""
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)
    side = rng.choice([96, 128, 160])
    buffer = BytesIO()
    image = Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)
    image.save(buffer, "JPEG", quality=rng.randint(70, 95))
    return buffer.getvalue()


def _write_eval_images(rng: Random, images: dict[str, Photo], folder: Path) -> dict[str, Photo]:
    """Writes files of most images, under their published names; returns those that have one."""
    names = {"coco": "train2014/COCO_train2014_{:012d}.jpg", "vg": "VG_100K/{}.jpg"}
    names["flickr30k"] = "flickr30k-images/{}.jpg"
    written = {}
    (folder / "eval images").mkdir()
    for key, photo in images.items():
        if rng.random() < 0.8:
            dataset = key.partition("/")[0]
            path = folder / "eval images" / names[dataset].format(photo.ids[dataset])
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(_pixels(rng, photo.flickr))
            written[key] = photo
    return written


def _record(format_: str, fields: dict[str, Any]) -> dict[str, Any]:
    if format_ == "odvg":
        return {
            "filename": fields["file_name"],
            "height": 3,
            "width": 4,
            "grounding": {"caption": 'a "cat", [here]', "regions": []},
        }
    if format_ == "list":
        return {"file_name": fields["file_name"]}
    if format_ in ("mdetr", "json list"):
        return fields | {"caption": "two \\ {dogs}\n"}
    return fields


# --- formats --------------------------------------------------------------------------------------


def _write_file(
    rng: Random, format_: str, entries: list[Entry], folder: Path, has_pixels: bool
) -> tuple[Path, Callable[[Path], list[Any]]]:
    records = [entry.record for entry in entries]
    images = [b"\xff\xd8"] * len(entries)
    if has_pixels:
        seeds = (e.photo.flickr if e.photo else 10**8 + i for i, e in enumerate(entries))
        images = [_pixels(rng, seed) for seed in seeds]
        if format_.startswith("parquet"):
            pairs = zip(records, images, strict=True)
            records = [r | {"image": {"bytes": image, "path": None}} for r, image in pairs]
    path = folder / "audited"
    if format_ in ("mdetr", "coco"):
        images = [record | {"id": 7 + 2 * i} for i, record in enumerate(records)]
        annotations = [
            {"id": i, "image_id": rng.choice(images)["id"], "bbox": [0, 0, 1, 1]} for i in range(30)
        ]
        document = {"info": {"a": [1, {}]}, "images": images, "annotations": annotations, "z": []}
        keys = rng.sample(sorted(document), len(document))
        path.write_text(json.dumps({k: document[k] for k in keys}, indent=rng.choice([None, 1])))
        return path, _read_coco
    if format_ == "json list":
        path.write_text(json.dumps(records, indent=rng.choice([None, 1])))
        return path, lambda p: list(json.loads(p.read_text()))
    if format_ == "odvg":
        path.write_text("".join(json.dumps(r) + "\n" for r in records))
        return path, lambda p: [json.loads(line) for line in p.read_text().splitlines()]
    if format_ == "list":
        path.write_text("\n".join(r["file_name"] for r in records))
        return path, lambda p: [{"file_name": line} for line in p.read_text().splitlines()]
    if format_ == "parquet":
        _write_parquet(records, path)
        return path, lambda p: _read_parquet([p])
    if format_ == "parquet folder":
        middle = len(records) // 2
        for name, part in (("a", records[:middle]), ("b/c", records[middle:])):
            if part:
                _write_parquet(part, path / f"{name}.parquet")
        return path, lambda p: _read_parquet(sorted(p.rglob("*.parquet")))
    if format_ == "tar":
        _write_tar(records, images, path, 0)
        return path, lambda p: _read_tars([p])
    middle = len(records) // 2
    for number, part in enumerate((slice(None, middle), slice(middle, None))):
        if records[part]:
            _write_tar(records[part], images[part], path / f"{number}.tar", number * middle)
    return path, lambda p: _read_tars(sorted(p.rglob("*.tar")))


def _read_coco(path: Path) -> list[Any]:
    document = json.loads(path.read_text())
    ids = {image["id"] for image in document["images"]}
    assert all(a["image_id"] in ids for a in document["annotations"])
    assert document["info"] == {"a": [1, {}]}
    return [{k: v for k, v in image.items() if k != "id"} for image in document["images"]]


def _write_parquet(records: list[dict[str, Any]], path: Path) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    names = sorted({"file_name", *(n for r in records for n in r)} - {"image"})
    columns: dict[str, list[Any]] = {
        # A column has one type; ids of mixed spellings are texts.
        name: [None if (v := record.get(name)) is None else str(v) for record in records]
        for name in names
    }
    if "image" in records[0]:
        columns["image"] = [record["image"] for record in records]
    pq.write_table(pa.table(columns), path, row_group_size=4)


def _read_parquet(paths: list[Path]) -> list[Any]:
    rows = [row for path in paths for row in pq.read_table(path).to_pylist()]
    return [{k: v for k, v in row.items() if v is not None and k != "image"} for row in rows]


def _write_tar(records: list[dict[str, Any]], images: list[bytes], path: Path, first: int) -> None:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number, (record, image) in enumerate(zip(records, images, strict=True), first):
            for extension, content in (("jpg", image), ("json", json.dumps(record).encode())):
                info = tarfile.TarInfo(f"s{number:05d}.{extension}")
                info.size = len(content)
                tar.addfile(info, BytesIO(content))


def _read_tars(paths: list[Path]) -> list[Any]:
    return [record for path in paths for record in _read_tar(path)]


def _read_tar(path: Path) -> Iterator[Any]:
    with tarfile.open(path) as tar:
        for info in tar:
            member = tar.extractfile(info)
            assert member is not None
            if info.name.endswith(".json"):
                yield json.loads(member.read())
