"""GQA: balanced questions, all training questions, and scene graphs.

Every question comes with its program (``semantic``), with the objects that the words of the
question, the answer and the full answer refer to, and with its types. Keys of the annotations are
indices of words: "4", or "6:8" for a name of two words.
"""

from collections.abc import Iterator
from random import Random
from typing import Any

from pipelines.synthetic import corruption
from pipelines.synthetic.boxes import annotate_box, scale_to_longest
from pipelines.synthetic.gqa_questions import GqaQuestion, ProgramStep, make_question
from pipelines.synthetic.phrases import RELATIONS, Language, Mention, Sentence
from pipelines.synthetic.plan import COCO_LONGEST, SyntheticImage

#: Questions that the balancing left out, for every balanced one (15 in the published files).
UNBALANCED_PER_BALANCED = 0.5
#: Every image has an interval of ids for its questions, and one for its objects, which are
#: numbered after the objects of its Visual Genome regions.
QUESTIONS_PER_IMAGE = 1000
OBJECTS_PER_IMAGE, FIRST_OBJECT = 10_000, 9_000

#: Splits whose published questions have no answers and annotations, and the fields that they have.
UNANSWERED_SPLITS = ("test", "challenge")
UNANSWERED_FIELDS = ("question", "imageId", "isBalanced")

Record = dict[str, Any]


def scene_graph(rng: Random, image: SyntheticImage, language: Language) -> Record:
    """Returns the image's scene graph: box, attributes and relations of every object."""
    longest = COCO_LONGEST if image.coco == "test" else image.vg_longest
    scale = scale_to_longest(language.scene, longest)
    objects: dict[str, Record] = {}
    for i, obj in enumerate(language.objects):
        x, y, w, h = annotate_box(rng, obj.box, scale)
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
    return {"width": scale.width, "height": scale.height, "objects": objects}


def questions(
    rng: Random, image: SyntheticImage, language: Language, mean_count: float
) -> Iterator[tuple[str, Record]]:
    """Yields the ids and questions of an image, ``mean_count`` balanced ones on average.

    Images of the train split have unbalanced ones as well, which come last.
    """
    balanced = int(mean_count * (0.5 + rng.random()) + rng.random())
    unbalanced = int(balanced * UNBALANCED_PER_BALANCED + rng.random())
    corrupted: dict[int, str] = {}
    if image.gqa == "train":
        corrupted = corruption.plan_corruption(
            rng, corruption.QUESTIONS, image.vg_ordinal, mean_count, balanced
        )
    else:
        unbalanced = 0
    for number in range(balanced + unbalanced):
        record = _record(image, make_question(rng, language), is_balanced=number < balanced)
        if number in corrupted:
            record["annotations"]["question"]["0"] = object_id(image, 999)
        question_id = f"{QUESTIONS_PER_IMAGE * image.number + number:08d}"
        record["equivalent"] = [question_id]
        yield question_id, record


def object_id(image: SyntheticImage, obj: int) -> str:
    """Returns GQA's id of an object, by its index in the scene."""
    return str(OBJECTS_PER_IMAGE * (image.number + 1) + FIRST_OBJECT + obj)


def _record(image: SyntheticImage, question: GqaQuestion, is_balanced: bool) -> Record:
    program = [
        {
            "operation": step.operation,
            "dependencies": step.dependencies,
            "argument": _argument(image, step),
        }
        for step in question.program
    ]
    obj = question.answer_object
    return {
        "semantic": program,
        "entailed": [],
        "equivalent": [],
        "question": question.question.text,
        "imageId": image.gqa_id,
        "isBalanced": is_balanced,
        "groups": {"global": None, "local": f"{question.detailed}-{image.gqa_id}"},
        "answer": question.answer,
        "semanticStr": "->".join(map(_step_string, program)),
        "annotations": {
            "answer": {} if obj is None else {"0": object_id(image, obj)},
            "question": _objects_by_words(image, question.question),
            "fullAnswer": _objects_by_words(image, question.full_answer),
        },
        "types": {
            "detailed": question.detailed,
            "semantic": question.semantic,
            "structural": question.structural,
        },
        "fullAnswer": question.full_answer.text,
    }


def _argument(image: SyntheticImage, step: ProgramStep) -> str:
    if step.obj is None:
        return step.argument
    return f"{step.argument} ({object_id(image, step.obj)})"


def _step_string(step: Record) -> str:
    """Returns a step as in ``semanticStr``: "query: name [1]"."""
    text = f"{step['operation']}: {step['argument']}"
    return f"{text} {step['dependencies']}" if step["dependencies"] else text


def _objects_by_words(image: SyntheticImage, text: Sentence) -> dict[str, str]:
    """Returns the id of each mention's first object by the indices of its noun's words."""
    return {
        _word_indices(text.text, mention): object_id(image, mention.objects[0])
        for mention in text.mentions
    }


def _word_indices(text: str, mention: Mention) -> str:
    first = text[: mention.noun_start].count(" ")
    words = 1 + text[mention.noun_start : mention.stop].count(" ")
    return str(first) if words == 1 else f"{first}:{first + words}"
