"""Conversations about images, as trainers of chat models read them: ms-swift and Qwen-VL.

An image is one conversation with a turn for each caption: the user states the caption, and the
answer is, for each of its phrases, the boxes, or "none" for a phrase that is absent.

In lines for ms-swift, ``<ref-object>`` and ``<bbox>`` stand for the phrases and boxes of
``objects``, in order. Boxes are in pixels, and ms-swift converts them to the form of the model.
Qwen2-VL and Qwen3-VL state boxes in thousandths of the image's sides, Qwen2.5-VL in pixels.
"""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from schemas import Caption, Sample
from shards.export.job import ExportedFile, ExportedSample, ExportJob
from shards.export.regions import BoxNumbers, groundable_regions

PROMPT = "Locate what this caption names: "
NONE = "none"
IMAGE, PHRASE, BOX = "<image>", "<ref-object>", "<bbox>"
#: Captions with these are left out: ms-swift would take them for an image, a phrase or a box.
PLACEHOLDERS = (IMAGE, "<video>", "<audio>", PHRASE, BOX)


class Turn(NamedTuple):
    """A caption and the boxes of its phrases, xyxy in pixels; absent phrases have none."""

    caption: str
    phrases: list[tuple[str, list[BoxNumbers]]]


def export(job: ExportJob) -> list[ExportedFile]:
    """Writes ``SPLIT_swift.jsonl``, ``SPLIT_qwen_1000.jsonl`` and ``SPLIT_qwen_pixels.jsonl``.

    Captions without boxes and without absent phrases are left out.

    Raises:
        ShardError: see `ExportJob.samples`.
        OSError: a file cannot be written.
    """
    return [file for split in job.splits for file in _export_split(job, split)]


def _export_split(job: ExportJob, split: str) -> list[ExportedFile]:
    paths = [job.output_folder / f"{split}_{form}.jsonl" for form in FORMS]
    captions = boxes = left_out = 0
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in paths]
        for exported in job.samples(split):
            turns = _turns(exported.sample)
            absent = sum(len(caption.absent) for caption in exported.sample.captions)
            phrases = [phrase for turn in turns for phrase in turn.phrases]
            left_out += absent - sum(not boxes_of_phrase for _, boxes_of_phrase in phrases)
            if not turns:
                continue
            captions += len(turns)
            boxes += sum(len(boxes_of_phrase) for _, boxes_of_phrase in phrases)
            name = exported.file_name()
            for file, conversation in zip(files, FORMS.values(), strict=True):
                file.write(orjson.dumps(conversation(exported, name, turns)) + b"\n")
    return [
        ExportedFile(path, captions, boxes, 0 if number else left_out)
        for number, path in enumerate(paths)
    ]


def _turns(sample: Sample) -> list[Turn]:
    turns = []
    for caption in sample.captions:
        phrases = _phrases(caption, sample)
        if phrases and not any(token in caption.text for token in PLACEHOLDERS):
            turns.append(Turn(caption.text, phrases))
    return turns


def _phrases(caption: Caption, sample: Sample) -> list[tuple[str, list[BoxNumbers]]]:
    """Returns the phrases in the order of the caption; regions of the same words are one."""
    by_words: dict[tuple[int, str], list[BoxNumbers]] = {}
    for region in groundable_regions(caption, sample.width, sample.height):
        by_words.setdefault((region.spans[0][0], region.phrase), []).append(region.box)
    for absent in caption.absent:
        begin, end = absent.span
        by_words[begin, caption.text[begin:end]] = []
    return [(phrase, boxes) for (_, phrase), boxes in sorted(by_words.items())]


def _swift(exported: ExportedSample, name: str, turns: list[Turn]) -> dict[str, Any]:
    phrases = [phrase for turn in turns for phrase in turn.phrases]
    messages = []
    for number, turn in enumerate(turns):
        image = "" if number else IMAGE
        answer = "\n".join(
            f"{PHRASE}: {', '.join([BOX] * len(b)) or NONE}" for _, b in turn.phrases
        )
        messages += [
            {"role": "user", "content": f"{image}{PROMPT}{turn.caption}"},
            {"role": "assistant", "content": answer},
        ]
    objects = {
        "ref": [phrase for phrase, _ in phrases],
        "bbox": [box for _, boxes in phrases for box in boxes],
    }
    return {"messages": messages, "images": [name], "objects": objects}


def _qwen_1000(exported: ExportedSample, name: str, turns: list[Turn]) -> dict[str, Any]:
    sample = exported.sample
    return _qwen(name, turns, (1000 / sample.width, 1000 / sample.height))


def _qwen_pixels(exported: ExportedSample, name: str, turns: list[Turn]) -> dict[str, Any]:
    return _qwen(name, turns, (1, 1))


def _qwen(name: str, turns: list[Turn], scale: tuple[float, float]) -> dict[str, Any]:
    conversations = []
    for number, turn in enumerate(turns):
        image = "" if number else f"{IMAGE}\n"
        entries = [
            {"bbox_2d": [round(side * scale[i % 2]) for i, side in enumerate(box)], "label": phrase}
            for phrase, boxes in turn.phrases
            for box in boxes
        ]
        entries += [
            {"bbox_2d": NONE, "label": phrase} for phrase, boxes in turn.phrases if not boxes
        ]
        conversations += [
            {"from": "human", "value": f"{image}{PROMPT}{turn.caption}"},
            {"from": "gpt", "value": orjson.dumps(entries).decode()},
        ]
    return {"image": name, "conversations": conversations}


FORMS: dict[str, Callable[[ExportedSample, str, list[Turn]], dict[str, Any]]] = {
    "swift": _swift,
    "qwen_1000": _qwen_1000,
    "qwen_pixels": _qwen_pixels,
}
