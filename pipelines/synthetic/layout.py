"""Where everything lies under OUT, and what each file says of a given image."""

import pickle
from collections import Counter, defaultdict
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import orjson

from pipelines.synthetic import coco, flickr30k, gqa, lvis, referring, visual_genome
from pipelines.synthetic.boxes import copy_of
from pipelines.synthetic.files import JsonFile
from pipelines.synthetic.phrases import CAPTION_LENGTH_BIAS, Language
from pipelines.synthetic.plan import (
    COCO_LONGEST,
    FLICKR30K_LONGEST,
    SyntheticImage,
    image,
)
from pipelines.synthetic.render import render
from pipelines.synthetic.scene import Scene, compose

#: JPEG qualities: copies of one image differ in size and quality, and never in content.
COCO_QUALITY, VG_QUALITY, FLICKR30K_QUALITY = 90, 84, 78

IMAGE_DATA, REGION_GRAPHS = "vg/image_data.json", "vg/region_graphs.json"
INSTANCES = "coco/annotations/instances_{}2014.json"
BALANCED, SCENE_GRAPHS = "gqa/{}_balanced_questions.json", "gqa/{}_sceneGraphs.json"
ALL_QUESTIONS = "gqa/train_all_questions/train_all_questions_{}.json"
ALL_QUESTIONS_FILES = 10
REFERENCES = "refcoco/{}.unnumbered.json"
LVIS, LVIS_SPLITS = "lvis/lvis_v1_{}.json", ("train", "minival")
FLICKR30K_SPLITS = ("train", "val", "test")
IMAGE_FOLDERS = (
    "coco/train2014",
    "coco/val2014",
    "vg/VG_100K",
    "vg/VG_100K_2",
    "gqa/images",
    "flickr30k/flickr30k-images",
)
TEXT_FOLDERS = ("flickr30k/Annotations", "flickr30k/Sentences", "ids")

#: Encoded elements by (file, part of the file).
Elements = dict[tuple[str, int], list[bytes]]


class SyntheticDataset(msgspec.Struct, frozen=True):
    """What to make. The averages are those of the command line."""

    images: int
    seed: int
    write_images: bool
    regions: float
    questions: float
    sentences: float
    caption_length_bias: float = CAPTION_LENGTH_BIAS


def json_files(root: Path) -> dict[str, JsonFile]:
    """Every JSON file that grows image by image, opened below ``root``."""
    frames: dict[str, list[bytes]] = {
        IMAGE_DATA: [b"[", b"]"],
        REGION_GRAPHS: [b"[", b"]"],
    }
    for split in ("train", "val"):
        start = orjson.dumps({"info": coco.info(split)})[:-1] + b',"images":['
        middle = b'],"licenses":' + orjson.dumps(coco.LICENSES) + b',"annotations":['
        end = b'],"categories":' + orjson.dumps(coco.CATEGORIES) + b"}"
        frames[INSTANCES.format(split)] = [start, middle, end]
        frames[SCENE_GRAPHS.format(split)] = [b"{", b"}"]
    for split in ("train", "val", "testdev"):
        frames[BALANCED.format(split)] = [b"{", b"}"]
    for number in range(ALL_QUESTIONS_FILES):
        frames[ALL_QUESTIONS.format(number)] = [b"{", b"}"]
    for dataset in referring.FILES:
        frames[REFERENCES.format(dataset)] = [b"[", b"]"]
    for split in LVIS_SPLITS:
        frames[LVIS.format(split)] = [b'{"images":[', b'],"annotations":[', b"]}"]
    return {name: JsonFile(root / name, frame) for name, frame in frames.items()}


def make_folders(root: Path, images: bool) -> None:
    for folder in (*TEXT_FOLDERS, *(IMAGE_FOLDERS if images else ())):
        (root / folder).mkdir(parents=True)


def describe(root: Path, numbers: range, synthetic: SyntheticDataset) -> Elements:
    """What the JSON files say of some images; writes their JPEGs and their Flickr30k files."""
    elements: Elements = defaultdict(list)
    for number in numbers:
        one = image(number, synthetic.seed)
        scene = compose(_random(synthetic, number, "scene"))
        language = Language(scene, synthetic.caption_length_bias)
        if one.vg_id:
            _visual_genome(elements, one, language, synthetic)
        if one.coco in ("train", "val"):
            _coco(elements, one, language, synthetic)
        if one.gqa:
            _gqa(elements, one, language, synthetic)
        if one.flickr30k:
            _flickr30k(root, one, language, synthetic)
        if synthetic.write_images:
            _render(root, one, scene)
    return dict(elements)


def write_lists(root: Path, synthetic: SyntheticDataset) -> None:
    """The lists of ids: Flickr30k's splits, PhraseCut's val and test."""
    every = [image(number, synthetic.seed) for number in range(synthetic.images)]
    for split in FLICKR30K_SPLITS:
        photos = [one.photo_id for one in every if one.flickr30k == split]
        _write_lines(root / f"flickr30k/{split}.txt", photos)
    phrasecut = [one.vg_id for one in every if one.phrasecut]
    _write_lines(root / "ids/phrasecut_val_test.txt", phrasecut)


def number_references(root: Path) -> None:
    """Turns the references gathered as JSON into the published pickles (protocol 2, as there)."""
    for dataset, file in referring.FILES.items():
        gathered = root / REFERENCES.format(dataset)
        references = msgspec.json.decode(gathered.read_bytes(), type=list[referring.Reference])
        path = root / "refcoco" / file
        path.parent.mkdir()
        with path.open("wb") as out:
            pickle.dump(referring.number(references), out, protocol=2)
        gathered.unlink()


def add_classes(root: Path) -> None:
    """Ends LVIS's files with the classes, which say in how many images of train they are."""
    train = orjson.loads((root / LVIS.format("train")).read_bytes())
    shown = {(of["image_id"], of["category_id"]) for of in train["annotations"]}
    categories = lvis.categories(Counter(category for _, category in shown))
    for split in LVIS_SPLITS:
        path = root / LVIS.format(split)
        path.write_bytes(
            path.read_bytes()[:-1] + b',"categories":' + orjson.dumps(categories) + b"}"
        )


def _random(synthetic: SyntheticDataset, number: int, purpose: str) -> Random:
    """Random numbers of their own for each image and purpose, so that each can be made alone."""
    return Random(f"{synthetic.seed}/{number}/{purpose}")


def _visual_genome(
    elements: Elements, one: SyntheticImage, language: Language, synthetic: SyntheticDataset
) -> None:
    rng = _random(synthetic, one.number, "vg")
    graph = visual_genome.region_graph(rng, one, language, synthetic.regions)
    elements[IMAGE_DATA, 0].append(orjson.dumps(visual_genome.image_data(one, language)))
    elements[REGION_GRAPHS, 0].append(orjson.dumps(graph))


def _coco(
    elements: Elements, one: SyntheticImage, language: Language, synthetic: SyntheticDataset
) -> None:
    instances = INSTANCES.format(one.coco)
    rng = _random(synthetic, one.number, "coco")
    elements[instances, 0].append(orjson.dumps(coco.image_row(one, language)))
    annotations = coco.annotations(rng, one, language)
    elements[instances, 1] += [orjson.dumps(annotation) for annotation in annotations]
    image, boxes = lvis.describe(_random(synthetic, one.number, "lvis"), one, language)
    instances = LVIS.format("minival" if one.lvis_minival else "train")
    elements[instances, 0].append(orjson.dumps(image))
    elements[instances, 1] += [orjson.dumps(annotation) for annotation in boxes]
    for dataset in referring.FILES:
        rng = _random(synthetic, one.number, dataset)
        references = referring.references(rng, one, language, dataset, synthetic.sentences)
        encoded = [msgspec.json.encode(reference) for reference in references]
        elements[REFERENCES.format(dataset), 0] += encoded


def _gqa(
    elements: Elements, one: SyntheticImage, language: Language, synthetic: SyntheticDataset
) -> None:
    rng = _random(synthetic, one.number, "gqa")
    for question_id, question in gqa.questions(rng, one, language, synthetic.questions):
        encoded = _item(question_id, question)
        if question["isBalanced"]:
            elements[BALANCED.format(one.gqa), 0].append(encoded)
        if one.gqa == "train":
            name = ALL_QUESTIONS.format(one.number % ALL_QUESTIONS_FILES)
            elements[name, 0].append(encoded)
    if one.gqa in ("train", "val"):
        graph = gqa.scene_graph(rng, one, language)
        elements[SCENE_GRAPHS.format(one.gqa), 0].append(_item(one.gqa_id, graph))


def _item(key: str, value: dict[str, Any]) -> bytes:
    return orjson.dumps(key) + b":" + orjson.dumps(value)


def _flickr30k(
    root: Path, one: SyntheticImage, language: Language, synthetic: SyntheticDataset
) -> None:
    xml, sentences = flickr30k.describe(_random(synthetic, one.number, "flickr30k"), one, language)
    (root / f"flickr30k/Annotations/{one.photo_id}.xml").write_text(xml)
    (root / f"flickr30k/Sentences/{one.photo_id}.txt").write_text(sentences)


def _render(root: Path, one: SyntheticImage, scene: Scene) -> None:
    """Every dataset's own copy of the image."""
    if one.vg_id:
        path = root / "vg" / visual_genome.folder(one) / f"{one.vg_id}.jpg"
        _save(path, scene, one.vg_longest, VG_QUALITY)
    if one.coco in ("train", "val"):
        path = root / "coco" / f"{one.coco}2014" / coco.file_name(one)
        _save(path, scene, COCO_LONGEST, COCO_QUALITY)
    if one.coco == "test":
        _save(root / f"gqa/images/{one.gqa_id}.jpg", scene, COCO_LONGEST, COCO_QUALITY)
    if one.flickr30k:
        path = root / f"flickr30k/flickr30k-images/{one.photo_id}.jpg"
        _save(path, scene, FLICKR30K_LONGEST, FLICKR30K_QUALITY)


def _save(path: Path, scene: Scene, longest: int, quality: int) -> None:
    render(scene, copy_of(scene, longest)).save(path, quality=quality)


def _write_lines(path: Path, values: list[int]) -> None:
    path.write_text("".join(f"{value}\n" for value in values))
