"""Versions and re-hosts of annotation files: each is built, and compared with a plain reader.

The plain readers are a few lines of json, pickle and pyarrow in this module. Every set is also
verified against its raw files by the readers of ``mdetr-shards verify --raw``.
"""

import json
import pickle
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shards.__main__ import main as shards
from shards.format import manifest
from shards.format.source_counts import SourceCounts
from tests import tiny

#: A caption of a set: image, text, and its boxes (x0, y0, x1, y1).
Caption = tuple[str, str, tuple[tuple[float, ...], ...]]

SEPARATE = {"train": {"shards": 1, "combine": False}}
MARK = b"\xef\xbb\xbf"


def build(root: Path, capsys: pytest.CaptureFixture[str], **tables: Any) -> SourceCounts:
    """Builds, verifies against the raw files, and returns the counts of the only source."""
    tables = {"splits": SEPARATE, "reject_limit": 0.0, **tables}
    assert tiny.build(root, "--overwrite", **tables) == 0, capsys.readouterr().err
    capsys.readouterr()
    status = shards(["verify", str(root / "shards"), "--raw", str(root), "--quiet"])
    report = capsys.readouterr().out
    assert status == 0, report
    assert "raw files" not in report  # which lists what was not compared with them
    [counts] = manifest.load(root / "shards").sources.values()
    return counts


def captions(root: Path) -> Counter[Caption]:
    return Counter(
        (key, caption["text"], _sorted(region["box"] for region in caption["regions"]))
        for key, sample in tiny.samples(root).items()
        for caption in sample["captions"]
    )


def _sorted(boxes: Any) -> tuple[tuple[float, ...], ...]:
    return tuple(sorted(tuple(box) for box in boxes))


def corners(x: float, y: float, width: float, height: float) -> tuple[float, ...]:
    return (x, y, x + width, y + height)


# --- Visual Genome --------------------------------------------------------------------------------

PHRASES = ("a red cat", "the old door", "two dogs", "a tree")


def region_at(number: int) -> dict[str, int]:
    return {"x": 3 * number, "y": 2 * number, "width": 20 + number, "height": 15}


def write_vg(root: Path, version: str) -> dict[str, Any]:
    """Writes Visual Genome as a version states it, three images with regions and one without."""
    image_id = "id" if version == "1.0" else "image_id"
    region_id = "id" if version == "1.0" else "region_id"
    rows, descriptions, graphs = [], [], []
    for number in range(1, 5):
        tiny.write(root / f"vg/images/{number}.jpg", tiny.image_file(hue=number))
        row = {image_id: number, "width": tiny.WIDTH, "height": tiny.HEIGHT}
        row["url"] = f"https://cs.stanford.edu/people/rak248/VG_100K/{number}.jpg"
        rows.append(row if version == "1.0" else row | {"coco_id": None, "flickr_id": None})
        regions = [
            {region_id: 10 * number + i, "phrase": phrase, **region_at(number + i)}
            for i, phrase in enumerate(PHRASES[:number] if number < 4 else [])
        ]
        image = {"image" if version == "1.0" else "image_id": number}
        descriptions.append({"id": number, "regions": [image | region for region in regions]})
        objects = {"objects": [], "synsets": []}
        graphs.append({image_id: number, "regions": [objects | region for region in regions]})
    tiny.write_json(root / "vg/image_data.json", rows)
    tiny.write_json(root / "vg/region_descriptions.json", descriptions)
    tiny.write_json(root / "vg/region_graphs.json", graphs)
    return {"image_data": "vg/image_data.json", "images": ["vg/images"]}


@pytest.mark.parametrize("file", ["region_descriptions", "region_graphs"])
@pytest.mark.parametrize("version", ["1.0", "1.4"])
def test_visual_genome_of_each_version(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], version: str, file: str
) -> None:
    table = write_vg(tmp_path, version) | {file: f"vg/{file}.json"}
    counts = build(tmp_path, capsys, sources={"vg": table})
    elements = json.loads((tmp_path / f"vg/{file}.json").read_text())
    stated = Counter(
        (
            f"vg/{element.get('id', element.get('image_id'))}",
            region["phrase"],
            (corners(region["x"], region["y"], region["width"], region["height"]),),
        )
        for element in elements
        for region in element["regions"]
    )
    assert stated.total() == 6
    assert captions(tmp_path) == stated
    assert (counts.read, counts.in_shards) == (6, 6)
    assert (counts.boxes.read, counts.boxes.in_shards) == (6, 6)


@pytest.mark.parametrize(
    ("files", "count"), [({}, "none"), ({"region_graphs": "a", "region_descriptions": "b"}, "both")]
)
def test_visual_genome_has_one_file_of_regions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: dict[str, str], count: str
) -> None:
    table = {"image_data": "vg/image_data.json", "images": ["vg/images"]} | files
    assert tiny.build(tmp_path, sources={"vg": table}) == 1
    message = f"sources.vg: state region_graphs or region_descriptions; it has {count} of them"
    assert message in capsys.readouterr().err


# --- referring expressions ------------------------------------------------------------------------

IMAGES = (7001, 7002, 581857)


def coco_name(image_id: int) -> str:
    return f"COCO_train2014_{image_id:012d}.jpg"


def instances() -> dict[str, Any]:
    """Returns three images with three annotations each, of classes 3 and 4."""
    images, annotations = [], []
    for image_id in IMAGES:
        url = f"http://farm6.staticflickr.com/1/{image_id}99_ab_z.jpg"
        images.append(tiny.coco_image(image_id, file_name=coco_name(image_id), flickr_url=url))
        annotations += [
            tiny.coco_annotation(
                10 * image_id + i,
                image_id,
                [40 + 11.5 * i, 33, 30 + i, 20],
                category_id=3 + i % 2,
                iscrowd=0,
                area=400.25,
            )
            for i in range(3)
        ]
    return {"images": images, "annotations": annotations}


def references() -> list[dict[str, Any]]:
    """Returns two references to each image, with two and one sentences, in train and in val."""
    result = []
    for number, image_id in enumerate(IMAGES):
        for i, split in enumerate(("train", "val")):
            texts = [f"the red cat {number}{i}", f"left dog {number}{i}"][: 2 - i]
            sentences = {100 * number + 10 * i + k: text for k, text in enumerate(texts)}
            reference = tiny.reference(image_id, 10 * image_id + i, sentences, split)
            file_name = coco_name(image_id).replace(".jpg", f"_{number}.jpg")
            result.append(
                reference | {"category_id": 3 + i % 2, "ref_id": number, "file_name": file_name}
            )
    return result


def write_images(root: Path) -> list[str]:
    for image_id in IMAGES:
        image = tiny.image_file(hue=image_id % 7)
        tiny.write(root / "coco/train2014" / coco_name(image_id), image)
    return ["coco/train2014"]


def write_instances(root: Path) -> dict[str, Any]:
    tiny.write_json(root / "coco/instances.json", instances())
    return {"instances": ["coco/instances.json"], "images": write_images(root)}


def stated(references: Iterable[dict[str, Any]], split: str = "train") -> Counter[Caption]:
    """Returns the captions that plain references of ``refs(*).p`` state."""
    boxes = {a["id"]: corners(*a["bbox"]) for a in instances()["annotations"]}
    return Counter(
        (
            f"coco/{int(reference['image_id'])}",
            sentence["sent"],
            _sorted(boxes[i] for i in np.atleast_1d(reference["ann_id"]).tolist()),
        )
        for reference in references
        if reference["split"] == split
        for sentence in reference["sentences"]
    )


def check_references(
    root: Path, capsys: pytest.CaptureFixture[str], table: dict[str, Any], total: int = 9
) -> SourceCounts:
    counts = build(root, capsys, sources={"coco": table})
    assert captions(root) == stated(references())
    assert (counts.read, counts.in_shards, counts.not_asked_for) == (total, 6, total - 6)
    assert counts.boxes.in_shards == 6
    return counts


def as_numpy(value: Any) -> Any:
    """Returns plain values with numpy's scalars for their numbers, as pandas has them."""
    if isinstance(value, dict):
        return {key: as_numpy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_numpy(item) for item in value]
    return np.int64(value) if isinstance(value, int) else value


@pytest.mark.parametrize("form", ["pickle", "json", "numpy 1", "numpy 2", "protocol 0"])
def test_references_of_each_form(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    plain = references()
    content = {
        "pickle": pickle.dumps(plain, 2),
        "json": MARK + json.dumps(plain, indent=1).replace("\n", "\r\n").encode(),
        "numpy 1": pickle.dumps(as_numpy(plain), 2).replace(b"numpy._core.", b"numpy.core."),
        "numpy 2": pickle.dumps(as_numpy(plain), 4),
        "protocol 0": pickle.dumps(as_numpy(plain), 0),
    }[form]
    tiny.write(tmp_path / "refs(unc).p", content)
    table = write_instances(tmp_path) | {"refs": {"refcoco": "refs(unc).p"}}
    check_references(tmp_path, capsys, table)


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


def hub_rows(split: str) -> list[dict[str, Any]]:
    """Returns rows with the columns of jxu124/refcoco."""
    content = instances()
    images = {image["id"]: image for image in content["images"]}
    annotations = {annotation["id"]: annotation for annotation in content["annotations"]}
    rows = []
    for reference in references():
        annotation = annotations[reference["ann_id"]]
        image_id = reference["image_id"]
        sentences = [
            s | {"raw": s["sent"].upper(), "tokens": s["sent"].split()}
            for s in reference["sentences"]
        ]
        row = reference | {
            "sentences": sentences,
            "sent_ids": [s["sent_id"] for s in sentences],
            "raw_anns": json.dumps(annotation),
            "raw_image_info": json.dumps(images[image_id]),
            "raw_sentences": json.dumps(sentences),
            "image_path": f"coco/train2014/{coco_name(image_id)}",
            "bbox": list(corners(*annotation["bbox"])),  # not as in COCO
            "captions": [s["sent"] for s in sentences],
            "global_image_id": f"coco.{image_id}",
            "anns_id": f"refcoco.{annotation['id']}",
        }
        rows += [row] if row["split"] == split else []
    return rows


def evaluation_rows(split: str) -> list[dict[str, Any]]:
    """Returns rows with the columns of lmms-lab/RefCOCO."""
    annotations = {annotation["id"]: annotation for annotation in instances()["annotations"]}
    return [
        {
            "question_id": str(reference["ref_id"]),
            "image": {"bytes": b"\xff\xd8", "path": reference["file_name"]},
            "question": "Describe the region.",
            "answer": [sentence["sent"] for sentence in reference["sentences"]],
            "segmentation": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            "bbox": [float(v) for v in annotations[reference["ann_id"]]["bbox"]],
            "iscrowd": 0,
            "file_name": reference["file_name"],
        }
        for reference in references()
        if reference["split"] == split
    ]


@pytest.mark.parametrize(
    ("form", "has_instances"),
    [
        ("jxu124/refcoco", False),
        ("jxu124/refcoco", True),
        ("lmms-lab/RefCOCO", False),
        ("bbox and sentences", False),
    ],
)
def test_parquet_of_hubs_needs_no_instances(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, has_instances: bool
) -> None:
    paths = []
    for split, name in {"train": "train", "val": "validation"}.items():
        rows = evaluation_rows(split) if form == "lmms-lab/RefCOCO" else hub_rows(split)
        if form == "bbox and sentences":
            boxes = {a["id"]: [float(v) for v in a["bbox"]] for a in instances()["annotations"]}
            left_out = {"raw_anns", "raw_image_info", "split"}
            rows = [
                {key: value for key, value in row.items() if key not in left_out}
                | {"bbox": boxes[row["ann_id"]]}
                for row in rows
            ]
        path = tmp_path / f"hub/data/{name}-00000-of-00001-0a1b2c.parquet"
        write_parquet(path, rows)
        paths.append(str(path.relative_to(tmp_path)))
    table = write_instances(tmp_path) if has_instances else {"images": write_images(tmp_path)}
    counts = check_references(tmp_path, capsys, table | {"refs": {"refcoco": paths}})
    # pyarrow and nothing else.
    rows = [row for path in paths for row in pq.read_table(tmp_path / path).to_pylist()]
    key = "answer" if form == "lmms-lab/RefCOCO" else "sentences"
    assert counts.read == sum(len(row[key]) for row in rows)
    train = pq.read_table(tmp_path / paths[0]).to_pylist()
    assert counts.in_shards == sum(len(row[key]) for row in train)


def test_parquet_of_hubs_holds_out_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_parquet(tmp_path / "val-00000-of-00001.parquet", evaluation_rows("val")[:2])
    tiny.write_refs(tmp_path / "refs.p", references())
    table = write_instances(tmp_path) | {"refs": {"refcoco": "refs.p"}}
    exclude = {"refcoco": {"refs": ["val-00000-of-00001.parquet"]}}
    counts = build(tmp_path, capsys, sources={"coco": table}, exclude=exclude)
    assert (counts.read, counts.excluded, counts.in_shards) == (9, 4, 2)
    assert tiny.samples(tmp_path).keys() == {f"coco/{IMAGES[2]}"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "a"}], "expected columns of image_id, ann_id"),
        ([{"image_id": 1, "sentences": ["a cat"]}], "no boxes: it has neither raw_anns nor bbox"),
        ([{"image_id": 1, "bbox": [1.0, 1.0, 2.0, 2.0]}], "no expressions: it has neither"),
        (
            [{"image_id": 1, "bbox": [1.0, 1.0, 2.0, 2.0], "answer": ["a cat"]}],
            "no column split, and none in the name of the file",
        ),
        (
            [{"file_name": "a", "bbox": [1.0, 1.0, 2.0, 2.0], "answer": ["a"], "split": "val"}]
            * 10,
            "bbox looks like corners (x0, y0, x1, y1): of 10 boxes, 0 cannot be x, y, ",
        ),
    ],
)
def test_parquet_of_another_form_is_refused_with_what_it_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[dict[str, Any]], message: str
) -> None:
    write_parquet(tmp_path / "refs.parquet", rows)
    table = {"images": write_images(tmp_path), "refs": {"refcoco": "refs.parquet"}}
    assert tiny.build(tmp_path, sources={"coco": table}) == 1
    assert f"refs.parquet: {message}" in capsys.readouterr().err
    assert not (tmp_path / "shards").exists()


def test_row_with_an_empty_annotation_is_rejected_and_its_bbox_is_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = hub_rows("train")
    empty = {0: None, 1: ""}
    for number, annotation in empty.items():
        rows[number]["raw_anns"] = annotation
    write_parquet(tmp_path / "train-00000-of-00001.parquet", rows)
    table = write_instances(tmp_path) | {"refs": {"refcoco": "train-00000-of-00001.parquet"}}
    counts = build(tmp_path, capsys, sources={"coco": table}, reject_limit=1.0)
    assert (counts.read, counts.in_shards, counts.rejected) == (6, 2, 4)
    of_annotations = [r for r in references() if r["split"] == "train"][len(empty) :]
    assert captions(tmp_path) == stated(of_annotations)
    rejected = pq.read_table(tmp_path / "shards/rejected.parquet").to_pylist()
    assert {(row["reason"], row["detail"]) for row in rejected} == {
        ("no usable box", "raw_anns is empty")
    }


def test_references_without_boxes_need_instances(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_refs(tmp_path / "refs.p", references())
    table = {"images": write_images(tmp_path), "refs": {"refcoco": "refs.p"}}
    assert tiny.build(tmp_path, sources={"coco": table}) == 1
    message = "refs.p: it states no boxes; state the instances that do"
    assert message in capsys.readouterr().err
    assert not (tmp_path / "shards").exists()


def test_splits_of_another_division_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """refs(google).p has train, val and test, where the recipe of refs(unc).p has testA."""
    rows = references()
    rows[5]["split"] = "test"
    tiny.write_refs(tmp_path / "refs(google).p", rows)
    sources = {"coco": write_instances(tmp_path) | {"refs": {"refcoco": "refs(google).p"}}}
    splits = SEPARATE | {"testA": {"shards": 1, "allow_empty": True}}
    counts = build(tmp_path, capsys, sources=sources, splits=splits)
    plain = pickle.loads((tmp_path / "refs(google).p").read_bytes())
    by_split = Counter(row["split"] for row in plain for _ in row["sentences"])
    assert by_split == {"train": 6, "val": 2, "test": 1}
    assert captions(tmp_path) == stated(plain)
    assert (counts.read, counts.in_shards, counts.not_asked_for) == (9, 6, 3)
    left_out = manifest.load(tmp_path / "shards").not_asked_for
    assert {row.what: row.captions for row in left_out} == {
        f"split {split} of refs(google).p": by_split[split] for split in ("test", "val")
    }
    splits = SEPARATE | {"testA": {"shards": 1}}
    assert tiny.build(tmp_path, "--overwrite", sources=sources, splits=splits) == 1
    assert "testA" in capsys.readouterr().err


@pytest.mark.parametrize("dataset", ["grefcoco", "refcoco"])
def test_grefcoco_has_several_boxes_on_one_phrase(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dataset: str
) -> None:
    several, one, none, empty, of_val = (
        references()[0] | {"ref_id": number, "no_target": False} for number in range(5)
    )
    first = 10 * IMAGES[0]
    rows = [
        several | {"ann_id": [first, first + 1, first + 2], "category_id": [3, 4]},
        one | {"ann_id": [first + 1], "category_id": [4]},
        none | {"ann_id": [-1], "category_id": [-1], "no_target": True},
        empty | {"ann_id": [], "category_id": []},
        of_val | {"ann_id": [first], "category_id": [3], "split": "val"},
    ]
    rows = [
        row
        | {"sentences": [{"sent_id": 10 * i + k, "sent": f"the {k} cats {i}"} for k in range(2)]}
        for i, row in enumerate(rows)
    ]
    tiny.write_json(tmp_path / "grefs(unc).json", rows)
    table = write_instances(tmp_path) | {"refs": {dataset: "grefs(unc).json"}}
    counts = build(tmp_path, capsys, sources={"coco": table})
    plain = json.loads((tmp_path / "grefs(unc).json").read_text())
    with_target = [row for row in plain if row["ann_id"] not in ([], [-1])]
    assert captions(tmp_path) == stated(with_target)
    assert stated(with_target).total() == 4
    assert (counts.read, counts.in_shards, counts.not_asked_for) == (10, 4, 6)
    assert (counts.boxes.read, counts.boxes.in_shards, counts.boxes.not_asked_for) == (10, 8, 2)
    left_out = manifest.load(tmp_path / "shards").not_asked_for
    assert {row.what: (row.captions, row.boxes) for row in left_out} == {
        "expressions of no object of grefs(unc).json": (4, 0),
        "split val of grefs(unc).json": (2, 2),
    }
    [sample] = tiny.samples(tmp_path).values()
    classes = [[region.get("category") for region in c["regions"]] for c in sample["captions"]]
    assert Counter(map(tuple, map(sorted, classes))) == {(3, 3, 4): 2, (4,): 2}
    spans = {str(r["tokens_positive"]) for c in sample["captions"] for r in c["regions"]}
    assert spans == {"[[0, 12]]"}


def test_grefcoco_has_expressions_of_no_object_if_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row | {"ref_id": i, "split": "train"} for i, row in enumerate(references()[:3])]
    rows[1] |= {"ann_id": [-1], "category_id": [-1], "no_target": True}
    rows[2] |= {"ann_id": [], "category_id": []}
    tiny.write_json(tmp_path / "grefs(unc).json", rows)
    table = write_instances(tmp_path) | {"refs": {"grefcoco": "grefs(unc).json"}}
    counts = build(tmp_path, capsys, sources={"coco": table | {"no_target": True}})
    plain = json.loads((tmp_path / "grefs(unc).json").read_text())
    sentences = [[s["sent"] for s in row["sentences"]] for row in plain]
    written = {
        caption["text"]: len(caption["regions"])
        for sample in tiny.samples(tmp_path).values()
        for caption in sample["captions"]
    }
    assert written == {
        text: int(number == 0) for number, texts in enumerate(sentences) for text in texts
    }
    assert counts.in_shards == sum(map(len, sentences))
    assert counts.not_asked_for == 0


def test_expressions_of_no_object_are_proven_negatives_of_a_recipe_that_asks_for_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If their noun is in no other expression, and no annotation is missing."""
    texts = ["a red cat", "a blue cat", "kite on the left", "!", "a boat", "a lost dog"]
    rows = []
    for number, text in enumerate(texts):
        row = references()[0] | {"ref_id": number, "split": "val" if number == 4 else "train"}
        row |= {"sentences": [{"sent_id": number, "sent": text}]}
        rows.append(row | ({"ann_id": [-1], "no_target": True} if number else {}))
    rows[-1] |= {"ann_id": [], "no_target": False}
    tiny.write_json(tmp_path / "grefs(unc).json", rows)
    table = write_instances(tmp_path) | {"refs": {"grefcoco": "grefs(unc).json"}}
    counts = build(tmp_path, capsys, sources={"coco": table}, negatives={"proven": 9})
    [sample] = tiny.samples(tmp_path).values()
    absent = {
        caption["text"][slice(*phrase["span"])]: (phrase["record"], phrase["reason"])
        for caption in sample["captions"]
        for phrase in caption.get("absent", [])
    }
    assert absent == {"kite on the left": ("2", "expression of no object")}
    assert (counts.read, counts.in_shards, counts.not_asked_for) == (3, 1, 2)
    phrases = (manifest.load(tmp_path / "shards").absent or {})["coco"]
    assert (phrases.read, phrases.in_shards, phrases.rejected) == (2, 1, 1)
    reasons = {row.reason for row in tiny.rejected(tmp_path)}
    assert reasons == {"absent phrase names what is present", "no words"}


# --- MDETR's JSON ---------------------------------------------------------------------------------


def mdetr_json(dataset: str, offset: int = 0) -> dict[str, Any]:
    """Returns a file of MDETR's fine-tuning data, with the fields that each converter writes."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, image_id in enumerate((*IMAGES, *IMAGES[:1])):
        text = f"a red cat {number + offset}"
        image = {
            "file_name": f"{image_id}.jpg",
            "height": tiny.HEIGHT,
            "width": tiny.WIDTH,
            "id": number,
            "original_id": image_id,
            "caption": text,
            "dataset_name": dataset,
            "tokens_negative": [[0, len(text)]],
        }
        box = [1.5 + number, 2, 30, 20]
        annotation = {"area": 600.0, "iscrowd": 0, "image_id": number, "category_id": 1}
        annotation |= {"id": number, "bbox": box, "tokens_positive": [[0, len(text)]]}
        if dataset.startswith("refcoco"):
            image["file_name"] = coco_name(image_id)
            annotation |= {"category_id": 3, "original_id": 10 * image_id}
        elif dataset == "phrasecut":
            image["task_id"] = f"{image_id}__{number}"
            x, y, w, h = box
            annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h]]
        elif dataset == "gqa":
            question = {"question_type": "obj", "answer": "cat", "questionId": f"0{number}"}
            image |= {"original_id": str(image_id)} | question
        elif dataset == "lvis":
            name = f"train2017/{image_id:012d}.jpg"
            image |= {"file_name": name, "coco_url": f"http://images.cocodataset.org/{name}"}
        images.append(image)
        if dataset == "lvis" and number == 3:
            continue  # a class that the image does not show
        annotations.append(annotation)
    tables = {"info": [], "licenses": [], "categories": []}
    return {"images": images, "annotations": annotations, **tables}


NAMESPACES = {"refcoco": "coco", "refcoco+": "coco", "refcocog": "coco", "lvis": "coco"}


def stated_by_mdetr_json(path: Path) -> Counter[Caption]:
    content = json.loads(path.read_text())
    return Counter(
        (
            f"{NAMESPACES.get(image['dataset_name'], 'vg')}/{int(image['original_id'])}",
            image["caption"],
            _sorted(
                corners(*annotation["bbox"])
                for annotation in content["annotations"]
                if annotation["image_id"] == image["id"]
            ),
        )
        for image in content["images"]
    )


def write_mdetr_images(root: Path) -> list[str]:
    for image_id in IMAGES:
        image = tiny.image_file(hue=image_id % 7)
        tiny.write(root / "vg" / f"{image_id}.jpg", image)
        tiny.write(root / "coco/train2017" / f"{image_id:012d}.jpg", image)
    return ["vg", "coco/train2017"]


@pytest.mark.parametrize("dataset", ["refcoco+", "refcocog", "phrasecut", "gqa", "lvis"])
def test_fine_tuning_files_of_mdetr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dataset: str
) -> None:
    path = tiny.write_json(tmp_path / f"finetune_{dataset}_train.json", mdetr_json(dataset))
    table = {"files": {"train": [path.name]}, "images": write_mdetr_images(tmp_path)}
    counts = build(tmp_path, capsys, sources={"mdetr_json": table}, rules="mdetr")
    assert captions(tmp_path) == stated_by_mdetr_json(path)
    boxes = 3 if dataset == "lvis" else 4
    assert (counts.read, counts.in_shards, counts.boxes.in_shards) == (4, 4, boxes)
    all_captions = [c for s in tiny.samples(tmp_path).values() for c in s["captions"]]
    questions = [c["question"] for c in all_captions if "question" in c]
    assert len(questions) == (4 if dataset == "gqa" else 0)
    assert {(q["answer"], q["semantic_type"]) for q in questions} <= {("cat", "obj")}
    assert {q["id"] for q in questions} <= {"00", "01", "02", "03"}


def test_files_of_mdetr_whose_ids_begin_with_0_do_not_clash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of one image, with one name in two folders, and with ids of other spellings."""
    first, second = tmp_path / "a/train.json", tmp_path / "b/train.json"
    tiny.write_json(first, mdetr_json("refcoco"))
    content = mdetr_json("refcoco", offset=10)
    tiny.write_json(second, content)
    stated = stated_by_mdetr_json(first) + stated_by_mdetr_json(second)
    for image in content["images"]:
        image |= {"id": float(image["id"]), "original_id": f"{image['original_id']:012d}"}
    for annotation in content["annotations"]:
        annotation["image_id"] = str(annotation["image_id"])
    second.write_bytes(MARK + json.dumps(content, indent=1).replace("\n", "\r\n").encode())
    files = {"train": [str(path.relative_to(tmp_path)) for path in (first, second)]}
    table = {"files": files, "images": write_mdetr_images(tmp_path)}
    counts = build(tmp_path, capsys, sources={"mdetr_json": table}, rules="mdetr")
    assert captions(tmp_path) == stated
    assert (counts.read, counts.in_shards, counts.boxes.in_shards) == (8, 8, 8)


# --- names of images ------------------------------------------------------------------------------


def test_images_of_coco_are_found_under_the_names_of_either_year(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_instances(tmp_path) | {"refs": {"refcoco": "refs.p"}}
    tiny.write_refs(tmp_path / "refs.p", references())
    members = {
        f"{2017 - number % 2}/{image_id:012d}.jpg": tiny.image_file(hue=image_id % 7)
        for number, image_id in enumerate(IMAGES)
    }
    tiny.write_zip(tmp_path / "train2017.zip", members)
    for name, content in members.items():
        tiny.write(tmp_path / name, content)
    sets = []
    for images in (["coco/train2014"], ["2017", "2016"], ["train2017.zip"]):
        check_references(tmp_path, capsys, table | {"images": images})
        sets.append({path.name: path.read_bytes() for path in (tmp_path / "shards").glob("*.tar")})
    assert sets[0] == sets[1] == sets[2]


@pytest.mark.parametrize("name", ["file_name", "file_name of 2014", "none"])
def test_lvis_states_names_of_images_in_several_ways(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    images, annotations = [], []
    for number, image_id in enumerate(IMAGES):
        image = {"id": image_id, "width": tiny.WIDTH, "height": tiny.HEIGHT}
        image |= {
            "file_name": {"file_name": f"{image_id:012d}.jpg"},
            "file_name of 2014": {"file_name": coco_name(image_id)},
            "none": {},
        }[name]
        images.append(image | {"neg_category_ids": [2], "not_exhaustive_category_ids": []})
        annotation = {"id": number, "image_id": image_id, "category_id": 1}
        annotations.append(annotation | {"bbox": [1 + number, 2, 30, 20], "area": 600})
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog_(animal)"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    tiny.write_json(tmp_path / "lvis.json", content)
    write_mdetr_images(tmp_path)
    table = {"annotations": {"train": "lvis.json"}, "images": ["coco/train2017"]}
    assert tiny.build(tmp_path, sources={"lvis": table}, splits=SEPARATE, reject_limit=0.0) == 0
    plain = json.loads((tmp_path / "lvis.json").read_text())
    stated = Counter(
        (f"coco/{a['image_id']}", "cat", (corners(*a["bbox"]),)) for a in plain["annotations"]
    ) + Counter((f"coco/{image['id']}", "dog", ()) for image in plain["images"])
    assert captions(tmp_path) == stated
    capsys.readouterr()
    assert shards(["verify", str(tmp_path / "shards"), "--raw", str(tmp_path), "--quiet"]) == 0
    report = capsys.readouterr().out
    assert "not checked: sentences of lvis against raw files: no raw reader" in report


@pytest.mark.parametrize("packing", ["folder", "zip"])
def test_images_of_unusual_names_agree_with_their_raw_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], packing: str
) -> None:
    content = instances()
    names = ["fünf [1].jpg", "left view (2)%20#3.JPG", "sub folder/{a}~b.jpg"]
    members = {}
    for image, name in zip(content["images"], names, strict=True):
        image["file_name"] = name
        members[name] = tiny.image_file(hue=image["id"] % 7)
    tiny.write(tmp_path / "instances.json", json.dumps(content, ensure_ascii=False).encode())
    tiny.write_refs(tmp_path / "refs.p", references())
    table = {"instances": ["instances.json"], "refs": {"refcoco": "refs.p"}}
    if packing == "zip":
        tiny.write_zip(tmp_path / "photos.zip", members)
    for name, photo in members.items() if packing == "folder" else ():
        tiny.write(tmp_path / "photos" / name, photo)
    table |= {"images": ["photos" if packing == "folder" else "photos.zip"]}
    check_references(tmp_path, capsys, table)
    files = {sample["file"]: sample["image"] for sample in tiny.samples(tmp_path).values()}
    assert files == members


# --- numbers, marks and malformed records in all sources ------------------------------------------


def write_flickr30k(root: Path) -> dict[str, Any]:
    sentences = ["[/EN#1/people A man] sits .", "A dog is here ."]
    box = "<bndbox><xmin>3</xmin><ymin>4</ymin><xmax>50</xmax><ymax>60</ymax></bndbox>"
    boxes = f"<object><name>1</name>{box}</object>"
    return tiny.write_flickr30k(root, {7: sentences, 8: sentences}, boxes)


def write_gqa(root: Path) -> dict[str, Any]:
    questions = {
        "01": tiny.gqa_question("7", "Is the cat red?", types={"semantic": "attr"}),
        "02": tiny.gqa_question("8", "Is there a dog?", types={"semantic": "obj"}),
    }
    graphs = {id_: tiny.scene_graph(a=(1, 2, 30, 40)) for id_ in ("7", "8")}
    return tiny.write_gqa(root, questions, graphs)


def write_references(root: Path) -> dict[str, Any]:
    tiny.write_json(root / "refs.json", references())
    return write_instances(root) | {"refs": {"refcoco": "refs.json"}}


def write_mdetr(root: Path) -> dict[str, Any]:
    tiny.write_json(root / "mixed.json", mdetr_json("refcoco"))
    return {"files": {"train": ["mixed.json"]}, "images": write_mdetr_images(root)}


def write_graphs(root: Path) -> dict[str, Any]:
    return write_vg(root, "1.4") | {"region_graphs": "vg/region_graphs.json"}


def write_descriptions(root: Path) -> dict[str, Any]:
    return write_vg(root, "1.0") | {"region_descriptions": "vg/region_descriptions.json"}


WRITERS = {
    "coco": write_references,
    "flickr30k": write_flickr30k,
    "gqa": write_gqa,
    "mdetr_json": write_mdetr,
    "vg": write_graphs,
    "vg of descriptions": write_descriptions,
}
ID_FIELDS = {"id", "image_id", "ann_id", "sent_id", "region_id", "original_id", "imageId"}


def respelled(value: Any, count: list[int]) -> Any:
    """Returns JSON whose ids are floats and texts of floats by turns, and its sizes floats."""
    if isinstance(value, list):
        return [respelled(item, count) for item in value]
    if not isinstance(value, dict):
        return value
    result = {}
    for key, item in value.items():
        if key in ID_FIELDS and isinstance(item, int | str):
            count[0] += 1
            item = float(item) if count[0] % 2 else f"{float(item)}"
        elif key in ("width", "height"):
            item = float(item)
        result[key] = respelled(item, count)
    return result


def raw_files(root: Path) -> Iterable[Path]:
    return (path for path in root.rglob("*.*") if path.suffix in (".json", ".txt", ".xml"))


@pytest.mark.parametrize("source", ["coco", "flickr30k", "gqa", "mdetr_json", "vg"])
def test_spelling_of_ids_marks_and_line_ends_change_no_byte(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    sets = []
    for root in (tmp_path / "plain", tmp_path / "respelled"):
        table = WRITERS[source](root)
        for path in list(raw_files(root)) if root.name == "respelled" else ():
            text = path.read_text()
            if path.suffix == ".json":
                text = json.dumps(respelled(json.loads(text), [0]), indent=1)
            path.write_bytes(MARK + text.replace("\n", "\r\n").encode())
        counts = build(root, capsys, sources={source: table})
        assert counts.read - counts.not_asked_for == counts.in_shards > 0
        sets.append({path.name: path.read_bytes() for path in (root / "shards").glob("*.tar")})
    assert sets[0] == sets[1]


BAD = [None, 3, "x", {}, []]
REQUIRED = ("id", "image_id", "caption", "phrase", "regions", "sentences", "x", "width")


def spoil(path: Path) -> None:
    """Adds malformed records to the lists and dicts of a JSON file, some with ids of good ones."""
    content = json.loads(path.read_text())
    if isinstance(content, list):
        lists = [content, *(element["regions"] for element in content[:1] if "regions" in element)]
    elif "images" in content:
        lists = [content["images"], content["annotations"]]
    else:  # a dict of GQA
        good = next(iter(content.values()))
        content |= {f"1{i}": bad for i, bad in enumerate(BAD)}
        content |= {f"2{i}": {**good, key: None} for i, key in enumerate(("imageId", "question"))}
        good.get("objects", {})["b"] = {"x": None}
        lists = []
    for records in lists:
        first = records[0]
        records += [*BAD, *({**first, key: None} for key in REQUIRED if key in first)]
    tiny.write_json(path, content)


@pytest.mark.parametrize("source", WRITERS)
def test_malformed_records_are_no_errors_of_the_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    table = WRITERS[source](tmp_path)
    for path in list(raw_files(tmp_path)):
        if path.suffix == ".json":
            spoil(path)
        elif path.name == "8.xml":
            path.write_bytes(b"<annotation>")
    name = source.partition(" ")[0]
    counts = build(tmp_path, capsys, sources={name: table}, reject_limit=1.0)
    assert counts.rejected >= 2
    assert counts.in_shards >= 2
