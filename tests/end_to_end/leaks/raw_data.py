"""Writes random datasets of a `Truth` in their published layouts, with ids in any spelling.

Each writer adds one source to a `RawData`: its files, its table of the recipe, and what is true of
every caption in them.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from tests import tiny
from tests.end_to_end.leaks.truth import ImageRow, Truth

COCO_TRAIN, COCO_VAL = "train2014", "val2014"
#: of mdetr_json's ``data_source``: those that a reader has to accept, and others, which it may not
PLAIN_SOURCES = {"coco": ["coco"], "vg": ["vg"], "flickr30k": ["flickr30k"]}
ODD_SOURCES = {
    "coco": ["COCO", "Coco", " coco", "coco2014"],
    "vg": ["VG", "Vg", "visual_genome", "vg "],
    "flickr30k": ["Flickr30k", "FLICKR30K", "flickr30K", "flickr"],
}


@dataclasses.dataclass
class TrueCaption:
    """A caption of a raw file: its dataset, its split there, the image that it is about."""

    dataset: str
    split: str
    row: ImageRow
    may_be_rejected: bool = False


@dataclasses.dataclass
class RawData:
    """Raw files below a folder.

    Attributes:
        captions: By their text, which is that of no other caption.
        sources: The recipe's tables.
        read_tables: Images whose links to other datasets are in a file that the recipe reads.
        eval_splits: The evaluation splits of each source.
    """

    root: Path
    truth: Truth
    rng: Random
    captions: dict[str, TrueCaption] = dataclasses.field(default_factory=dict)
    sources: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    read_tables: list[ImageRow] = dataclasses.field(default_factory=list)
    eval_splits: set[str] = dataclasses.field(default_factory=set)
    next_id: int = 1000

    def new_id(self) -> int:
        """Returns the id of a record, which no other record has."""
        self.next_id += 1
        return self.next_id

    def caption(self, dataset: str, split: str, row: ImageRow, odd: bool = False) -> str:
        text = self.truth.text(row)
        self.captions[text] = TrueCaption(dataset, split, row, odd)
        return text

    def box(self, row: ImageRow) -> tuple[float, float, float, float]:
        """Returns x, y, width, height of a box inside an image."""
        width, height = row.width, row.height
        x, y = self.rng.randint(0, width // 2 - 1), self.rng.randint(0, height // 2 - 1)
        return (
            x,
            y,
            self.rng.randint(width // 4, width // 2),
            self.rng.randint(height // 4, height // 2),
        )

    def write_images(
        self, folder: str, rows: Iterable[ImageRow], names: Sequence[str] = ()
    ) -> None:
        rows = list(rows)
        (self.root / folder).mkdir(parents=True, exist_ok=True)
        for row, name in zip(rows, names or [row.file for row in rows], strict=True):
            tiny.write(self.root / folder / name, row.content())

    def id_style(self, *others: str) -> str:
        """Returns the spelling of ids in a file: as published in most."""
        return self.rng.choice(["int"] * 5 + ["str", "padded", "float", *others])


def spelled(row: ImageRow, style: str) -> Any:
    """Returns the id of an image as a file may state it."""
    return {
        "int": row.id,
        "str": str(row.id),
        "padded": f"{row.id:012}",
        "float": float(row.id),
        "name": row.file,
        "n": f"n{row.id}",
    }[style]


def number_spelled(id_: int, style: str) -> Any:
    """Returns the id of an annotation as a file may state it."""
    return {"float": float(id_), "str": str(id_)}.get(style, id_)


def flickr_url(row: ImageRow) -> dict[str, Any]:
    if row.states_flickr:
        return {"flickr_url": f"http://farm6.staticflickr.com/5062/{row.flickr}_a326e96ea9_z.jpg"}
    return {} if row.no_flickr == "missing" else {"flickr_url": ""}


# --- COCO -----------------------------------------------------------------------------------------


def coco_images(rows: Iterable[ImageRow], style: str = "int") -> list[dict[str, Any]]:
    return [
        {
            "id": spelled(row, style),
            "file_name": row.file,
            "width": row.width,
            "height": row.height,
            **flickr_url(row),
        }
        for row in rows
    ]


def write_instances(data: RawData, part: str, annotations: Sequence[Any] = ()) -> str:
    """Writes COCO's table of a part; returns its path."""
    path = f"coco/annotations/instances_{part}.json"
    rows = [row for row in data.truth.coco if row.part == part]
    images = coco_images(rows, data.id_style())
    tiny.write_json(data.root / path, {"images": images, "annotations": annotations})
    return path


def write_refs(data: RawData) -> dict[str, tuple[str, list[tuple[ImageRow, str]]]]:
    """Writes the pickles of RefCOCO's datasets, each with splits of its own.

    Returns by dataset the path, and the split of each image; there are no captions about them yet.
    """
    rng, written = data.rng, {}
    rows = [row for row in data.truth.coco if row.part == COCO_TRAIN]
    for dataset, version in [("refcoco", "unc"), ("refcoco+", "unc"), ("refcocog", "umd")]:
        names = [
            "train",
            "train",
            "train",
            "val",
            *(["testA", "testB"] if version == "unc" else ["test"]),
        ]
        splits = [(row, rng.choice(names)) for row in rows if rng.random() < 0.7]
        written[dataset] = (f"refcoco/{dataset}/refs({version}).p", splits)
    return written


def write_coco(data: RawData, refs: dict[str, tuple[str, list[tuple[ImageRow, str]]]]) -> None:
    """Writes captions of RefCOCO's datasets, and the objects that they refer to."""
    rng = data.rng
    datasets = rng.sample(sorted(refs), rng.randint(1, 3))
    annotations: list[dict[str, Any]] = []
    ann_style, image_style = rng.choice(["int", "int", "float"]), data.id_style()
    for dataset, (path, splits) in refs.items():
        references = []
        for row, split in splits:
            ann_id, box = data.new_id(), data.box(row)
            annotations.append(
                {
                    "id": number_spelled(ann_id, ann_style),
                    "image_id": spelled(row, image_style),
                    "category_id": 1,
                    "bbox": list(box),
                    "area": 0.8 * box[2] * box[3],
                }
            )
            read = dataset in datasets
            text = f"the {data.caption(dataset, split, row)}" if read else "the object"
            reference = tiny.reference(row.id, ann_id, {data.new_id(): text}, split)
            references.append({**reference, "image_id": spelled(row, image_style)})
        tiny.write_refs(data.root / path, references)
    instances = write_instances(data, COCO_TRAIN, annotations)
    rows = [row for row in data.truth.coco if row.part == COCO_TRAIN]
    data.write_images("coco/train2014", rows)
    data.read_tables += rows
    data.eval_splits |= {split for d in datasets for _, split in refs[d][1] if split != "train"}
    data.sources["coco"] = {
        "instances": [instances],
        "refs": {dataset: refs[dataset][0] for dataset in datasets},
        "images": ["coco/train2014"],
    }


# --- Visual Genome, GQA ---------------------------------------------------------------------------


def write_image_data(data: RawData) -> str:
    style, link_style = data.id_style(), data.id_style()
    table = []
    for row in data.truth.vg:
        fields: dict[str, Any] = {"coco_id": row.no_coco, "flickr_id": row.no_flickr}
        if row.coco:
            fields["coco_id"] = spelled(row.coco, link_style)
        if row.states_flickr:
            fields["flickr_id"] = number_spelled(row.flickr, link_style)
        table.append(
            {
                "image_id": spelled(row, style),
                "width": row.width,
                "height": row.height,
                **{name: value for name, value in fields.items() if value != "missing"},
            }
        )
    tiny.write_json(data.root / "vg/image_data.json", table)
    return "vg/image_data.json"


def write_vg(data: RawData, split: str) -> None:
    style, graphs = data.id_style(), []
    rows = [row for row in data.truth.vg if data.rng.random() < 0.8]
    for row in rows:
        regions = []
        for _ in range(data.rng.randint(1, 2)):
            x, y, width, height = data.box(row)
            text = data.caption("vg", split, row)
            size = {"width": width, "height": height}
            regions.append(tiny.vg_region(data.new_id(), f"a {text}", x, y, **size))
        graphs.append({"image_id": spelled(row, style), "regions": regions})
    tiny.write_json(data.root / "vg/region_graphs.json", graphs)
    data.write_images("vg/VG_100K", data.truth.vg)
    data.read_tables += data.truth.vg
    data.sources["vg"] = {
        "image_data": write_image_data(data),
        "region_graphs": "vg/region_graphs.json",
        "images": ["vg/VG_100K"],
        "split": split,
    }


def gqa_rows(data: RawData) -> dict[str, list[ImageRow]]:
    """Returns GQA's images: each image of Visual Genome is in train, val, or not in it.

    Images of COCO test2015 are in test.
    """
    parts: dict[str, list[ImageRow]] = {"train": [], "val": [], "test": []}
    for row in data.truth.vg:
        parts[data.rng.choice(["train", "train", "val", "val", "test"])].append(row)
    parts["test"] += [row for row in data.truth.coco if row.part == "test2015"]
    return parts


def gqa_id(row: ImageRow, style: str) -> Any:
    if row.namespace == "coco":
        return f"n{row.id}"
    return spelled(row, "str" if style == "int" else style)


def questions(
    rows: Iterable[ImageRow], texts: Iterable[str], ids: Iterable[int], style: str
) -> Any:
    return {
        str(id_): tiny.gqa_question(gqa_id(row, style), f"Is the {text} here?", annotations={})
        for row, text, id_ in zip(rows, texts, ids, strict=True)
    }


def write_questions(data: RawData, path: str, rows: Sequence[ImageRow], split: str = "") -> str:
    """Writes a question about each image: of a split, or of no interest, to name images."""
    style = data.id_style("name")
    texts = [data.caption("gqa", split, row) if split else "object" for row in rows]
    ids = [data.new_id() for _ in rows]
    tiny.write_json(data.root / path, questions(rows, texts, ids, style))
    return path


def write_gqa(data: RawData, parts: dict[str, list[ImageRow]], splits: dict[str, str]) -> None:
    """Writes GQA; ``splits`` has the part that each split of the recipe reads."""
    table: dict[str, Any] = {"questions": {}, "scene_graphs": {}, "images": ["gqa/images"]}
    for split, part in splits.items():
        path = write_questions(data, f"gqa/{part}_balanced_questions.json", parts[part], split)
        table["questions"][split] = [path]
        if part != "test":
            graphs = {
                str(gqa_id(row, "str")): {"width": row.width, "height": row.height, "objects": {}}
                for row in parts[part]
            }
            tiny.write_json(data.root / f"gqa/{part}_sceneGraphs.json", graphs)
            table["scene_graphs"][split] = f"gqa/{part}_sceneGraphs.json"
        data.write_images(
            "gqa/images", parts[part], [f"{gqa_id(r, 'str')}.jpg" for r in parts[part]]
        )
    data.sources["gqa"] = table


# --- Flickr30k ------------------------------------------------------------------------------------


def write_flickr30k(data: RawData, splits: dict[str, str]) -> None:
    """Writes Flickr30k Entities; ``splits`` has the part that each split of the recipe reads."""
    for folder in ("Annotations", "Sentences"):
        (data.root / "flickr30k" / folder).mkdir(parents=True, exist_ok=True)
    for row in data.truth.flickr30k:
        split = next((s for s, part in splits.items() if part == row.part), "")
        text = data.caption("flickr30k", split, row)
        x, y, width, height = data.box(row)
        box = f"<xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + width}</xmax><ymax>{y + height}</ymax>"
        size = f"<size><width>{row.width}</width><height>{row.height}</height></size>"
        entity = f"<object><name>1</name><bndbox>{box}</bndbox></object>"
        xml = f"<annotation>{size}{entity}</annotation>"
        tiny.write(data.root / f"flickr30k/Annotations/{row.id}.xml", xml.encode())
        line = f"[/EN#1/other A {text}] is here ."
        tiny.write(data.root / f"flickr30k/Sentences/{row.id}.txt", line.encode())
    table = {"annotations": "flickr30k", "split_files": {}, "images": ["flickr30k/images"]}
    for split, part in splits.items():
        table["split_files"][split] = write_flickr_list(data, part)
    rows = [row for row in data.truth.flickr30k if row.part in splits.values()]
    data.write_images("flickr30k/images", rows)
    data.sources["flickr30k"] = table


def write_flickr_list(data: RawData, part: str) -> str:
    path = f"flickr30k/{part}.txt"
    style = data.rng.choice(["str", "str", "str", "padded", "name"])
    lines = [f"{spelled(row, style)}\n" for row in data.truth.flickr30k if row.part == part]
    tiny.write(data.root / path, "".join(lines).encode())
    return path


# --- MDETR's JSON, LVIS ---------------------------------------------------------------------------


def write_mdetr_json(data: RawData, splits: Sequence[str]) -> None:
    """Writes captions of images of all datasets, some images in several splits' files."""
    rng = data.rng
    odd = {namespace: rng.random() < 0.15 for namespace in PLAIN_SOURCES}
    table: dict[str, Any] = {"files": {}, "images": ["mdetr/images"]}
    for split in splits:
        images: list[dict[str, Any]] = []
        annotations = []
        for row in rng.sample(data.truth.rows, min(6, len(data.truth.rows))):
            is_odd = odd[row.namespace]
            source = rng.choice((ODD_SOURCES if is_odd else PLAIN_SOURCES)[row.namespace])
            name = f"{row.namespace}_{row.file}"
            text = data.caption("mdetr_json", split, row, odd=is_odd)
            image_id, box = data.new_id(), data.box(row)
            id_style = data.id_style("name")
            image = {
                "id": image_id,
                "file_name": name,
                "width": row.width,
                "height": row.height,
                "caption": f"a {text}",
                "dataset_name": "mixed",
                "data_source": source,
                "original_id": spelled(row, id_style),
                "tokens_negative": [],
            }
            if row.namespace == "flickr30k" and not is_odd:  # as published
                image = {**image, "dataset_name": "flickr", "sentence_id": 0}
                image["original_img_id"] = image.pop("original_id")
                del image["data_source"]
            images.append(image)
            annotations.append(
                {
                    "id": number_spelled(data.new_id(), rng.choice(["int", "int", "float"])),
                    "image_id": image_id,
                    "bbox": list(box),
                    "tokens_positive": [[2, 2 + len(text)]],
                    "area": 0.8 * box[2] * box[3],
                    "iscrowd": 0,
                    "category_id": 1,
                }
            )
            data.write_images("mdetr/images", [row], [name])
        path = f"mdetr/{split}.json"
        tiny.write_json(data.root / path, {"images": images, "annotations": annotations})
        table["files"][split] = [path]
    data.sources["mdetr_json"] = table


def lvis_parts(data: RawData) -> dict[str, list[ImageRow]]:
    """Returns LVIS's images, which are of train2014 and val2014."""
    parts: dict[str, list[ImageRow]] = {"train": [], "minival": []}
    for row in data.truth.coco:
        if row.part != "test2015":
            parts[data.rng.choice(["train", "train", "minival"])].append(row)
    return parts


def write_lvis_file(data: RawData, part: str, rows: Sequence[ImageRow], split: str = "") -> str:
    """Writes an LVIS file in which each image shows a class of its own, which is its caption."""
    style = data.id_style()
    images = [
        {
            **image,
            "coco_url": f"http://images.cocodataset.org/{row.part}/{row.file}",
            "neg_category_ids": [],
            "not_exhaustive_category_ids": [],
        }
        for row, image in zip(rows, coco_images(rows, style), strict=True)
    ]
    for image in images:
        del image["file_name"]
    annotations, categories = [], []
    for number, row in enumerate(rows, 1):
        name = data.caption("lvis", split, row) if split else "object"
        categories.append({"id": number, "name": name.replace(" ", "_")})
        x, y, width, height = data.box(row)
        annotations.append(
            {
                "id": data.new_id(),
                "image_id": spelled(row, style),
                "category_id": number,
                "bbox": [x, y, width, height],
                "area": 0.8 * width * height,
            }
        )
    categories = categories or [{"id": 1, "name": "object"}]
    path = f"lvis/lvis_v1_{part}.json"
    tables = {"images": images, "annotations": annotations, "categories": categories}
    tiny.write_json(data.root / path, tables)
    return path


def write_lvis(data: RawData, parts: dict[str, list[ImageRow]], splits: dict[str, str]) -> None:
    """Writes LVIS; ``splits`` has the part that each split of the recipe reads."""
    table: dict[str, Any] = {"annotations": {}, "images": ["lvis/images"]}
    for split, part in splits.items():
        table["annotations"][split] = write_lvis_file(data, part, parts[part], split)
        data.write_images("lvis/images", parts[part])
        data.read_tables += parts[part]
    data.sources["lvis"] = table
