"""A synthetic dataset in CLEVR's published layout, for its recipe and tasks.

Objects stand on a plane that a camera looks down on, as in CLEVR, and are drawn as flat shapes.
Questions and programs are of CLEVR's types: exist, count, compare number, compare attribute and
query attribute.
"""

import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from pipelines.synthetic.clevr.questions import Questioner, QuestionType, balance
from pipelines.synthetic.clevr.scenes import DIRECTIONS, make_objects, relationships, render

#: Questions generated for each image, of which `balance` chooses some.
CANDIDATES = 40


def generate_clevr(root: Path, num_images: int, seed: int) -> None:
    """Writes clevr/images, clevr/scenes and clevr/questions below ``root``.

    A fifth of the images is the split val, the others are train.
    """
    for split, split_images in (("train", num_images - num_images // 5), ("val", num_images // 5)):
        _generate_split(root / "clevr", split, split_images, seed)


def _generate_split(root: Path, split: str, num_images: int, seed: int) -> None:
    folder = root / "images" / split
    folder.mkdir(parents=True)
    scenes: list[dict[str, Any]] = []
    questions: list[dict[str, Any]] = []
    answer_counts: Counter[tuple[QuestionType, str]] = Counter()
    for number in range(num_images):
        rng = Random(f"clevr {seed} {split} {number}")
        name = f"CLEVR_{split}_{number:06d}.png"
        objects = make_objects(rng)
        render(objects).save(folder / name)
        image_fields = {"image_index": number, "image_filename": name, "split": split}
        scenes.append(
            {
                **image_fields,
                "objects": objects,
                "relationships": relationships(objects),
                "directions": DIRECTIONS,
            }
        )
        questioner = Questioner(objects, rng)
        asked = filter(None, (questioner.ask() for _ in range(CANDIDATES)))
        distinct = {question.text: question for question in asked}.values()
        for question in balance(distinct, answer_counts):
            questions.append(
                {
                    **image_fields,
                    "question_index": len(questions),
                    "question": question.text,
                    "program": question.program,
                    "answer": question.answer,
                }
            )
    for kind, content in (("scenes", scenes), ("questions", questions)):
        path = root / kind / f"CLEVR_{split}_{kind}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"info": {"split": split}, kind: content}))
