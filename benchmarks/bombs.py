"""Measures small files that would take gigabytes or minutes if readers did not refuse them.

    PYTHONPATH=. python benchmarks/bombs.py [NAME ...]

Each bomb is made in a temporary folder and read in a fresh process, by the reader that a build
uses. A row states the bytes of the file, the peak memory of the process, what of it reading added
to the imports (see benchmarks/README.md), the CPU seconds of reading, and the outcome: records,
rejections or an error. The exit status is 1 if a process took more than 300 MiB, or reading more
than 5 seconds. Extras such as ``aws`` and ``gcp`` add to the imports: run this where none is
installed.
"""

import argparse
import itertools
import json
import pickle
import re
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.captions.parsing import shared_parser
from pipelines.captions.rules import NAMED_RULES
from pipelines.captions.stop_words import STOP_WORDS
from pipelines.dedup.eval_exclusion import Exclusion, read_held_out
from pipelines.dedup.near_duplicates import perceptual_hash
from pipelines.io.images import ImageStore
from pipelines.io.slices import Input, SliceRange, find_slices, read_slice
from pipelines.sources.base import Context, Source
from pipelines.sources.clevr.reader import Clevr
from pipelines.sources.coco import Coco
from pipelines.sources.detection.custom import Custom
from pipelines.sources.flickr30k import Flickr30k
from pipelines.sources.gqa import Gqa
from pipelines.sources.lvis import Lvis
from pipelines.sources.mdetr_json import MdetrJson
from pipelines.sources.visual_genome.reader import VisualGenome
from schemas import ImageInfo, ImageRecord, Rejected
from schemas.limits import (
    MAX_CAPTION_BOXES,
    MAX_CHARACTERS,
    MAX_PARSED_CHARACTERS,
    MAX_WORD_CHARACTERS,
)

MAX_MIB = 300
MAX_SECONDS = 5


class Bomb(NamedTuple):
    """A file, and the reader that gets it."""

    make: Callable[[Path], None]  # writes below a folder
    read: Callable[[Path], str]  # returns the outcome


BOMBS: dict[str, Bomb] = {}


def bomb(
    name: str, read: Callable[[Path], str]
) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    """Registers a function that writes a bomb below a folder."""

    def register(make: Callable[[Path], None]) -> Callable[[Path], None]:
        BOMBS[name] = Bomb(make, read)
        return make

    return register


def read_source(source: Source) -> str:
    """Reads all files of a source as a build does, and returns the outcome."""
    context = Context(NAMED_RULES["paper"], ("train",), shared_parser(), STOP_WORDS)
    counts: dict[str, int] = {}
    for input in source.image_tables():
        for item in _slices(input):
            if isinstance(item, SliceRange):
                _count(counts, source.read_image_table(read_slice(item)))
    for input in source.inputs(("train",)):
        for item in _slices(input):
            if isinstance(item, SliceRange):
                _count(counts, source.read(read_slice(item), context))
            else:
                _count(counts, [item])
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "nothing"


def _slices(input: Input) -> Iterable[SliceRange | Rejected]:
    return find_slices("source", 0, input, tempfile.mkdtemp(dir=Path(input.path).parent))


def _count(counts: dict[str, int], items: Iterable[Any]) -> None:
    for item in items:
        name = item.reason if isinstance(item, Rejected) else type(item).__name__
        amount = len(item.captions) + len(item.objects) if isinstance(item, ImageRecord) else 1
        counts[name] = counts.get(name, 0) + amount


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, separators=(",", ":")))


# --- Flickr30k ------------------------------------------------------------------------------------


def _flickr(folder: Path, sentences: bytes, xml: bytes, split: bytes = b"7\n") -> None:
    for name, content in (("Sentences/7.txt", sentences), ("Annotations/7.xml", xml)):
        (folder / name).parent.mkdir()
        (folder / name).write_bytes(content)
    (folder / "train.txt").write_bytes(split)


def _read_flickr(folder: Path) -> str:
    split_files = {"train": str(folder / "train.txt")}
    return read_source(Flickr30k(annotations=str(folder), split_files=split_files))


def _boxes(count: int, entity: int = 1) -> bytes:
    box = "<xmin>{0}</xmin><ymin>0</ymin><xmax>{1}</xmax><ymax>1</ymax>"
    objects = (
        f"<object><name>{entity}</name><bndbox>{box.format(i, i + 1)}</bndbox></object>"
        for i in range(count)
    )
    size = "<size><width>9000</width><height>9</height></size>"
    return f"<annotation>{size}{''.join(objects)}</annotation>".encode()


_MENTION = b"[/EN#1/people a]"


# --- pickles and JSON -----------------------------------------------------------------------------


def _read_coco(folder: Path) -> str:
    refs = {"refcoco": str(folder / "refs.p")} if (folder / "refs.p").exists() else {}
    return read_source(Coco(instances=[str(folder / "instances.json")], refs=refs))


def _segmentations(folder: Path, *segmentations: Any) -> None:
    annotations = [
        {"id": i, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "segmentation": value}
        for i, value in enumerate(segmentations, 1)
    ]
    _write_json(folder / "instances.json", {"images": [], "annotations": annotations})


def _points(count: int) -> list[float]:
    """Returns corners that jump between distant places, so that every edge crosses most others."""
    return [float(i * 7919 % 599 if i % 2 else i * 104729 % 587) for i in range(2 * count)]


def _zip(folder: Path, name: str, *chunks: bytes, method: int = zipfile.ZIP_DEFLATED) -> None:
    with (
        zipfile.ZipFile(folder / f"{name}.zip", "w", method) as archive,
        archive.open(name, "w", force_zip64=True) as file,
    ):
        for chunk in chunks:
            file.write(chunk)


def _read_zipped_list(folder: Path) -> str:
    items = list(_slices(Input(str(folder / "list.json.zip"), "list")))
    return f"{len(items)} slices"


def _read_list(folder: Path) -> str:
    items = list(_slices(Input(str(folder / "list.json"), "list")))
    return f"{len(items)} slices or rejections"


def _read_dict(folder: Path) -> str:
    items = list(_slices(Input(str(folder / "dict.json"), "dict")))
    return f"{len(items)} slices or rejections"


def _read_ids(folder: Path) -> str:
    [path] = folder.glob("ids.*")
    exclusion = Exclusion(ids=[str(path)])
    rows = [
        row
        for input in exclusion.inputs()
        for item in _slices(input)
        if isinstance(item, SliceRange)
        for row in read_held_out("val", "coco", read_slice(item))
    ]
    return f"{len(rows)} images"


def _bytes(folder: Path, name: str, *chunks: bytes) -> None:
    with (folder / name).open("wb") as file:
        file.writelines(chunks)


# --- sources in JSON ------------------------------------------------------------------------------


def _vg(folder: Path, regions: list[dict[str, Any]]) -> None:
    _write_json(folder / "image_data.json", [])
    _write_json(folder / "region_graphs.json", [{"image_id": 1, "regions": regions}])


def _vg_region(id_: int, phrase: str, objects: int = 0) -> dict[str, Any]:
    box = {"x": id_ % 600, "y": id_ % 400, "w": 1, "h": 1}
    synset = {"entity_idx_start": 0, "entity_idx_end": 3, "synset_name": "dog.n.01"}
    return {
        **{"region_id": id_, "phrase": phrase, "x": id_ % 600, "y": 1, "width": 9, "height": 9},
        "objects": [
            {**box, "x": i % 600, "y": i // 600, "synsets": ["dog.n.01"]} for i in range(objects)
        ],
        "synsets": [synset],
    }


def _read_vg(folder: Path) -> str:
    return read_source(
        VisualGenome(
            image_data=str(folder / "image_data.json"),
            region_graphs=str(folder / "region_graphs.json"),
        )
    )


def _read_gqa(folder: Path) -> str:
    return read_source(
        Gqa(
            questions={"train": [str(folder / "questions.json")]},
            scene_graphs={"train": str(folder / "graphs.json")},
        )
    )


def _clevr(folder: Path, text: str, objects: int, questions: int) -> None:
    file = "CLEVR_train_000000.png"
    obj = {"size": "small", "color": "red", "material": "metal", "shape": "cube"}
    obj |= {"rotation": 1, "pixel_coords": [1, 1, 9], "3d_coords": [1, 1, 1]}  # type: ignore[dict-item]
    scene = {"image_filename": file, "objects": [obj] * objects, "relationships": {}}
    scene["directions"] = {"right": [1, 0, 0]}
    program = [{"function": "scene"}, {"function": "count", "inputs": [0]}]
    rows = [
        {"image_filename": file, "question": text, "question_index": i, "program": program}
        for i in range(questions)
    ]
    _write_json(folder / "questions.json", {"questions": rows})
    _write_json(folder / "scenes.json", {"scenes": [scene]})


def _read_clevr(folder: Path) -> str:
    return read_source(
        Clevr(
            questions={"train": [str(folder / "questions.json")]},
            scenes={"train": str(folder / "scenes.json")},
        )
    )


def _mdetr(folder: Path, images: list[dict[str, Any]], annotations: int, spans: int = 1) -> None:
    common = {"file_name": "1.jpg", "height": 9, "width": 9, "dataset_name": "coco"}
    rows = [{"caption": "a dog", "original_id": 1, **common, **image} for image in images]
    annotation = {"id": 1, "image_id": 1, "bbox": [1, 1, 2, 2]}
    annotation["tokens_positive"] = [[0, 1]] * spans
    _write_json(folder / "m.json", {"images": rows, "annotations": [annotation] * annotations})


def _read_mdetr(folder: Path) -> str:
    return read_source(MdetrJson(files={"train": [str(folder / "m.json")]}))


def _read_lvis(folder: Path) -> str:
    return read_source(Lvis(annotations={"train": str(folder / "lvis.json")}))


def _odvg(folder: Path, caption: str, *phrases: dict[str, Any]) -> None:
    grounding = {"caption": caption, "regions": phrases}
    _write_json(
        folder / "own.jsonl",
        {"filename": "1.jpg", "height": 9, "width": 9, "grounding": grounding},
    )


def _read_odvg(folder: Path) -> str:
    return read_source(Custom(files={"train": [str(folder / "own.jsonl")]}))


# --- images ---------------------------------------------------------------------------------------


def _png(width: int, height: int, pixels: bytes) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data


def _blank_png(side: int) -> bytes:
    rows = zlib.compressobj()
    pixels = b"".join(rows.compress(bytes(3 * side + 1)) for _ in range(side)) + rows.flush()
    return _png(side, side, pixels)


def _read_image(folder: Path) -> str:
    root = next((str(path) for path in folder.glob("*.zip")), str(folder))
    content = ImageStore({"vg": [root]}).read(ImageInfo("vg/1", "vg", "1.png")).content
    return f"hash {perceptual_hash(content):016x}"


_MIB = b" " * (1 << 20)

# --- the bombs ------------------------------------------------------------------------------------


@bomb("flickr boxes", _read_flickr)
def _flickr_boxes(folder: Path) -> None:
    _flickr(folder, b" ".join([_MENTION] * 100), _boxes(100))


@bomb("flickr sentences", _read_flickr)
def _flickr_sentences(folder: Path) -> None:
    _flickr(folder, b"\n".join([_MENTION] * 60_000), _boxes(100))


@bomb("flickr many boxes", _read_flickr)
def _flickr_many_boxes(folder: Path) -> None:
    _flickr(folder, _MENTION, _boxes(9000))


@bomb("flickr deep XML", _read_flickr)
def _flickr_deep_xml(folder: Path) -> None:
    _flickr(folder, _MENTION, b"<a>" * 149_000)


@bomb("flickr long line", _read_flickr)
def _flickr_long_line(folder: Path) -> None:
    _flickr(folder, _MENTION, _boxes(1), b"7" * (32 << 20))


@bomb("flickr empty lines", _read_flickr)
def _flickr_empty_lines(folder: Path) -> None:
    _flickr(folder, _MENTION, _boxes(1), b"\n" * (8 << 20))


@bomb("zip of spaces", _read_zipped_list)
def _zip_of_spaces(folder: Path) -> None:
    _zip(folder, "list.json", b"[", *[_MIB] * 256, b"]")


@bomb("zip of zeros", _read_zipped_list)
def _zip_of_zeros(folder: Path) -> None:
    _zip(folder, "list.json", b"[", b"0," * (16 << 20), b"0]")


@bomb("JSON nested", _read_list)
def _json_nested(folder: Path) -> None:
    _bytes(folder, "list.json", b"[" * 10_000_000)


@bomb("JSON large element", _read_list)
def _json_large_element(folder: Path) -> None:
    _bytes(folder, "list.json", b'[{"a":"', *[_MIB] * 50, b'"}]')


@bomb("JSON repeated key", _read_dict)
def _json_repeated_key(folder: Path) -> None:
    _bytes(folder, "dict.json", b'{"a":[', b"[]," * 5_000_000, b'[]],"a":1}')


@bomb("JSON of zeros", _read_list)
def _json_of_zeros(folder: Path) -> None:
    _bytes(folder, "list.json", b"[", b"0," * (4 << 20), b"0]")


@bomb("ids nested lists", _read_ids)
def _ids_nested_lists(folder: Path) -> None:
    _bytes(folder, "ids.json", b"[", b"[]," * 2_700_000, b"[]]")


@bomb("ids repeated", _read_ids)
def _ids_repeated(folder: Path) -> None:
    _bytes(folder, "ids.json", b"[", b"7," * 4_100_000, b"7]")


@bomb("ids distinct", _read_ids)
def _ids_distinct(folder: Path) -> None:
    _bytes(folder, "ids.txt", *(b"%d\n" % i for i in range(1, 1_100_000)))


@bomb("polygon of many points", _read_coco)
def _polygon_of_many_points(folder: Path) -> None:
    _segmentations(folder, [_points(300_000)])


@bomb("polygon crossing itself", _read_coco)
def _polygon_crossing_itself(folder: Path) -> None:
    _segmentations(folder, [_points(20_000)] * 2)


@bomb("polygons", _read_coco)
def _polygons(folder: Path) -> None:
    _segmentations(folder, [[]] * 1_300_000)


@bomb("mask", _read_coco)
def _mask(folder: Path) -> None:
    side = 46_340
    full = {"size": [side, side], "counts": [0, side * side]}
    _segmentations(folder, full, {"size": [side, side], "counts": [1] * 300_000})


@bomb("vg objects", _read_vg)
def _vg_objects(folder: Path) -> None:
    _vg(folder, [_vg_region(1, "dog", objects=70_000)])


@bomb("vg regions", _read_vg)
def _vg_regions(folder: Path) -> None:
    _vg(folder, [_vg_region(i, "a dog") for i in range(25_000)])


@bomb("vg long phrase", _read_vg)
def _vg_long_phrase(folder: Path) -> None:
    _vg(folder, [_vg_region(1, "a dog " * 600_000)])


@bomb("clevr long question", _read_clevr)
def _clevr_long_question(folder: Path) -> None:
    _clevr(folder, "a cube; " * 500_000, 100, 1)


@bomb("clevr large scene", _read_clevr)
def _clevr_large_scene(folder: Path) -> None:
    _clevr(folder, "a cube", 50_000, 500)


@bomb("mdetr phrases", _read_mdetr)
def _mdetr_phrases(folder: Path) -> None:
    _mdetr(folder, [{"id": 1, "tokens_positive_eval": [[[0, 1]]] * 50_000}], annotations=50_000)


@bomb("mdetr spans", _read_mdetr)
def _mdetr_spans(folder: Path) -> None:
    _mdetr(folder, [{"id": 1, "tokens_positive_eval": [[[8, 9]] * 500_000]}], 1, spans=400_000)


@bomb("mdetr repeated id", _read_mdetr)
def _mdetr_repeated_id(folder: Path) -> None:
    _mdetr(folder, [{"id": 1}] * 10_000, annotations=50_000)


@bomb("image header", _read_image)
def _image_header(folder: Path) -> None:
    _bytes(folder, "1.png", _png(2**31 - 1, 2**31 - 1, b""))


@bomb("image of zeros", _read_image)
def _image_of_zeros(folder: Path) -> None:
    _bytes(folder, "1.png", _blank_png(3_460))


@bomb("image in a zip", _read_image)
def _image_in_a_zip(folder: Path) -> None:
    _zip(folder, "1.png", _blank_png(64) + bytes(30 << 20))


@bomb("pickle shared", _read_coco)
def _shared_references(folder: Path) -> None:
    sentence = {"sent_id": 1, "sent": "a dog"}
    reference = {"image_id": 1, "ann_id": 1, "category_id": 1, "split": "train"}
    reference["sentences"] = [sentence] * 2000  # type: ignore[assignment]
    (folder / "refs.p").write_bytes(pickle.dumps([reference] * 2000))
    _write_json(folder / "instances.json", {"images": [], "annotations": []})


@bomb("pickle doubling", _read_coco)
def _nested_references(folder: Path) -> None:
    inner: list[Any] = []
    for _ in range(60):
        inner = [inner, inner]
    (folder / "refs.p").write_bytes(pickle.dumps(inner))
    _write_json(folder / "instances.json", {"images": [], "annotations": []})


@bomb("pickle empty lists", _read_coco)
def _empty_lists(folder: Path) -> None:
    (folder / "refs.p").write_bytes(b"\x80\x04](" + b"]" * 5_000_000 + b"e.")
    _write_json(folder / "instances.json", {"images": [], "annotations": []})


@bomb("long sentences", _read_coco)
def _long_sentences(folder: Path) -> None:
    # Of words, of single characters, and of words of brackets, each of which is a token.
    words = ["red dogs ", "a ", "(" * (MAX_WORD_CHARACTERS - 1) + " "]
    texts = ["the red dog and a cat " * 250_000]
    texts += [f"{i} {word * 1000}"[:MAX_PARSED_CHARACTERS] for word in words for i in range(8)]
    sentences = [{"sent_id": i, "sent": text} for i, text in enumerate(texts)]
    reference = {"image_id": 1, "ann_id": 1, "category_id": 1, "split": "train"}
    (folder / "refs.p").write_bytes(pickle.dumps([reference | {"sentences": sentences}]))
    _write_json(folder / "instances.json", {"images": [], "annotations": []})


@bomb("gqa operations", _read_gqa)
def _gqa_operations(folder: Path) -> None:
    operations = [{"operation": "select", "argument": f"dog ({i})"} for i in range(80_000)]
    question = {"question": "dog " * 100_000, "imageId": "1", "semantic": operations}
    short = question | {"question": "Is it a dog?"}
    _write_json(folder / "questions.json", {"1": question, "2": short})
    _write_json(folder / "graphs.json", {})


def _gqa_words(folder: Path, word: str, names: list[str]) -> None:
    """Writes a question of one repeated word, with objects of these names and ids."""
    text = f"{word} " * ((MAX_CHARACTERS - 1) // (len(word) + 1))
    operations = [
        {"operation": "select", "argument": f"{name} ({i})"} for i, name in enumerate(names)
    ]
    ranges = {f"{19 * i}:{19 * i + 19}": 9000 + i for i in range(MAX_CAPTION_BOXES - len(names))}
    question = {
        "imageId": "1",
        "question": text,
        "semantic": operations,
        "annotations": {"question": ranges if word == "a" else {}},
    }
    _write_json(folder / "questions.json", {str(i): question for i in range(10)})
    _write_json(folder / "graphs.json", {})


@bomb("gqa taken words", _read_gqa)
def _gqa_taken_words(folder: Path) -> None:
    _gqa_words(folder, "a", ["a"] * (MAX_CAPTION_BOXES // 2))


@bomb("gqa cases of a name", _read_gqa)
def _gqa_cases_of_a_name(folder: Path) -> None:
    cases = map("".join, itertools.product(*zip("ábcdefghij", "ÁBCDEFGHIJ", strict=True)))
    _gqa_words(folder, "ábcdefghij", [*itertools.islice(cases, MAX_CAPTION_BOXES)])


@bomb("gqa long names", _read_gqa)
def _gqa_long_names(folder: Path) -> None:
    _gqa_words(folder, "a", [f"{'a ' * 48}{i}" for i in range(250)] + ["a" * 300_000])


@bomb("lvis negative classes", _read_lvis)
def _lvis_negative_classes(folder: Path) -> None:
    image = {"id": 1, "width": 9, "height": 9, "neg_category_ids": [*range(2_000_000)]}
    classes = [{"id": 1, "name": "dog"}]
    content = {"images": [image], "annotations": [], "categories": classes}
    _write_json(folder / "lvis.json", content)


@bomb("odvg many phrases", _read_odvg)
def _odvg_many_phrases(folder: Path) -> None:
    _odvg(folder, "a dog", {"bbox": [1, 1, 5, 5], "phrase": [f"p{i}" for i in range(300_000)]})


@bomb("odvg long phrases", _read_odvg)
def _odvg_long_phrases(folder: Path) -> None:
    phrases = [{"bbox": [1, 1, 5, 5], "phrase": "a " * 4_000 + f"b{i}"} for i in range(400)]
    _odvg(folder, "a " * 4_900, *phrases)


@bomb("odvg spans", _read_odvg)
def _odvg_spans(folder: Path) -> None:
    spans = [[0, 1]] * 500_000
    _odvg(folder, "a", {"bbox": [[1, 1, 5, 5]] * 500, "phrase": "a", "tokens_positive": spans})


@bomb("odvg nested", _read_odvg)
def _odvg_nested(folder: Path) -> None:
    nested = b"[" * 1_900_000 + b"]" * 1_900_000
    _bytes(folder, "own.jsonl", b'{"filename":"1.jpg","other":', nested, b"}")


@bomb("class of brackets", _read_odvg)
def _class_of_brackets(folder: Path) -> None:
    instances = [{"bbox": [1, 1, 5, 5], "category": "(" * 4_000_000}]
    line = {"filename": "1.jpg", "height": 9, "width": 9, "detection": {"instances": instances}}
    _write_json(folder / "own.jsonl", line)


@bomb("lvis nested", _read_lvis)
def _lvis_nested(folder: Path) -> None:
    deep = "[" * 1_000_000 + "]" * 1_000_000
    (folder / "lvis.json").write_text(f'{{"images":[],"annotations":[],"categories":{deep}}}')


def measure(name: str, folder: Path) -> None:
    """Reads a bomb in this process, and prints a row."""
    if BOMBS[name].read in (_read_coco, _read_vg):
        shared_parser()(["a dog"])  # loads the model, which is not part of the cost
    before = _peak_mib()
    started = time.process_time()
    try:
        outcome = BOMBS[name].read(folder)
    except Exception as error:
        outcome = f"{type(error).__name__}: {error}"
    seconds = time.process_time() - started
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    outcome = outcome.replace(str(folder), "")[:90]
    added = _peak_mib() - before
    print(f"{name:28}{size:12,}{_peak_mib():8}{added:8}{seconds:8.1f}  {outcome}")
    if _peak_mib() > MAX_MIB or seconds > MAX_SECONDS:
        sys.exit(1)


def _peak_mib() -> int:
    # The maximum of getrusage includes the process that started this one.
    [line] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(line) >> 10


def main() -> None:
    """Makes and measures the bombs of the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--read", metavar="FOLDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        measure(arguments.names[0], Path(arguments.read))
        return
    print(f"{'bomb':28}{'bytes':>12}{'MiB':>8}{'added':>8}{'s':>8}  outcome", flush=True)
    failed = False
    for name in arguments.names or BOMBS:
        with tempfile.TemporaryDirectory() as folder:
            BOMBS[name].make(Path(folder))
            command = [sys.executable, __file__, name, "--read", folder]
            failed |= subprocess.run(command, check=False).returncode != 0
    sys.exit(failed)


if __name__ == "__main__":
    main()
