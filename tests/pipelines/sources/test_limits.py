"""Records that would take too much memory or time are rejected, and the others are read.

The limits are lowered here; benchmarks/bombs.py measures readers at the real ones.
"""

import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from pipelines.captions.parsing import shared_parser
from pipelines.captions.rules import NAMED_RULES
from pipelines.captions.stop_words import STOP_WORDS
from pipelines.io import slices
from pipelines.io.slices import SliceRange, find_slices, read_slice
from pipelines.sources import coco, flickr30k, gqa, mdetr_json
from pipelines.sources.base import Context, Source
from pipelines.sources.clevr import reader as clevr_reader
from pipelines.sources.clevr import scenes as clevr_scenes
from pipelines.sources.clevr.reader import Clevr
from pipelines.sources.coco import Coco
from pipelines.sources.flickr30k import Flickr30k
from pipelines.sources.gqa import Gqa
from pipelines.sources.mdetr_json import MdetrJson
from pipelines.sources.visual_genome import reader as vg_reader
from pipelines.sources.visual_genome import regions as vg_regions
from pipelines.sources.visual_genome.reader import VisualGenome
from schemas import ImageRecord, Rejected
from schemas.limits import MAX_CAPTION_BOXES, MAX_CHARACTERS
from tests import tiny
from tests.pipelines.sources.conservation import conserved


def read(source: Source) -> tuple[list[str], dict[str, str]]:
    """Returns the texts of the captions that are read, and the reasons for each rejected record."""
    context = Context(NAMED_RULES["paper"], ("train",), shared_parser(), STOP_WORDS)
    texts: list[str] = []
    reasons: dict[str, str] = {}
    for rank, input in enumerate(source.inputs(("train",))):
        for item in find_slices("source", rank, input, ""):
            rows: list[Any] = [item]
            if isinstance(item, SliceRange):
                rows = list(conserved(source.read(read_slice(item), context)))
            for row in rows:
                if isinstance(row, Rejected):
                    reasons[row.record] = row.reason
                elif isinstance(row, ImageRecord):
                    texts += [caption.text for caption in row.captions]
    return texts, reasons


# --- Flickr30k ------------------------------------------------------------------------------------


def flickr(root: Path, sentences: list[str], boxes: int) -> Flickr30k:
    box = "<bndbox><xmin>{0}</xmin><ymin>0</ymin><xmax>{1}</xmax><ymax>9</ymax></bndbox>"
    objects = "".join(
        f"<object><name>1</name>{box.format(i, i + 1)}</object>" for i in range(boxes)
    )
    table = tiny.write_flickr30k(root, {7: sentences}, objects)
    split_files = {"train": str(root / "flickr30k/train.txt")}
    assert table["annotations"] == "flickr30k"
    return Flickr30k(annotations=str(root / "flickr30k"), split_files=split_files)


def test_sentence_whose_phrases_have_too_many_boxes_is_rejected(tmp_path: Path) -> None:
    """1.7 kB of sentence with 100 boxes took 1.7 GiB."""
    mention = "[/EN#1/people a]"
    sentences = [" ".join([mention] * 100), mention, "x" * (MAX_CHARACTERS + 1)]
    source = flickr(tmp_path, sentences, boxes=100)
    tracemalloc.start()
    try:
        texts, reasons = read(source)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
    assert texts == ["a"]
    assert reasons == {"7#0": "malformed record", "7#2": "malformed record"}


def test_image_with_too_many_sentences_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flickr30k, "MAX_IMAGE_SENTENCES", 5)
    assert read(flickr(tmp_path / "a", ["a dog"] * 5, 1)) == (["a dog"] * 5, {})
    assert read(flickr(tmp_path / "b", ["a dog"] * 6, 1)) == ([], {"7": "unreadable file"})


# --- sources in JSON ------------------------------------------------------------------------------


def test_element_larger_than_a_slice_is_rejected_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "MAX_RECORD_BYTES", 2000)
    graphs = [tiny.vg_graph(i, tiny.vg_region(i, f"the dog {i}")) for i in (1, 2, 3)]
    graphs[1]["padding"] = " " * 3000
    tiny.write_vg(tmp_path, [], graphs)
    source = VisualGenome(
        image_data=str(tmp_path / "vg/image_data.json"),
        region_graphs=str(tmp_path / "vg/region_graphs.json"),
    )
    assert read(source) == (["the dog 1", "the dog 3"], {"1": "record too large"})
    # In a JSON object, its key names the element.
    questions = {i: tiny.gqa_question("1", f"What is {i}?") for i in "abc"}
    questions["b"]["padding"] = "x" * 3000
    tiny.write_gqa(tmp_path, questions, {})
    gqa_source = Gqa(questions={"train": [str(tmp_path / "gqa/questions.json")]})
    assert read(gqa_source) == (["What is a?", "What is c?"], {"b": "record too large"})


def test_region_or_image_of_visual_genome_with_too_much_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vg_reader, "MAX_IMAGE_REGIONS", 3)
    monkeypatch.setattr(vg_regions, "MAX_CAPTION_BOXES", 2)
    obj = {"x": 1, "y": 1, "w": 5, "h": 5, "synsets": ["dog.n.01"]}
    graphs = [
        tiny.vg_graph(1, *(tiny.vg_region(10 + i, f"the dog {i}") for i in range(4))),
        tiny.vg_graph(2, tiny.vg_region(20, "a red cat", objects=[obj] * 3)),
        tiny.vg_graph(3, tiny.vg_region(30, "a blue cat", objects=[obj] * 2)),
    ]
    tiny.write_vg(tmp_path, [], graphs)
    source = VisualGenome(
        image_data=str(tmp_path / "vg/image_data.json"),
        region_graphs=str(tmp_path / "vg/region_graphs.json"),
    )
    reasons = {"1": "too many regions", "20": "too many objects"}
    assert read(source) == (["a blue cat"], reasons)


def test_question_of_gqa_with_too_much_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gqa, "MAX_CAPTION_BOXES", 3)
    operations = [{"operation": "select", "argument": f"dog ({i})"} for i in range(4)]
    questions = {
        "1": tiny.gqa_question("1", "Is it a dog?", semantic=operations),
        "2": tiny.gqa_question("1", "Is it a cat?", semantic=operations[:3]),
        "3": tiny.gqa_question("1", "Is it? " * MAX_CHARACTERS),
    }
    tiny.write_gqa(tmp_path, questions, {})
    source = Gqa(questions={"train": [str(tmp_path / "gqa/questions.json")]})
    reasons = {"1": "too many objects", "3": "text too long"}
    assert read(source) == (["Is it a cat?"], reasons)


def test_question_or_scene_of_clevr_with_too_much_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = [{"function": "scene"}, {"function": "count", "inputs": [0]}]
    texts = {"a": "How many cubes?", "b": "How many balls?", "c": "a cube; " * MAX_CHARACTERS}
    questions = [
        {"image_filename": f"CLEVR_train_00000{number}.png", "question": text, "question_index": i}
        | {"program": program}
        for i, (number, text) in enumerate(zip((1, 2, 1), texts.values(), strict=True))
    ]
    scenes = [
        {"image_filename": f"CLEVR_train_00000{number}.png", "objects": [], "relationships": {}}
        | {"directions": {"right": [1, 0, 0]}, "padding": " " * padding}
        for number, padding in ((1, 0), (2, 3000))
    ]
    tiny.write_json(tmp_path / "questions.json", {"questions": questions})
    tiny.write_json(tmp_path / "scenes.json", {"scenes": scenes})
    for module in (clevr_reader, clevr_scenes):
        if hasattr(module, "MAX_SCENE_BYTES"):
            monkeypatch.setattr(module, "MAX_SCENE_BYTES", 2000)
    source = Clevr(
        questions={"train": [str(tmp_path / "questions.json")]},
        scenes={"train": str(tmp_path / "scenes.json")},
    )
    texts_read, reasons = read(source)
    assert texts_read == [texts["a"]]
    assert reasons == {"questions:1": "bad program", "questions:2": "text too long"}


def mdetr(path: Path, images: list[dict[str, Any]], annotations: list[int]) -> MdetrJson:
    common = {"file_name": "1.jpg", "height": 9, "width": 9, "dataset_name": "mixed"}
    common |= {"data_source": "vg", "original_id": 1}
    rows = [{"caption": f"a dog {i}", **common, **image} for i, image in enumerate(images)]
    boxes = [
        {"id": i, "image_id": image, "bbox": [1, 1, 2, 2], "tokens_positive": [[2, 5]]}
        for i, image in enumerate(annotations)
    ]
    tiny.write_json(path, {"images": rows, "annotations": boxes})
    return MdetrJson(files={"train": [str(path)]})


def test_caption_of_mdetr_json_with_too_much_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mdetr_json, "MAX_RECORD_BYTES", 2000)
    monkeypatch.setattr(mdetr_json, "MAX_CAPTION_PAIRS", 10)
    phrases = [[[2, 5]]] * 6
    images = [{"id": 1}, {"id": 2}, {"id": 3, "tokens_positive_eval": phrases}, {"id": 4}]
    images[3]["caption"] = "x" * (MAX_CHARACTERS + 1)
    images += [{"id": 5}, {"id": 5}]
    source = mdetr(tmp_path / "m.json", images, [1, *[2] * 40, 3, 3])
    texts, reasons = read(source)
    assert texts == ["a dog 0"]
    assert reasons == {
        "mixed/m:2": "record too large",
        "mixed/m:3": "record too large",
        "mixed/m:4": "record too large",
        "mixed/m:5": "duplicate id",
    }


def test_segmentation_with_too_many_bytes_is_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coco, "MAX_SEGMENTATION_BYTES", 60)
    square = [100, 100, 120, 100, 120, 120, 100, 120]
    annotations = [
        tiny.coco_annotation(i, 1, [1, 1, 5, 5], segmentation=[square * times])
        for i, times in ((1, 1), (2, 9))
    ]
    tiny.write_coco(tmp_path, [], annotations, [])
    source = Coco(instances=[str(tmp_path / "coco/instances.json")])
    context = Context(NAMED_RULES["paper"], ("train",), shared_parser(), STOP_WORDS)
    boxes = [
        obj.box
        for input in source.inputs(("train",))
        for item in find_slices("coco", 0, input, "")
        if isinstance(item, SliceRange)
        for record in source.read(read_slice(item), context)
        if isinstance(record, ImageRecord)
        for obj in record.objects.values()
    ]
    assert boxes == [(100, 100, 120, 120), (1, 1, 6, 6)]


def test_references_that_repeat_an_object_are_refused(tmp_path: Path) -> None:
    """8 kB that took 399 MiB."""
    sentence = {"sent_id": 1, "sent": "a dog"}
    references = [tiny.reference(1, 1, {}) | {"sentences": [sentence] * 2000}] * 2000
    tiny.write_coco(tmp_path, [], [], references)
    assert len(pickle.dumps(references)) < 10_000
    with pytest.raises(Exception, match="the same objects again and again"):
        read(Coco(instances=[], refs={"refcoco": str(tmp_path / "coco/refs.p")}))


def test_limits_are_far_above_published_data() -> None:
    """The largest of each that the published files are known to have, times five."""
    assert MAX_CAPTION_BOXES >= 5 * 100  # boxes of a caption of the mixed set
    assert vg_reader.MAX_IMAGE_REGIONS >= 5 * 300
    assert flickr30k.MAX_IMAGE_SENTENCES >= 5 * 5
