"""The files of the synthetic dataset, and what each of them states about a given image."""

import pickle
from collections import Counter, defaultdict
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import orjson

from pipelines.synthetic import coco, flickr30k, gqa, lvis, referring, visual_genome
from pipelines.synthetic.boxes import scale_to_longest
from pipelines.synthetic.json_writer import JsonWriter
from pipelines.synthetic.phrases import CAPTION_LENGTH_BIAS, Language
from pipelines.synthetic.plan import (
    COCO_LONGEST,
    FLICKR30K_LONGEST,
    SyntheticImage,
    plan_image,
)
from pipelines.synthetic.render import render
from pipelines.synthetic.scene import STYLES, Scene, SceneStyle, make_scene
from schemas.decodable import decodable

#: JPEG qualities: the files of one image in several datasets differ in size and quality.
COCO_QUALITY, VG_QUALITY, FLICKR30K_QUALITY = 90, 84, 78

IMAGE_DATA, REGION_GRAPHS = "vg/image_data.json", "vg/region_graphs.json"
INSTANCES = "coco/annotations/instances_{}2014.json"
BALANCED, SCENE_GRAPHS = "gqa/{}_balanced_questions.json", "gqa/{}_sceneGraphs.json"
ALL_QUESTIONS = "gqa/train_all_questions/train_all_questions_{}.json"
ALL_QUESTIONS_FILES = 10
ALL_OF_EVAL_SPLIT = "gqa/{}_all_questions.json"
GQA_EVAL_SPLITS = ("val", "testdev", "test", "challenge")
PHRASECUT = {"val": "phrasecut/refer_val.json", "test": "phrasecut/refer_test.json"}
UNNUMBERED_REFERENCES = "refcoco/{}.unnumbered.json"
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
TEXT_FOLDERS = ("flickr30k/Annotations", "flickr30k/Sentences", "ids", "phrasecut")

#: Encoded elements by (file, index of a list in the file).
Elements = dict[tuple[str, int], list[bytes]]


class SyntheticDataset(msgspec.Struct, frozen=True):
    """The options of a synthetic dataset; the command's help explains them.

    Attributes:
        num_images: images of all datasets together.
        seed: decides everything else.
        write_images: whether to write JPEGs, too.
        scenes: key of `pipelines.synthetic.scene.STYLES`.
        regions: mean number of regions of a Visual Genome image.
        questions: mean number of balanced questions of a GQA image.
        sentences: mean number of referring sentences of a COCO train2014 image.
        caption_length_bias: how short descriptions are (`pipelines.synthetic.phrases.Language`).
    """

    num_images: int
    seed: int = 0
    write_images: bool = True
    scenes: str = "varied"
    regions: float = 12.0
    questions: float = 8.0
    sentences: float = 12.0
    caption_length_bias: float = CAPTION_LENGTH_BIAS

    @property
    def style(self) -> SceneStyle:
        """What the images show."""
        return STYLES[self.scenes]

    def random(self, image_number: int, purpose: str) -> Random:
        """Returns the random numbers of one image for one purpose, independent of all others."""
        return Random(f"{self.seed}/{image_number}/{purpose}")


def open_json_files(root: Path) -> dict[str, JsonWriter]:
    """Opens every JSON file that grows image by image, by its path below ``root``."""
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
    for split in GQA_EVAL_SPLITS:
        frames[ALL_OF_EVAL_SPLIT.format(split)] = [b"{", b"}"]
    for dataset in referring.FILES:
        frames[UNNUMBERED_REFERENCES.format(dataset)] = [b"[", b"]"]
    for split in LVIS_SPLITS:
        frames[LVIS.format(split)] = [b'{"images":[', b'],"annotations":[', b"]}"]
    return {name: JsonWriter(root / name, frame) for name, frame in frames.items()}


def make_folders(root: Path, with_images: bool) -> None:
    """Makes the folders of images and text files; JSON files make their own."""
    for folder in (*TEXT_FOLDERS, *(IMAGE_FOLDERS if with_images else ())):
        (root / folder).mkdir(parents=True)


def generate_images(root: Path, numbers: range, dataset: SyntheticDataset) -> Elements:
    """Writes the JPEGs and Flickr30k files of some images; returns the elements of JSON files."""
    elements: Elements = defaultdict(list)
    for number in numbers:
        image = plan_image(number, dataset.seed)
        scene = make_scene(dataset.random(number, "scene"), dataset.style)
        language = Language(scene, dataset.caption_length_bias, dataset.style.nouns)
        if image.vg_id:
            _add_visual_genome(elements, image, language, dataset)
        if image.coco in ("train", "val"):
            _add_coco(elements, image, language, dataset)
        if image.gqa:
            _add_gqa(elements, image, language, dataset)
        if image.flickr30k:
            _write_flickr30k(root, image, language, dataset)
        if dataset.write_images:
            _write_jpegs(root, image, scene)
    return dict(elements)


def write_lists(root: Path, dataset: SyntheticDataset) -> None:
    """Writes the lists of ids: Flickr30k's splits, and PhraseCut's val and test."""
    images = [plan_image(number, dataset.seed) for number in range(dataset.num_images)]
    for split in FLICKR30K_SPLITS:
        photos = [image.photo_id for image in images if image.flickr30k == split]
        _write_lines(root / f"flickr30k/{split}.txt", photos)
    phrasecut = [image.vg_id for image in images if image.phrasecut]
    _write_lines(root / "ids/phrasecut_val_test.txt", phrasecut)
    for number, file in enumerate(PHRASECUT.values()):
        tasks = [
            {"task_id": f"{id_}__{task}", "image_id": id_}
            for task, id_ in enumerate(phrasecut[number::2])
        ]
        (root / file).write_bytes(orjson.dumps(tasks))


def pickle_references(root: Path) -> None:
    """Turns the collected references into the published pickles (protocol 2, as there)."""
    for dataset, file in referring.FILES.items():
        collected = root / UNNUMBERED_REFERENCES.format(dataset)
        references = msgspec.json.decode(
            collected.read_bytes(), type=decodable(list[referring.ReferringExpressions])
        )
        path = root / "refcoco" / file
        path.parent.mkdir()
        with path.open("wb") as out:
            pickle.dump(referring.with_ids(references), out, protocol=2)
        collected.unlink()


def complete_lvis(root: Path) -> None:
    """Completes LVIS's files: licenses, and categories with the number of their training images."""
    train = orjson.loads((root / LVIS.format("train")).read_bytes())
    shown = {(row["image_id"], row["category_id"]) for row in train["annotations"]}
    categories = lvis.categories(Counter(category for _, category in shown))
    for split in LVIS_SPLITS:
        path = root / LVIS.format(split)
        end = b',"licenses":' + orjson.dumps(coco.LICENSES)
        end += b',"categories":' + orjson.dumps(categories) + b"}"
        path.write_bytes(path.read_bytes()[:-1] + end)


def _add_visual_genome(
    elements: Elements, image: SyntheticImage, language: Language, dataset: SyntheticDataset
) -> None:
    rng = dataset.random(image.number, "vg")
    graph = visual_genome.region_graph(rng, image, language, dataset.regions)
    elements[IMAGE_DATA, 0].append(orjson.dumps(visual_genome.image_data(image, language)))
    elements[REGION_GRAPHS, 0].append(orjson.dumps(graph))


def _add_coco(
    elements: Elements, image: SyntheticImage, language: Language, dataset: SyntheticDataset
) -> None:
    file = INSTANCES.format(image.coco)
    elements[file, 0].append(orjson.dumps(coco.image_row(image, language)))
    rng, mean_count = dataset.random(image.number, "coco"), sum(dataset.style.objects) / 2
    annotations = coco.annotations(rng, image, language, mean_count)
    elements[file, 1] += [orjson.dumps(annotation) for annotation in annotations]

    file = LVIS.format("minival" if image.lvis_minival else "train")
    row, annotations = lvis.image_and_annotations(
        dataset.random(image.number, "lvis"), image, language
    )
    elements[file, 0].append(orjson.dumps(row))
    elements[file, 1] += [orjson.dumps(annotation) for annotation in annotations]

    for name in referring.FILES:
        rng = dataset.random(image.number, name)
        references = referring.references(rng, image, language, name, dataset.sentences)
        encoded = [msgspec.json.encode(reference) for reference in references]
        elements[UNNUMBERED_REFERENCES.format(name), 0] += encoded


def _add_gqa(
    elements: Elements, image: SyntheticImage, language: Language, dataset: SyntheticDataset
) -> None:
    rng = dataset.random(image.number, "gqa")
    for question_id, question in gqa.questions(rng, image, language, dataset.questions):
        encoded = _encode_item(question_id, question)
        if image.gqa in gqa.UNANSWERED_SPLITS:
            question = {field: question[field] for field in gqa.UNANSWERED_FIELDS}
            encoded = _encode_item(question_id, question)
        elif question["isBalanced"]:
            elements[BALANCED.format(image.gqa), 0].append(encoded)
        file = ALL_OF_EVAL_SPLIT.format(image.gqa)
        if image.gqa == "train":
            file = ALL_QUESTIONS.format(image.number % ALL_QUESTIONS_FILES)
        elements[file, 0].append(encoded)
    if image.gqa in ("train", "val"):
        graph = gqa.scene_graph(rng, image, language)
        elements[SCENE_GRAPHS.format(image.gqa), 0].append(_encode_item(image.gqa_id, graph))


def _encode_item(key: str, value: dict[str, Any]) -> bytes:
    return orjson.dumps(key) + b":" + orjson.dumps(value)


def _write_flickr30k(
    root: Path, image: SyntheticImage, language: Language, dataset: SyntheticDataset
) -> None:
    rng = dataset.random(image.number, "flickr30k")
    xml, sentences = flickr30k.xml_and_sentences(rng, image, language)
    (root / f"flickr30k/Annotations/{image.photo_id}.xml").write_text(xml)
    (root / f"flickr30k/Sentences/{image.photo_id}.txt").write_text(sentences)


def _write_jpegs(root: Path, image: SyntheticImage, scene: Scene) -> None:
    """Writes the image for every dataset that contains it."""
    if image.vg_id:
        path = root / "vg" / visual_genome.image_folder(image) / f"{image.vg_id}.jpg"
        _save(path, scene, image.vg_longest, VG_QUALITY)
    if image.coco in ("train", "val"):
        path = root / "coco" / f"{image.coco}2014" / coco.file_name(image)
        _save(path, scene, COCO_LONGEST, COCO_QUALITY)
    if image.coco == "test":
        _save(root / f"gqa/images/{image.gqa_id}.jpg", scene, COCO_LONGEST, COCO_QUALITY)
    if image.flickr30k:
        path = root / f"flickr30k/flickr30k-images/{image.photo_id}.jpg"
        _save(path, scene, FLICKR30K_LONGEST, FLICKR30K_QUALITY)


def _save(path: Path, scene: Scene, longest: int, quality: int) -> None:
    render(scene, scale_to_longest(scene, longest)).save(path, quality=quality)


def _write_lines(path: Path, values: list[int]) -> None:
    path.write_text("".join(f"{value}\n" for value in values))
