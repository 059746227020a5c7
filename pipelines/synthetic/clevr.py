"""A generated world in CLEVR's published layout, to try its recipe and tasks without downloads.

    python -m pipelines.synthetic.clevr OUT --images 2000 --seed 0

Below OUT: clevr/images/, clevr/scenes/, clevr/questions/, with splits train and val. The same
options give the same bytes. Objects stand on a plane that a camera looks down at, as in CLEVR, and
are drawn flat; questions and programs are CLEVR's kinds: exist, count, compare number, compare
attribute and query attribute.
"""

import argparse
import json
import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from PIL import Image, ImageDraw

from pipelines.sources.clevr.scenes import ELEVATION, FOCAL_LENGTH, HEIGHT, WIDTH

COLORS = {
    "gray": (87, 87, 87),
    "red": (173, 35, 35),
    "blue": (42, 75, 215),
    "green": (29, 105, 20),
    "brown": (129, 74, 25),
    "purple": (129, 38, 192),
    "cyan": (41, 208, 208),
    "yellow": (255, 238, 51),
}
SHAPES, MATERIALS, SIZES = ("cube", "sphere", "cylinder"), ("rubber", "metal"), ("small", "large")
HALF_HEIGHTS = {"small": 0.35, "large": 0.7}
DISTANCE = 11.0  # of the camera from the middle of the plane
GROUND = (150, 150, 150)
QUESTIONS, DRAFTS, TRIES = 8, 40, 20  # of an image; of a draft
#: How much more often the most frequent answer to a kind of question may be than the second one.
MOST_ADVANTAGE = 1.1
RELATIONS = {"left": "left of", "right": "right of", "front": "in front of", "behind": "behind"}
# A camera that looks along the plane's diagonal.
RIGHT, BEHIND = (0.7, 0.714), (-0.714, 0.7)
Scene = dict[str, Any]
#: What a question asks for, and how much it says.
Kind = tuple[str, int]


class Draft(NamedTuple):
    """A question with the program that answers it.

    ``said`` is how many attributes it states, of two objects the one's more than the other's: where
    it says much of an object, there are few such objects.
    """

    text: str
    program: list[dict[str, Any]]
    answer: str
    said: int = 0


def compose(rng: Random) -> list[dict[str, Any]]:
    """Three to six objects that do not stand in each other's way."""
    objects: list[dict[str, Any]] = []
    for _ in range(60):
        size = rng.choice(SIZES)
        x, y = rng.uniform(-3, 3), rng.uniform(-3, 3)
        half = HALF_HEIGHTS[size]
        places = [obj["3d_coords"] for obj in objects]
        if any(math.dist((x, y), place[:2]) < half + place[2] + 0.4 for place in places):
            continue
        objects.append(
            {
                "size": size,
                "color": rng.choice(sorted(COLORS)),
                "material": rng.choice(MATERIALS),
                "shape": rng.choice(SHAPES),
                "rotation": math.degrees(math.atan2(RIGHT[1], RIGHT[0])),  # faces the camera
                "3d_coords": [x, y, half],
                "pixel_coords": _pixels(x, y, half),
            }
        )
        if len(objects) == 6 or (len(objects) >= 3 and rng.random() < 0.25):
            break
    return objects


def _pixels(x: float, y: float, z: float) -> list[float]:
    """Pixels from the left and the top, and distance, of a point of the scene."""
    across, away = x * RIGHT[0] + y * RIGHT[1], x * BEHIND[0] + y * BEHIND[1]
    distance = DISTANCE + away * math.cos(ELEVATION) - z * math.sin(ELEVATION)
    up = away * math.sin(ELEVATION) + z * math.cos(ELEVATION)
    scale = FOCAL_LENGTH / distance
    return [round(WIDTH / 2 + across * scale), round(HEIGHT / 2 - up * scale), distance]


def relationships(objects: list[dict[str, Any]]) -> dict[str, list[list[int]]]:
    """For each relation and object, the objects that are so of it."""
    signs = {"right": (RIGHT, 1), "left": (RIGHT, -1), "behind": (BEHIND, 1), "front": (BEHIND, -1)}

    def along(obj: dict[str, Any], axis: tuple[float, float]) -> float:
        return sum(a * b for a, b in zip(obj["3d_coords"], axis, strict=False))

    return {
        name: [
            [
                i
                for i, other in enumerate(objects)
                if sign * (along(other, axis) - along(obj, axis)) > 0.2
            ]
            for obj in objects
        ]
        for name, (axis, sign) in signs.items()
    }


def render(objects: list[dict[str, Any]]) -> Image.Image:
    """The objects as flat shapes, those further away first; metal has a bright spot."""
    image = Image.new("RGB", (WIDTH, HEIGHT), GROUND)
    draw = ImageDraw.Draw(image)
    for obj in sorted(objects, key=lambda t: -t["pixel_coords"][2]):
        x, y, distance = obj["pixel_coords"]
        half = obj["3d_coords"][2] * FOCAL_LENGTH / distance
        side, slant = half * math.cos(ELEVATION), half * math.sin(ELEVATION)
        color = COLORS[obj["color"]]
        darker = tuple(int(0.75 * channel) for channel in color)
        if obj["shape"] == "sphere":
            draw.ellipse((x - half, y - half, x + half, y + half), fill=color)
        elif obj["shape"] == "cube":
            draw.rectangle((x - half, y - side - slant, x + half, y + side + slant), fill=color)
            draw.rectangle((x - half, y - side + slant, x + half, y + side + slant), fill=darker)
        else:
            draw.ellipse((x - half, y + side - slant, x + half, y + side + slant), fill=darker)
            draw.rectangle((x - half, y - side, x + half, y + side), fill=darker)
            draw.ellipse((x - half, y - side - slant, x + half, y - side + slant), fill=color)
        if obj["material"] == "metal":
            spot = half / 4
            left, top = x - half / 3, y - half / 2
            draw.ellipse((left - spot, top - spot, left + spot, top + spot), fill=(255, 255, 255))
    return image


class Asker:
    """Asks about one scene; every question has one answer."""

    def __init__(self, objects: list[dict[str, Any]], rng: Random) -> None:
        self._objects = objects
        self._relations = relationships(objects)
        self._rng = rng

    def ask(self) -> Draft | None:
        """A question of a kind drawn evenly; None where the scene hardly allows the one drawn."""
        kinds: list[Callable[[], Draft | None]] = [
            self._exist,
            self._count,
            self._compare_number,
            self._compare_attribute,
            self._query,
        ]
        kind = self._rng.choice(kinds)
        return next(filter(None, (kind() for _ in range(TRIES))), None)

    def _described(self, share: float = 0.5) -> tuple[dict[str, str], str]:
        """Some attributes, each as often, mostly of an object that there is, and their words."""
        obj = self._rng.choice(self._objects)
        stated = {}
        for kind, values in (
            ("size", SIZES),
            ("color", tuple(COLORS)),
            ("material", MATERIALS),
            ("shape", SHAPES),
        ):
            if self._rng.random() < share:
                made_up = self._rng.random() < 0.15
                stated[kind] = self._rng.choice(values) if made_up else obj[kind]
        adjectives = [value for kind, value in stated.items() if kind != "shape"]
        return stated, " ".join([*adjectives, stated.get("shape", "object")])

    def _those(self, stated: dict[str, str], among: list[int] | None = None) -> list[int]:
        places = range(len(self._objects)) if among is None else among
        return [i for i in places if all(self._objects[i][k] == v for k, v in stated.items())]

    def _one(self) -> tuple[int, dict[str, str], str] | None:
        """A description that fits one object alone."""
        for _ in range(10):
            stated, words = self._described()
            found = self._those(stated)
            if len(found) == 1:
                return found[0], stated, words
        return None

    def _exist(self) -> Draft | None:
        stated, words = self._described()
        program = _filters([_node("scene")], stated)
        _add(program, "exist")
        answer = _yes(bool(self._those(stated)))
        return Draft(f"Are there any {words}s?", program, answer, len(stated))

    def _count(self) -> Draft | None:
        one = self._one()
        if one is None:
            return None
        place, stated, words = one
        relation = self._rng.choice(sorted(RELATIONS))
        wanted, wanted_words = self._described(0.2)
        program = _filters([_node("scene")], stated)
        _add(program, "unique")
        _add(program, "relate", relation)
        program = _filters(program, wanted)
        _add(program, "count")
        text = f"How many {wanted_words}s are {RELATIONS[relation]} the {words}?"
        found = self._those(wanted, self._relations[relation][place])
        return Draft(text, program, str(len(found)), len(wanted))

    def _compare_number(self) -> Draft | None:
        (first, first_words), (second, second_words) = self._described(), self._described()
        program = _filters([_node("scene")], first)
        _add(program, "count")
        counted = len(program) - 1
        program = _filters([*program, _node("scene")], second)
        _add(program, "count")
        program.append(_node("greater_than", [counted, len(program) - 1]))
        more = len(self._those(first)) > len(self._those(second))
        text = f"Are there more {first_words}s than {second_words}s?"
        return Draft(text, program, _yes(more), len(first) - len(second))

    def _compare_attribute(self) -> Draft | None:
        first, second = self._one(), self._one()
        kind = self._rng.choice(("size", "color", "material", "shape"))
        if first is None or second is None or first[0] == second[0]:
            return None
        if kind in first[1] or kind in second[1]:
            return None
        program = _filters([_node("scene")], first[1])
        _add(program, "unique")
        _add(program, f"query_{kind}")
        asked = len(program) - 1
        program = _filters([*program, _node("scene")], second[1])
        _add(program, "unique")
        _add(program, f"query_{kind}")
        program.append(_node(f"equal_{kind}", [asked, len(program) - 1]))
        same = self._objects[first[0]][kind] == self._objects[second[0]][kind]
        text = f"Does the {first[2]} have the same {kind} as the {second[2]}?"
        return Draft(text, program, _yes(same))

    def _query(self) -> Draft | None:
        one = self._one()
        kind = self._rng.choice(("size", "color", "material", "shape"))
        if one is None or kind in one[1]:
            return None
        place, stated, words = one
        program = _filters([_node("scene")], stated)
        _add(program, "unique")
        _add(program, f"query_{kind}")
        return Draft(f"What {kind} is the {words}?", program, self._objects[place][kind])


def balanced(drafts: Iterable[Draft], given: Counter[tuple[Kind, str]]) -> Iterator[Draft]:
    """Up to QUESTIONS of the drafts, without those whose answer is already too frequent.

    As in CLEVR, so that who does not look at the images cannot guess well. ``given`` counts the
    answers of each kind of question so far.
    """
    found = 0
    for draft in drafts:
        kind, answer = (draft.program[-1]["function"], draft.said), draft.answer
        others = [n for (of, other), n in given.items() if of == kind and other != answer]
        if found < QUESTIONS and given[kind, answer] <= MOST_ADVANTAGE * max(others, default=0) + 1:
            given[kind, answer] += 1
            found += 1
            yield draft


def _node(function: str, inputs: list[int] | None = None, *values: str) -> dict[str, Any]:
    return {"inputs": inputs or [], "function": function, "value_inputs": list(values)}


def _add(program: list[dict[str, Any]], function: str, *values: str) -> None:
    """A step more, which takes the last one."""
    program.append(_node(function, [len(program) - 1], *values))


def _filters(program: list[dict[str, Any]], stated: dict[str, str]) -> list[dict[str, Any]]:
    """The program with a filter more for each attribute."""
    program = list(program)
    for kind, value in stated.items():
        _add(program, f"filter_{kind}", value)
    return program


def _yes(so: bool) -> str:
    return "yes" if so else "no"


def write(out: Path, images: int, seed: int) -> None:
    """Makes a world in OUT.partial, which becomes OUT when it is complete; a fifth of it is val."""
    partial = out.with_name(out.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)  # what a killed run left behind
    for split, split_images in (("train", images - images // 5), ("val", images // 5)):
        folder = partial / "clevr" / "images" / split
        folder.mkdir(parents=True)
        scenes: list[Scene] = []
        questions: list[dict[str, Any]] = []
        given: Counter[tuple[Kind, str]] = Counter()
        for number in range(split_images):
            rng = Random(f"clevr {seed} {split} {number}")
            name = f"CLEVR_{split}_{number:06d}.png"
            objects = compose(rng)
            render(objects).save(folder / name)
            of_image = {"image_index": number, "image_filename": name, "split": split}
            directions = {"right": [*RIGHT, 0.0], "behind": [*BEHIND, 0.0]}
            scenes.append(
                {
                    **of_image,
                    "objects": objects,
                    "relationships": relationships(objects),
                    "directions": directions,
                }
            )
            asker = Asker(objects, rng)
            asked = filter(None, (asker.ask() for _ in range(DRAFTS)))
            for draft in balanced({draft.text: draft for draft in asked}.values(), given):
                questions.append(
                    {
                        **of_image,
                        "question_index": len(questions),
                        "question": draft.text,
                        "program": draft.program,
                        "answer": draft.answer,
                    }
                )
        for kind, content in (("scenes", scenes), ("questions", questions)):
            path = partial / "clevr" / kind / f"CLEVR_{split}_{kind}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps({"info": {"split": split}, kind: content}))
    if out.exists():
        out.rmdir()
    partial.rename(out)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.synthetic.clevr", description=__doc__.splitlines()[0]
    )
    parser.add_argument("out", type=Path, help="a folder that does not exist yet, or is empty")
    parser.add_argument("--images", type=int, default=2000, help="images (2000)")
    parser.add_argument("--seed", type=int, default=0, help="decides everything (0)")
    arguments = parser.parse_args()
    if arguments.out.exists() and any(arguments.out.iterdir()):
        parser.error(f"{arguments.out} is not empty")
    write(arguments.out, arguments.images, arguments.seed)


if __name__ == "__main__":
    main()
