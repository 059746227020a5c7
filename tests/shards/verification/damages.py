"""Damages of a shard set that a bug of the writer, or of a step before it, could make.

Each edits the data of a set, which is then written consistently. ``DAMAGES`` are found from the set
alone, ``RAW_DAMAGES`` only by a comparison with the raw files.
"""

import io
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image as PillowImage

from shards.format import manifest as mf
from shards.format.placement import position, shard_name, shard_of
from shards.verification.errors import ErrorKind
from tests.shards.verification.set_data import Image, SetData

Caption = dict[str, Any]


class Damage(NamedTuple):
    """An edit of a set, and the kind of error by which it is to be found."""

    edit: Callable[[SetData], object]
    kind: ErrorKind


# --- choices --------------------------------------------------------------------------------------


def joined(data: SetData) -> Caption:
    """Returns a caption of train with several sentences, regions and a full stop at its end."""
    return next(
        caption
        for caption in data.captions("train")
        if len(caption["provenance"]) > 2 and len(caption["regions"]) > 2
    )


def caption_of(data: SetData, dataset: str, split: str = "val") -> Caption:
    """Returns a caption of one sentence of a dataset, with a region."""
    return next(
        caption
        for caption in data.captions(split, dataset)
        if caption["regions"] and len(caption["provenance"]) == 1
    )


def first(data: SetData, split: str = "train", namespace: str = "") -> Image:
    return next(image for image in data.images(split) if image.key.startswith(namespace))


def pair(data: SetData, split: str = "train", namespace: str = "vg/") -> tuple[Image, Image]:
    """Returns two images of a namespace with the same size."""
    by_size: dict[tuple[int, int], Image] = {}
    for image in data.images(split):
        if image.key.startswith(namespace):
            size = image.sample["width"], image.sample["height"]
            if (other := by_size.setdefault(size, image)) is not image:
                return other, image
    raise AssertionError("no two images have the same size")


def sentence(caption: Caption, index: int) -> str:
    begin, end = caption["provenance"][index]["span"]
    return str(caption["text"][begin:end])


def boxes(caption: Caption) -> list[dict[str, Any]]:
    regions: list[dict[str, Any]] = caption["regions"]
    return regions


def area(box: list[float]) -> float:
    return round((box[2] - box[0]) * (box[3] - box[1]), 2)


# --- text -----------------------------------------------------------------------------------------


def replace_text(find: str, by: str) -> Callable[[SetData], object]:
    """Replaces the first ``find`` behind the first sentence of a joined caption, same length."""

    def edit(data: SetData) -> None:
        caption = joined(data)
        end = caption["provenance"][0]["span"][1]
        begin = caption["text"].index(find, end - 1)
        text = caption["text"]
        caption["text"] = text[:begin] + by + text[begin + len(find) :]

    return edit


def drop_last_full_stop(data: SetData) -> None:
    caption = next(c for c in data.captions("train") if c["text"].endswith("."))
    last = caption["provenance"][-1]
    last["span"][1] = min(last["span"][1], len(caption["text"]) - 1)
    caption["text"] = caption["text"][:-1]
    for spans in [region["tokens_positive"] for region in boxes(caption)]:
        for span in spans:
            span[1] = min(span[1], len(caption["text"]))


def append_words(data: SetData) -> None:
    joined(data)["text"] += " And more."


def lose_sentence_of_provenance(data: SetData) -> None:
    """The text keeps the sentence, the provenance and the regions lose it."""
    caption = joined(data)
    begin, end = caption["provenance"].pop(1)["span"]
    caption["regions"] = [r for r in boxes(caption) if not inside(r, begin, end)]


def inside(region: dict[str, Any], begin: int, end: int) -> bool:
    return all(begin <= span[0] and span[1] <= end for span in region["tokens_positive"])


def lose_sentence_of_text(data: SetData) -> None:
    """Text, provenance and regions of the last sentence are gone; the sources keep their counts."""
    caption = next(
        caption
        for caption in data.captions("train", "vg")
        if len(caption["provenance"]) > 1 and caption["provenance"][-1]["dataset"] == "vg"
    )
    begin, end = caption["provenance"].pop()["span"]
    caption["text"] = caption["text"][: begin - 1]
    caption["regions"] = [r for r in boxes(caption) if not inside(r, begin, end)]
    caption["tokens_negative"] = [s for s in caption["tokens_negative"] if s[1] < begin]


def sentence_in_two_captions(data: SetData) -> None:
    image = next(i for i in data.images("train") if len(i.captions) > 1)
    data_of = image.captions[0]["provenance"][0]
    image.captions[1]["provenance"][0]["dataset"] = data_of["dataset"]
    image.captions[1]["provenance"][0]["record"] = data_of["record"]


def repeat_caption(data: SetData) -> None:
    image = first(data)
    image.captions.append(json.loads(json.dumps(image.captions[0])))


def record_in_two_images(data: SetData) -> None:
    one, other = data.captions("train", "vg")[0], data.captions("train", "vg")[-1]
    origin = next(s for s in one["provenance"] if s["dataset"] == "vg")
    target = next(s for s in other["provenance"] if s["dataset"] == "vg")
    target["record"] = origin["record"]


def record_in_two_splits(data: SetData) -> None:
    origin = data.captions("val", "gqa")[0]["provenance"][0]
    target = next(
        s for s in data.captions("train", "gqa")[0]["provenance"] if s["dataset"] == "gqa"
    )
    target["record"] = origin["record"]


def unknown_dataset(data: SetData) -> None:
    joined(data)["provenance"][0]["dataset"] = "openimages"


def split_caption(data: SetData) -> None:
    """The last sentence of a caption becomes a caption of its own."""
    image, caption = next(
        (i, c) for i in data.images("train") for c in i.captions if len(c["provenance"]) > 1
    )
    origin = caption["provenance"].pop()
    begin, end = origin["span"]
    moved = {
        "text": caption["text"][begin:],
        "regions": [r for r in boxes(caption) if inside(r, begin, end)],
        "tokens_negative": [s for s in caption["tokens_negative"] if s[0] >= begin],
        "provenance": [origin],
    }
    caption["regions"] = [r for r in boxes(caption) if not inside(r, begin, end)]
    caption["tokens_negative"] = [s for s in caption["tokens_negative"] if s[1] < begin]
    caption["text"] = caption["text"][: begin - 1]
    origin["span"] = [0, end - begin]
    for region in moved["regions"]:
        region["tokens_positive"] = [[a - begin, b - begin] for a, b in region["tokens_positive"]]
    moved["tokens_negative"] = [[a - begin, b - begin] for a, b in moved["tokens_negative"]]
    image.captions.append(moved)


def join_in_separate_split(data: SetData) -> None:
    """Two captions of a split that is not combined are joined."""
    image = next(
        i for i in data.images("val") if len(i.captions) > 1 and "question" in i.captions[0]
    )
    one, other = image.captions[:2]
    shift = len(one["text"]) + 1
    for region in boxes(other):
        region["tokens_positive"] = [[a + shift, b + shift] for a, b in region["tokens_positive"]]
    other["provenance"][0]["span"] = [shift, shift + len(other["text"])]
    one["regions"] += other["regions"]
    one["tokens_negative"] += [[a + shift, b + shift] for a, b in other["tokens_negative"]]
    one["provenance"] += other["provenance"]
    one["text"] = f"{one['text']} {other['text']}"
    del image.captions[1]


def join_conflicting(data: SetData) -> None:
    """A box of one sentence becomes that of another."""
    caption = joined(data)
    begin, end = caption["provenance"][0]["span"]
    mine = next(r for r in boxes(caption) if inside(r, begin, end))
    other = next(r for r in boxes(caption) if not inside(r, begin, end))
    other["box"], other["area"] = mine["box"], mine["area"]


def lengthen(data: SetData) -> None:
    caption = joined(data)
    last = caption["provenance"][-1]
    more = " " + "longer " * 60 + "still"
    ends_in_stop = last["span"][1] < len(caption["text"])
    caption["text"] = caption["text"][: last["span"][1]] + more + "." * ends_in_stop
    last["span"][1] += len(more)


def empty_caption(data: SetData) -> None:
    caption = caption_of(data, "gqa")
    caption |= {"text": " ", "regions": [], "tokens_negative": [[0, 1]]}
    caption["provenance"][0]["span"] = [0, 1]


# --- regions --------------------------------------------------------------------------------------


def each_box(move: Callable[[list[float]], list[float]]) -> Callable[[SetData], object]:
    """Moves every box of train, but not its area."""

    def edit(data: SetData) -> None:
        for caption in data.captions("train"):
            for region in boxes(caption):
                region["box"] = [float(np.float32(v)) for v in move(region["box"])]

    return edit


def wrong_area(data: SetData) -> None:
    region = boxes(caption_of(data, "gqa"))[0]
    region["area"] = 2 * region["area"]


def area_of_referring_expression(data: SetData) -> None:
    caption = data.captions("train", "refcoco")[0]
    origin = next(s for s in caption["provenance"] if s["dataset"] == "refcoco")
    region = next(r for r in boxes(caption) if inside(r, *origin["span"]))
    region["area"] = 3 * area(region["box"]) + 100


def lose_region(dataset: str) -> Callable[[SetData], object]:
    """A sentence of a dataset of which each sentence has a region loses its last one."""

    def edit(data: SetData) -> None:
        for caption in data.captions("train", dataset):
            for origin in caption["provenance"]:
                regions = [r for r in boxes(caption) if inside(r, *origin["span"])]
                if origin["dataset"] == dataset and len(regions) == 1:
                    caption["regions"].remove(regions[0])
                    return

    return edit


def lose_one_of_several_regions(data: SetData) -> None:
    caption = next(c for c in data.captions("val", "gqa") if len(boxes(c)) > 1)
    caption["regions"].pop()


def repeat_region(dataset: str) -> Callable[[SetData], object]:
    def edit(data: SetData) -> None:
        caption = next(
            c
            for c in data.captions("train" if dataset == "vg" else "val", dataset)
            if boxes(c) and all(s["dataset"] == dataset for s in c["provenance"])
        )
        caption["regions"].append(json.loads(json.dumps(caption["regions"][0])))

    return edit


def swap_spans_of_sentences(data: SetData) -> None:
    """The region of one referring expression names the words of another sentence."""
    for caption in data.captions("train", "refcoco"):
        origin = next(s for s in caption["provenance"] if s["dataset"] == "refcoco")
        other = next((s for s in caption["provenance"] if s is not origin), None)
        if other is None:
            continue
        region = next(r for r in boxes(caption) if inside(r, *origin["span"]))
        donor = next((r for r in boxes(caption) if inside(r, *other["span"])), None)
        if donor is not None:
            region["tokens_positive"] = json.loads(json.dumps(donor["tokens_positive"]))
            return


def shift_spans(data: SetData) -> None:
    for caption in data.captions("train"):
        for region in boxes(caption):
            region["tokens_positive"] = [[a + 1, b + 1] for a, b in region["tokens_positive"]]


def span_with_space(data: SetData) -> None:
    for caption in data.captions("train"):
        for region in boxes(caption):
            span = region["tokens_positive"][0]
            if span[1] < len(caption["text"]) and caption["text"][span[1]] == " ":
                span[1] += 1
                return


def lose_spans(data: SetData) -> None:
    boxes(joined(data))[0]["tokens_positive"] = []


# --- other annotations ----------------------------------------------------------------------------


def lose_negatives(dataset: str, split: str) -> Callable[[SetData], object]:
    def edit(data: SetData) -> None:
        for caption in data.captions(split, dataset):
            caption["tokens_negative"] = []

    return edit


def lose_phrases(data: SetData) -> None:
    for caption in data.captions("val", "flickr30k"):
        caption.pop("phrases", None)


def lose_a_phrase(data: SetData) -> None:
    caption = next(c for c in data.captions("val", "flickr30k") if len(c.get("phrases", [])) > 1)
    caption["phrases"].pop()


def boxes_of_other_phrases(data: SetData) -> None:
    caption = next(
        c
        for c in data.captions("val", "flickr30k")
        if len(c.get("phrases", [])) > 1 and c["phrases"][0]["boxes"] != c["phrases"][1]["boxes"]
    )
    one, other = caption["phrases"][:2]
    one["boxes"], other["boxes"] = other["boxes"], one["boxes"]


def lose_question(data: SetData) -> None:
    del caption_of(data, "gqa")["question"]


def lose_answers(split: str) -> Callable[[SetData], object]:
    def edit(data: SetData) -> None:
        for caption in data.captions(split, "gqa"):
            if "question" in caption:
                caption["question"]["answer"] = None

    return edit


def lose_an_answer(data: SetData) -> None:
    caption_of(data, "gqa")["question"]["answer"] = None


def question_without_id(data: SetData) -> None:
    caption_of(data, "gqa")["question"]["id"] = ""


# --- images ---------------------------------------------------------------------------------------


def bytes_of_another_image(data: SetData) -> None:
    one, other = pair(data)
    one.content = other.content


def bytes_of_another_size(data: SetData) -> None:
    images = data.images("train")
    size = images[0].sample["width"], images[0].sample["height"]
    other = next(i for i in images if (i.sample["width"], i.sample["height"]) != size)
    images[0].content = other.content


def one_image_under_all_keys(data: SetData) -> None:
    images = data.images()
    for image in images:
        image.content = images[0].content
        image.sample |= {name: images[0].sample[name] for name in ("width", "height")}


def held_out_bytes(data: SetData) -> None:
    """A train image has the bytes of an evaluation image, under its own key."""
    evaluated = first(data, "val")
    target = first(data)
    target.content = evaluated.content
    target.sample |= {name: evaluated.sample[name] for name in ("width", "height")}


def file_of_another_image(data: SetData) -> None:
    one, other = data.images("train")[:2]
    one.sample["file"] = other.sample["file"]


def swap_files(data: SetData) -> None:
    one, other = pair(data)
    one.sample["file"], other.sample["file"] = other.sample["file"], one.sample["file"]


def edit_image(edit: Callable[[bytes], bytes]) -> Callable[[SetData], object]:
    def edit_first(data: SetData) -> None:
        image = first(data)
        assert image.content is not None
        image.content = edit(image.content)

    return edit_first


def corrupt_png(content: bytes) -> bytes:
    """Returns a PNG of the same pixels, one byte of which is inverted."""
    buffer = io.BytesIO()
    PillowImage.open(io.BytesIO(content)).save(buffer, "PNG")
    png = bytearray(buffer.getvalue())
    png[png.index(b"IDAT") + 40] ^= 0xFF
    return bytes(png)


def png_with_wrong_crc(data: SetData) -> None:
    image = first(data)
    assert image.content is not None
    image.content, image.extension = corrupt_png(image.content), "png"


def unknown_namespace(data: SetData) -> None:
    image = first(data, "train", "vg/")
    image.sample["key"] = f"openimages/{image.key.partition('/')[2]}"
    replace_in_order(data, image)


def replace_in_order(data: SetData, image: Image) -> None:
    """Moves an image to the shard and position of its key."""
    file, _ = data.find(image.key)
    split, salt = data.split_of(file), data.manifest["recipe"]["salt"]
    files = [f for f in data.shards if data.split_of(f) == split]
    data.shards[file].remove(image)
    target = data.shards[files[shard_of(image.key, len(files), salt)]]
    target.append(image)
    target.sort(key=lambda i: (position(i.key, salt), i.key))


def swap_sizes(data: SetData) -> None:
    for image in data.images():
        sample = image.sample
        sample["width"], sample["height"] = sample["height"], sample["width"]


# --- placement ------------------------------------------------------------------------------------


def move_to_another_shard(data: SetData) -> None:
    files = [file for file in data.shards if data.split_of(file) == "train"]
    data.shards[files[1]].append(data.shards[files[0]].pop())


def reverse_shard(data: SetData) -> None:
    next(iter(data.shards.values())).reverse()


def another_salt(data: SetData) -> None:
    """All images of train are where another salt would place them."""
    images = data.images("train")
    files = [file for file in data.shards if data.split_of(file) == "train"]
    for file in files:
        data.shards[file] = []
    for image in sorted(images, key=lambda i: position(i.key, "other")):
        data.shards[files[shard_of(image.key, len(files), "other")]].append(image)


def lose_shard(data: SetData) -> None:
    """The last shard of train is lost, and the manifest does not list it."""
    file = [file for file in data.shards if data.split_of(file) == "train"][-1]
    del data.shards[file]


def empty_split(data: SetData) -> None:
    for file in data.shards:
        if data.split_of(file) == "test":
            data.shards[file] = []


def rename_shards(data: SetData) -> None:
    """The shards of val have names of another number of shards."""
    files = [file for file in data.shards if data.split_of(file) == "val"]
    renamed = {file: shard_name("val", i, 9) for i, file in enumerate(files)}
    data.shards = {renamed.get(file, file): images for file, images in data.shards.items()}
    for entry in data.manifest["shards"]:
        entry["file"] = renamed.get(entry["file"], entry["file"])


# --- tables and counts ----------------------------------------------------------------------------


def lose_excluded_row(data: SetData) -> None:
    data.excluded.remove(next(row for row in data.excluded if row["excluded"]))


def exclude_a_train_image(data: SetData) -> None:
    row = next(row for row in data.excluded if row["excluded"])
    key = first(data).key
    data.excluded.append({**row, "image": key, "duplicate_of": key})


def excluded_of_unknown_set(data: SetData) -> None:
    data.excluded[0]["eval_set"] = "voc"


def lose_rejected_row(data: SetData) -> None:
    data.rejected.remove(next(row for row in data.rejected if row["records"]))


def rejected_of_unknown_source(data: SetData) -> None:
    data.rejected[0]["source"] = "voc"


def rejected_counts_more(data: SetData) -> None:
    next(row for row in data.rejected if row["records"])["records"] += 1


def source_counts(name: str, by: int) -> Callable[[SetData], object]:
    def edit(data: SetData) -> None:
        data.manifest["sources"]["vg"][name] += by

    return edit


def box_counts(**by: int) -> Callable[[SetData], object]:
    """Adds to counts of the boxes of Visual Genome."""

    def edit(data: SetData) -> None:
        for name, more in by.items():
            data.manifest["sources"]["vg"]["boxes"][name] += more

    return edit


def rejected_boxes_more(data: SetData) -> None:
    for row in data.rejected:
        row["boxes"] += 5


def no_row_of_what_is_not_asked_for(data: SetData) -> None:
    assert data.manifest["not_asked_for"]
    data.manifest["not_asked_for"] = []


def ghost_row_of_what_is_not_asked_for(data: SetData) -> None:
    row = {"source": "voc", "what": "split val", "captions": 1, "boxes": 0}
    data.manifest["not_asked_for"].append(list(row.values()))


def excluding_set(data: SetData) -> dict[str, Any]:
    """Returns the counts of an evaluation set that excludes an image by an id."""
    row = next(row for row in data.excluded if row["join"] != "perceptual hash")
    counts: dict[str, Any] = data.manifest["exclusions"][row["eval_set"]]
    return counts


def lose_exclusion(data: SetData) -> None:
    del data.manifest["exclusions"][next(iter(data.manifest["exclusions"]))]


def lose_source(data: SetData) -> None:
    del data.manifest["sources"]["flickr30k"]


def edit_licenses(edit: Callable[[list[dict[str, Any]]], object]) -> Callable[[SetData], object]:
    """Returns an edit of the manifest's licenses."""
    return lambda data: edit(data.manifest["licenses"])


def license_ids(*ids: int) -> Callable[[SetData], object]:
    """Returns an edit of the ids of an image of COCO, whose license is known."""
    return lambda data: first(data, namespace="coco/").facts.update(licenses=list(ids))


def address(data: SetData) -> None:
    first(data).facts["url"] = "javascript:alert(1)"


def other_license(data: SetData) -> None:
    facts = first(data, namespace="coco/").facts
    facts["licenses"] = [3 - facts["licenses"][0]]  # of the two that the synthetic images have


def other_address(data: SetData) -> None:
    one, other = pair(data)
    one.facts["url"] = other.facts["url"]


def lose_terms(data: SetData) -> None:
    del data.manifest["terms"]["vg"]


def edit_recipe(edit: Callable[[dict[str, Any]], object]) -> Callable[[SetData], object]:
    """Edits the recipe, and its hash."""

    def edit_manifest(data: SetData) -> None:
        edit(data.manifest["recipe"])
        data.manifest["recipe_sha256"] = mf.recipe_sha256(data.manifest["recipe"])

    return edit_manifest


# --- what only raw files tell ---------------------------------------------------------------------


def change_case(data: SetData) -> None:
    caption = caption_of(data, "gqa")
    caption["text"] = caption["text"].upper()


def other_word(data: SetData) -> None:
    """A letter of a sentence of Visual Genome is another one."""
    for caption in data.captions("train", "vg"):
        for origin in caption["provenance"]:
            begin, text = origin["span"][0], caption["text"]
            if origin["dataset"] == "vg" and text[begin].isalpha():
                letter = "y" if text[begin] == "x" else "x"
                caption["text"] = f"{text[:begin]}{letter}{text[begin + 1 :]}"
                return


def move_box(dataset: str, split: str) -> Callable[[SetData], object]:
    """Moves a box within its image, where no box of the image is."""

    def edit(data: SetData) -> None:
        for caption in data.captions(split, dataset):
            for origin in caption["provenance"]:
                for region in boxes(caption):
                    x0, _, x1, y1 = region["box"]
                    of_dataset = origin["dataset"] == dataset
                    if of_dataset and inside(region, *origin["span"]) and x1 - x0 > 4:
                        region["box"] = [x0, 0.0, x0 + 1.5, y1]
                        region["area"] = area(region["box"])
                        return

    return edit


def lose_phrases_and_regions(data: SetData) -> None:
    """No count has either."""
    caption = next(c for c in data.captions("val", "flickr30k") if c.get("phrases"))
    caption["phrases"], caption["regions"] = [], []


def lose_caption_in_all_counts(data: SetData) -> None:
    image = next(
        i for i in data.images("val") if len(i.captions) > 1 and "question" in i.captions[0]
    )
    lost = image.captions.pop(0)
    data.manifest["sources"][lost["provenance"][0]["dataset"]]["read"] -= 1


def expression_region(data: SetData) -> dict[str, Any]:
    """Returns the region of a referring expression."""
    caption = data.captions("train", "refcoco")[0]
    origin = next(s for s in caption["provenance"] if s["dataset"] == "refcoco")
    return next(r for r in boxes(caption) if inside(r, *origin["span"]))


def other_category(data: SetData) -> None:
    region = expression_region(data)
    region["category"] = region.get("category", 1) + 7


def crowd(data: SetData) -> None:
    region = expression_region(data)
    region["crowd"] = not region.get("crowd", False)


def other_record(data: SetData) -> None:
    caption = caption_of(data, "gqa")
    caption["provenance"][0]["record"] = caption["question"]["id"] = "99999999"


def invert_a_byte(content: bytes) -> bytes:
    """Inverts a byte of the compressed pixels; the markers stay."""
    middle = len(content) // 2
    while {content[middle - 1], content[middle], content[middle] ^ 0xFF} & {0, 0xFF}:
        middle += 1
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


_halve = lambda box: [value / 2 for value in box]  # noqa: E731
_shift = lambda box: [box[0] + 40, box[1], box[2] + 40, box[3]]  # noqa: E731
_swap_axes = lambda box: [box[1], box[0], box[3], box[2]]  # noqa: E731


DAMAGES: dict[str, Damage] = {
    # text
    "separator": Damage(replace_text(" ", "_"), ErrorKind.COMPOSITION),
    "full stop": Damage(replace_text(".", ","), ErrorKind.COMPOSITION),
    "last full stop": Damage(drop_last_full_stop, ErrorKind.COMPOSITION),
    "words of no sentence": Damage(append_words, ErrorKind.COMPOSITION),
    "sentence lost by provenance": Damage(lose_sentence_of_provenance, ErrorKind.COMPOSITION),
    "sentence lost": Damage(lose_sentence_of_text, ErrorKind.SOURCES),
    "sentence in two captions": Damage(sentence_in_two_captions, ErrorKind.RECORD),
    "caption twice": Damage(repeat_caption, ErrorKind.RECORD),
    "record in two images": Damage(record_in_two_images, ErrorKind.RECORD),
    "record in two splits": Damage(record_in_two_splits, ErrorKind.RECORD),
    "dataset of no source": Damage(unknown_dataset, ErrorKind.DATASET),
    "joinable caption": Damage(split_caption, ErrorKind.JOINABLE),
    "joined in a separate split": Damage(join_in_separate_split, ErrorKind.COMPOSITION),
    "conflicting sentences": Damage(join_conflicting, ErrorKind.OVERLAP),
    "caption too long": Damage(lengthen, ErrorKind.LENGTH),
    "empty caption": Damage(empty_caption, ErrorKind.COMPOSITION),
    # regions
    "boxes halved": Damage(each_box(_halve), ErrorKind.AREA),
    "boxes shifted": Damage(each_box(_shift), ErrorKind.BOX),
    "box axes swapped": Damage(each_box(_swap_axes), ErrorKind.BOX),
    "area": Damage(wrong_area, ErrorKind.AREA),
    "area of a referring expression": Damage(area_of_referring_expression, ErrorKind.AREA),
    "region lost (refcoco)": Damage(lose_region("refcoco"), ErrorKind.REGION_COUNT),
    "region lost (vg)": Damage(lose_region("vg"), ErrorKind.REGION_COUNT),
    "one of several regions lost": Damage(lose_one_of_several_regions, ErrorKind.SOURCES),
    "region twice (vg)": Damage(repeat_region("vg"), ErrorKind.DUPLICATE_REGION),
    "region twice (flickr30k)": Damage(repeat_region("flickr30k"), ErrorKind.DUPLICATE_REGION),
    "region twice (gqa)": Damage(repeat_region("gqa"), ErrorKind.DUPLICATE_REGION),
    "region of another sentence": Damage(swap_spans_of_sentences, ErrorKind.REGION_COUNT),
    "spans shifted": Damage(shift_spans, ErrorKind.WORD),
    "span with a space": Damage(span_with_space, ErrorKind.WORD),
    "spans lost": Damage(lose_spans, ErrorKind.REGION),
    # other annotations
    "negative tokens lost (gqa)": Damage(lose_negatives("gqa", "val"), ErrorKind.NEGATIVE),
    "negative tokens lost (flickr30k)": Damage(
        lose_negatives("flickr30k", "val"), ErrorKind.NEGATIVE
    ),
    "negative tokens lost (train)": Damage(lose_negatives("", "train"), ErrorKind.NEGATIVE),
    "phrases lost": Damage(lose_phrases, ErrorKind.PHRASE),
    "one phrase lost": Damage(lose_a_phrase, ErrorKind.PHRASE),
    "boxes of other phrases": Damage(boxes_of_other_phrases, ErrorKind.PHRASE),
    "question lost": Damage(lose_question, ErrorKind.QUESTION),
    "question without id": Damage(question_without_id, ErrorKind.QUESTION),
    "one answer lost": Damage(lose_an_answer, ErrorKind.QUESTION),
    # images
    "bytes of another image": Damage(bytes_of_another_image, ErrorKind.SAME_BYTES),
    "bytes of another size": Damage(bytes_of_another_size, ErrorKind.IMAGE),
    "one image under all keys": Damage(one_image_under_all_keys, ErrorKind.SAME_BYTES),
    "bytes of an evaluation image": Damage(held_out_bytes, ErrorKind.LEAK),
    "file of another image": Damage(file_of_another_image, ErrorKind.FILE_NAME),
    "files swapped": Damage(swap_files, ErrorKind.FILE_NAME),
    "JPEG cut short": Damage(edit_image(lambda c: c[: len(c) * 3 // 4]), ErrorKind.IMAGE),
    "JPEG header only": Damage(edit_image(lambda c: c[:700]), ErrorKind.IMAGE),
    "PNG with a wrong CRC": Damage(png_with_wrong_crc, ErrorKind.IMAGE),
    "unknown namespace": Damage(unknown_namespace, ErrorKind.KEY),
    "width and height swapped": Damage(swap_sizes, ErrorKind.IMAGE),
    # placement
    "image in another shard": Damage(move_to_another_shard, ErrorKind.PLACEMENT),
    "order of a shard": Damage(reverse_shard, ErrorKind.PLACEMENT),
    "another salt": Damage(another_salt, ErrorKind.PLACEMENT),
    "shard lost": Damage(lose_shard, ErrorKind.PLACEMENT),
    "shards of another number": Damage(rename_shards, ErrorKind.PLACEMENT),
    "empty split": Damage(empty_split, ErrorKind.TOTALS),
    # tables and counts
    "row of excluded.parquet lost": Damage(lose_excluded_row, ErrorKind.TABLE),
    "excluded image in train": Damage(exclude_a_train_image, ErrorKind.HELD_OUT),
    "unknown evaluation set": Damage(excluded_of_unknown_set, ErrorKind.TABLE),
    "row of rejected.parquet lost": Damage(lose_rejected_row, ErrorKind.TABLE),
    "unknown source of a rejected row": Damage(rejected_of_unknown_source, ErrorKind.TABLE),
    "count of a rejected row": Damage(rejected_counts_more, ErrorKind.TABLE),
    "records read": Damage(source_counts("read", 1), ErrorKind.SOURCES),
    "records merged": Damage(source_counts("merged", 1), ErrorKind.SOURCES),
    "records excluded": Damage(source_counts("excluded", -1), ErrorKind.TABLE),
    "source lost": Damage(lose_source, ErrorKind.SOURCES),
    "ghost source": Damage(
        lambda data: data.manifest["sources"].update(voc=data.manifest["sources"]["vg"]),
        ErrorKind.SOURCES,
    ),
    "boxes of rejected rows": Damage(rejected_boxes_more, ErrorKind.TABLE),
    "boxes excluded, not rejected": Damage(box_counts(excluded=1, rejected=-1), ErrorKind.TABLE),
    "list of what is not asked for": Damage(no_row_of_what_is_not_asked_for, ErrorKind.SOURCES),
    "ghost source not asked for": Damage(ghost_row_of_what_is_not_asked_for, ErrorKind.SOURCES),
    "boxes merged, not left out": Damage(box_counts(merged=-1, not_asked_for=1), ErrorKind.SOURCES),
    "images that a set names": Damage(
        lambda data: excluding_set(data).update(named=0), ErrorKind.TABLE
    ),
    "ghost exclusion": Damage(
        lambda data: data.manifest["exclusions"].update(ghost={"named": 1}), ErrorKind.SOURCES
    ),
    "exclusion lost": Damage(lose_exclusion, ErrorKind.SOURCES),
    "joins of a ghost source": Damage(
        lambda data: excluding_set(data)["joins"].update(voc=["id"]), ErrorKind.SOURCES
    ),
    # licenses
    "license that is not listed": Damage(license_ids(7), ErrorKind.LICENSE),
    "no license": Damage(license_ids(), ErrorKind.LICENSE),
    "license twice": Damage(license_ids(1, 1), ErrorKind.LICENSE),
    "license unknown and known": Damage(license_ids(1, 0), ErrorKind.LICENSE),
    "license of no source": Damage(
        edit_licenses(lambda table: table[1].update(stated_by=["lvis"])), ErrorKind.LICENSE
    ),
    "license that none states": Damage(
        edit_licenses(lambda table: table[1].update(stated_by=[])), ErrorKind.LICENSE
    ),
    "licenses in another order": Damage(
        edit_licenses(lambda table: table.reverse()), ErrorKind.LICENSE
    ),
    "licenses lost": Damage(edit_licenses(lambda table: table.clear()), ErrorKind.LICENSE),
    "script for an address": Damage(address, ErrorKind.LICENSE),
    "terms of a source lost": Damage(lose_terms, ErrorKind.LICENSE),
    "recipe of another threshold": Damage(
        edit_recipe(lambda r: r["rules"].update(threshold=0.05)), ErrorKind.OVERLAP
    ),
    "recipe of another length": Damage(
        edit_recipe(lambda r: r["rules"].update(max_length=200)), ErrorKind.LENGTH
    ),
    "recipe of a separate split": Damage(
        edit_recipe(lambda r: r["splits"]["train"].update(combine=False)), ErrorKind.COMPOSITION
    ),
    "recipe of more shards": Damage(
        edit_recipe(lambda r: r["splits"]["train"].update(shards=9)), ErrorKind.PLACEMENT
    ),
}

#: Of the shipped recipe `demo`, found by its raw files.
RAW_DAMAGES: dict[str, Callable[[SetData], object]] = {
    "case of a question": change_case,
    "letter of a region description": other_word,
    "box of a question": move_box("gqa", "val"),
    "box of a referring expression": move_box("refcoco", "train"),
    "box of a region description": move_box("vg", "train"),
    "phrases and their regions": lose_phrases_and_regions,
    "question lost by all counts": lose_caption_in_all_counts,
    "answers of an evaluation split": lose_answers("val"),
    "category": other_category,
    "crowd": crowd,
    "record of no raw file": other_record,
    "license of another image": other_license,
    "address of another image": other_address,
    "byte of compressed pixels": edit_image(invert_a_byte),
    "JPEG cut short with an end marker": edit_image(lambda c: c[: len(c) * 3 // 4] + b"\xff\xd9"),
}
