"""GQA: balanced questions, all training questions, and scene graphs.

Every question comes with its program (``semantic``), with the objects that its words, its answer
and its full answer speak of, and with its types. Keys of the annotations are places of words:
"4", or "6:8" for a name of two words.
"""

from collections.abc import Iterator
from random import Random
from typing import Any

from pipelines.world import defects
from pipelines.world.boxes import Copy, annotate, copy_of
from pipelines.world.phrases import RELATIONS, Language, Mention, Sentence
from pipelines.world.plan import COCO_LONGEST, Picture
from pipelines.world.questions import Draft, Step, draft

#: Questions that the balancing left out, for every balanced one (15 in the published files).
UNBALANCED_PER_BALANCED = 0.5
#: Ids of questions: each picture has its own thousand. Objects follow those of its regions.
QUESTIONS_PER_PICTURE = 1000
OBJECTS_PER_PICTURE, FIRST_OBJECT = 10_000, 9_000

Record = dict[str, Any]


def scene_graph(rng: Random, picture: Picture, language: Language) -> Record:
    """The picture's value in the scene graphs: boxes, attributes and relations of every thing."""
    copy = _copy(picture, language)
    objects: dict[str, Record] = {}
    for i, thing in enumerate(language.things):
        x, y, w, h = annotate(rng, thing.box, copy)
        objects[object_id(picture, i)] = {
            "name": thing.noun,
            "x": x,
            "y": y,
            "w": w,
            "h": h,
            "attributes": [thing.colour, thing.texture, thing.size],
            "relations": [
                {
                    "name": RELATIONS[relation.direction][0],
                    "object": object_id(picture, relation.object),
                }
                for relation in language.relations
                if relation.subject == i and relation.direction in ("left", "right")
            ],
        }
    return {"width": copy.width, "height": copy.height, "objects": objects}


def questions(
    rng: Random, picture: Picture, language: Language, average: float
) -> Iterator[tuple[str, Record]]:
    """Question ids and questions of a picture, ``average`` balanced ones in the mean.

    Pictures of the train split have unbalanced ones as well, which come last.
    """
    balanced = int(average * (0.5 + rng.random()) + rng.random())
    extra = int(balanced * UNBALANCED_PER_BALANCED + rng.random())
    planted: dict[int, str] = {}
    if picture.gqa == "train":
        planted = defects.plan(rng, defects.QUESTIONS, picture.vg_ordinal, average, balanced)
    for place in range(balanced + (extra if picture.gqa == "train" else 0)):
        record = _record(picture, draft(rng, language), place < balanced)
        if place in planted:
            record["annotations"]["question"]["0"] = object_id(picture, 999)
        question_id = f"{QUESTIONS_PER_PICTURE * picture.number + place:08d}"
        record["equivalent"] = [question_id]
        yield question_id, record


def object_id(picture: Picture, thing: int) -> str:
    return str(OBJECTS_PER_PICTURE * (picture.number + 1) + FIRST_OBJECT + thing)


def _copy(picture: Picture, language: Language) -> Copy:
    longest = COCO_LONGEST if picture.coco == "test" else picture.vg_longest
    return copy_of(language.scene, longest)


def _record(picture: Picture, drafted: Draft, balanced: bool) -> Record:
    program = [
        {
            "operation": step.operation,
            "dependencies": step.dependencies,
            "argument": _argument(picture, step),
        }
        for step in drafted.program
    ]
    thing = drafted.answered_by
    answer = {} if thing is None else {"0": object_id(picture, thing)}
    return {
        "semantic": program,
        "entailed": [],
        "equivalent": [],
        "question": drafted.question.text,
        "imageId": picture.gqa_id,
        "isBalanced": balanced,
        "groups": {"global": None, "local": f"{drafted.detailed}-{picture.gqa_id}"},
        "answer": drafted.answer,
        "semanticStr": "->".join(map(_step, program)),
        "annotations": {
            "answer": answer,
            "question": _places(picture, drafted.question),
            "fullAnswer": _places(picture, drafted.full_answer),
        },
        "types": {
            "detailed": drafted.detailed,
            "semantic": drafted.semantic,
            "structural": drafted.structural,
        },
        "fullAnswer": drafted.full_answer.text,
    }


def _argument(picture: Picture, step: Step) -> str:
    if step.thing is None:
        return step.argument
    return f"{step.argument} ({object_id(picture, step.thing)})"


def _step(step: Record) -> str:
    """A step as in ``semanticStr``: "query: name [1]"."""
    text = f"{step['operation']}: {step['argument']}"
    return f"{text} {step['dependencies']}" if step["dependencies"] else text


def _places(picture: Picture, said: Sentence) -> dict[str, str]:
    """The words of every mention's noun, by their places in the sentence."""
    return {_place(said.text, m): object_id(picture, m.things[0]) for m in said.mentions}


def _place(text: str, mention: Mention) -> str:
    first = text[: mention.noun].count(" ")
    words = 1 + text[mention.noun : mention.stop].count(" ")
    return str(first) if words == 1 else f"{first}:{first + words}"
