"""GQA: balanced questions, all training questions, and scene graphs.

Every question comes with its program (``semantic``), with the objects that its words, its answer
and its full answer speak of, and with its types. Keys of the annotations are places of words:
"4", or "6:8" for a name of two words.
"""

from collections.abc import Iterator
from random import Random
from typing import Any

from pipelines.synthetic import corruption
from pipelines.synthetic.boxes import Copy, annotate, copy_of
from pipelines.synthetic.phrases import RELATIONS, Language, Mention, Sentence
from pipelines.synthetic.plan import COCO_LONGEST, SyntheticImage
from pipelines.synthetic.questions import Draft, Step, draft

#: Questions that the balancing left out, for every balanced one (15 in the published files).
UNBALANCED_PER_BALANCED = 0.5
#: Ids of questions: each image has its own thousand. Objects follow those of its regions.
QUESTIONS_PER_IMAGE = 1000
OBJECTS_PER_IMAGE, FIRST_OBJECT = 10_000, 9_000

Record = dict[str, Any]


def scene_graph(rng: Random, image: SyntheticImage, language: Language) -> Record:
    """The image's value in the scene graphs: boxes, attributes and relations of every object."""
    copy = _copy(image, language)
    objects: dict[str, Record] = {}
    for i, obj in enumerate(language.objects):
        x, y, w, h = annotate(rng, obj.box, copy)
        objects[object_id(image, i)] = {
            "name": obj.noun,
            "x": x,
            "y": y,
            "w": w,
            "h": h,
            "attributes": [obj.color, obj.texture, obj.size],
            "relations": [
                {
                    "name": RELATIONS[relation.direction][0],
                    "object": object_id(image, relation.object),
                }
                for relation in language.relations
                if relation.subject == i and relation.direction in ("left", "right")
            ],
        }
    return {"width": copy.width, "height": copy.height, "objects": objects}


def questions(
    rng: Random, image: SyntheticImage, language: Language, average: float
) -> Iterator[tuple[str, Record]]:
    """Question ids and questions of an image, ``average`` balanced ones in the mean.

    Images of the train split have unbalanced ones as well, which come last.
    """
    balanced = int(average * (0.5 + rng.random()) + rng.random())
    extra = int(balanced * UNBALANCED_PER_BALANCED + rng.random())
    planted: dict[int, str] = {}
    if image.gqa == "train":
        planted = corruption.plan(rng, corruption.QUESTIONS, image.vg_ordinal, average, balanced)
    for place in range(balanced + (extra if image.gqa == "train" else 0)):
        record = _record(image, draft(rng, language), place < balanced)
        if place in planted:
            record["annotations"]["question"]["0"] = object_id(image, 999)
        question_id = f"{QUESTIONS_PER_IMAGE * image.number + place:08d}"
        record["equivalent"] = [question_id]
        yield question_id, record


def object_id(image: SyntheticImage, obj: int) -> str:
    return str(OBJECTS_PER_IMAGE * (image.number + 1) + FIRST_OBJECT + obj)


def _copy(image: SyntheticImage, language: Language) -> Copy:
    longest = COCO_LONGEST if image.coco == "test" else image.vg_longest
    return copy_of(language.scene, longest)


def _record(image: SyntheticImage, drafted: Draft, balanced: bool) -> Record:
    program = [
        {
            "operation": step.operation,
            "dependencies": step.dependencies,
            "argument": _argument(image, step),
        }
        for step in drafted.program
    ]
    obj = drafted.answered_by
    answer = {} if obj is None else {"0": object_id(image, obj)}
    return {
        "semantic": program,
        "entailed": [],
        "equivalent": [],
        "question": drafted.question.text,
        "imageId": image.gqa_id,
        "isBalanced": balanced,
        "groups": {"global": None, "local": f"{drafted.detailed}-{image.gqa_id}"},
        "answer": drafted.answer,
        "semanticStr": "->".join(map(_step, program)),
        "annotations": {
            "answer": answer,
            "question": _places(image, drafted.question),
            "fullAnswer": _places(image, drafted.full_answer),
        },
        "types": {
            "detailed": drafted.detailed,
            "semantic": drafted.semantic,
            "structural": drafted.structural,
        },
        "fullAnswer": drafted.full_answer.text,
    }


def _argument(image: SyntheticImage, step: Step) -> str:
    if step.obj is None:
        return step.argument
    return f"{step.argument} ({object_id(image, step.obj)})"


def _step(step: Record) -> str:
    """A step as in ``semanticStr``: "query: name [1]"."""
    text = f"{step['operation']}: {step['argument']}"
    return f"{text} {step['dependencies']}" if step["dependencies"] else text


def _places(image: SyntheticImage, said: Sentence) -> dict[str, str]:
    """The words of every mention's noun, by their places in the sentence."""
    return {_place(said.text, m): object_id(image, m.objects[0]) for m in said.mentions}


def _place(text: str, mention: Mention) -> str:
    first = text[: mention.noun].count(" ")
    words = 1 + text[mention.noun : mention.stop].count(" ")
    return str(first) if words == 1 else f"{first}:{first + words}"
