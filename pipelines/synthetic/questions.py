"""Questions about a scene, as GQA asks them, with answers that the image shows."""

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from pipelines.synthetic.phrases import (
    OPPOSITE,
    RELATIONS,
    Language,
    Named,
    Relation,
    Sentence,
    article,
    plural,
    sentence,
)
from pipelines.synthetic.scene import COLORS

SIZE_ORDER = ("small", "medium", "large")


class Step(NamedTuple):
    """A step of a question's program; ``dependencies`` are the places of earlier steps."""

    operation: str
    dependencies: list[int]
    argument: str
    obj: int | None = None


class Draft(NamedTuple):
    """A question before it has ids. The last three but one are GQA's types of questions."""

    question: Sentence
    answer: str
    full_answer: Sentence
    program: list[Step]
    detailed: str
    semantic: str
    structural: str
    answered_by: int | None = None


def draft(rng: Random, language: Language) -> Draft:
    """A question of a kind that the image allows; `_exists` is one for every image."""
    while True:
        drafted = rng.choice(_KINDS)(rng, language)
        if drafted is not None:
            return drafted


def _select(language: Language, obj: int) -> Step:
    return Step("select", [], language.objects[obj].noun, obj)


def _select_absent(noun: str) -> Step:
    return Step("select", [], f"{noun} (-) ")


def _ask(said: Sentence) -> Sentence:
    return Sentence(said.text + "?", said.mentions)


def _state(said: Sentence) -> Sentence:
    return Sentence(said.text + ".", said.mentions)


def _exists(rng: Random, language: Language) -> Draft:
    """Whether something is there; the words do not tell."""
    i = rng.randrange(len(language.objects))
    true = rng.random() < 0.5
    named = language.describe(rng, i) if true else language.describe_absent(rng)
    halves = [article(named.words), _mentioned(named)]
    asked = sentence(["Is there", *halves, "in the image"])
    if rng.random() < 0.5:
        several = Named(plural(named.words), plural(named.noun), named.objects)
        asked = sentence(["Do you see any", _mentioned(several)])
    return Draft(
        _ask(asked),
        "yes" if true else "no",
        _state(sentence(["Yes, there is" if true else "No, there is not", *halves])),
        [_select(language, i) if true else _select_absent(named.noun), Step("exist", [0], "?")],
        "exist",
        "obj",
        "verify",
    )


def _mentioned(named: Named) -> str | Named:
    """What names nothing is a word as any other."""
    return named if named.objects else named.words


def _color(rng: Random, language: Language) -> Draft | None:
    i = rng.randrange(len(language.objects))
    named = language.describe_without_color(rng, i)
    if named is None:
        return None
    color = language.objects[i].color
    return Draft(
        _ask(sentence(["What color is the", named])),
        color,
        _state(sentence(["The", named, f"is {color}"])),
        [_select(language, i), Step("query", [0], "color")],
        "color",
        "attr",
        "query",
    )


def _choose_color(rng: Random, language: Language) -> Draft | None:
    i = rng.randrange(len(language.objects))
    named = language.describe_without_color(rng, i)
    if named is None:
        return None
    color = language.objects[i].color
    options = [color, rng.choice([other for other in COLORS if other != color])]
    rng.shuffle(options)
    return Draft(
        _ask(sentence(["Is the", named, " or ".join(options)])),
        color,
        _state(sentence(["The", named, f"is {color}"])),
        [
            _select(language, i),
            Step("choose color", [0], "|".join(options)),
        ],
        "chooseAttr",
        "attr",
        "choose",
    )


def _what_is_there(rng: Random, language: Language) -> Draft | None:
    """ "What is to the left of the red circle?", where one object only can be meant."""
    clear = [
        r for r in _directions(language) if language.beside(r.object, r.direction) == [r.subject]
    ]
    if not clear:
        return None
    relation = rng.choice(clear)
    words = RELATIONS[relation.direction][0]
    noun = language.objects[relation.subject].noun
    anchor = language.describe(rng, relation.object)
    answer = Named(noun, noun, [relation.subject])
    return Draft(
        _ask(sentence([f"What is {words} the", anchor])),
        noun,
        _state(sentence(["The", answer, f"is {words} the", anchor])),
        [
            _select(language, relation.object),
            Step("relate", [0], f"_,{words},s", relation.subject),
            Step("query", [1], "name"),
        ],
        "relS",
        "rel",
        "query",
        relation.subject,
    )


def _verify_relation(rng: Random, language: Language) -> Draft | None:
    directions = _directions(language)
    if not directions:
        return None
    relation = rng.choice(directions)
    true = rng.random() < 0.5
    asked = RELATIONS[relation.direction if true else OPPOSITE[relation.direction]][0]
    holds = RELATIONS[relation.direction][0]
    subject = language.describe(rng, relation.subject)
    anchor = language.describe(rng, relation.object)
    answer = "yes" if true else "no"
    relate = f"{language.objects[relation.subject].noun},{asked},s"
    return Draft(
        _ask(sentence(["Is the", subject, f"{asked} the", anchor])),
        answer,
        _state(sentence([f"{answer.capitalize()}, the", subject, f"is {holds} the", anchor])),
        [
            _select(language, relation.object),
            Step("relate", [0], relate, relation.subject),
            Step("exist", [1], "?"),
        ],
        "relVerify",
        "rel",
        "verify",
    )


def _choose_relation(rng: Random, language: Language) -> Draft | None:
    directions = _directions(language)
    if not directions:
        return None
    relation = rng.choice(directions)
    words = RELATIONS[relation.direction][0]
    options = [words, RELATIONS[OPPOSITE[relation.direction]][0]]
    rng.shuffle(options)
    subject = language.describe(rng, relation.subject)
    anchor = language.describe(rng, relation.object)
    chosen = f"{language.objects[relation.subject].noun},{'|'.join(options)},s"
    return Draft(
        _ask(sentence(["Is the", subject, f"{' or '.join(options)} the", anchor])),
        words,
        _state(sentence(["The", subject, f"is {words} the", anchor])),
        [
            _select(language, relation.object),
            Step("choose rel", [0], chosen, relation.subject),
        ],
        "relChooser",
        "rel",
        "choose",
    )


def _both(rng: Random, language: Language) -> Draft:
    """A conjunction; where it is false, its second half names a shape that is not there."""
    i, j = rng.sample(range(len(language.objects)), 2)
    first = language.describe(rng, i)
    true = rng.random() < 0.5
    second = language.describe(rng, j) if true else language.describe_absent(rng)
    selected = _select(language, j) if true else _select_absent(second.noun)
    a = article(second.words)
    halves: list[str | Named] = [article(first.words), first, f"and {a}", _mentioned(second)]
    missing = f"No, there is no {second.words}."
    return Draft(
        _ask(sentence(["Are there both", *halves])),
        "yes" if true else "no",
        _state(sentence(["Yes, there are both", *halves])) if true else Sentence(missing, []),
        [
            _select(language, i),
            Step("exist", [0], "?"),
            selected,
            Step("exist", [2], "?"),
            Step("and", [1, 3], ""),
        ],
        "existAnd",
        "obj",
        "logical",
    )


def _same_color(rng: Random, language: Language) -> Draft | None:
    i, j = rng.sample(range(len(language.objects)), 2)
    first = language.describe_without_color(rng, i)
    second = language.describe_without_color(rng, j)
    if first is None or second is None:
        return None
    same = language.objects[i].color == language.objects[j].color
    halves: list[str | Named] = ["the", first, "and the", second]
    if same:
        full = sentence(["Yes,", *halves, f"are both {language.objects[i].color}"])
    else:
        full = sentence(["No,", *halves, "have different colors"])
    return Draft(
        _ask(sentence(["Do", *halves, "have the same color"])),
        "yes" if same else "no",
        _state(full),
        [
            _select(language, i),
            _select(language, j),
            Step("same color", [0, 1], ""),
        ],
        "twoSame",
        "attr",
        "compare",
    )


def _which_is_larger(rng: Random, language: Language) -> Draft | None:
    """ "Which is larger, the circle or the star?"; the answer is a noun, so the nouns differ."""
    i, j = rng.sample(range(len(language.objects)), 2)
    a, b = language.objects[i], language.objects[j]
    if a.size == b.size or a.noun == b.noun:
        return None
    larger = i if SIZE_ORDER.index(a.size) > SIZE_ORDER.index(b.size) else j
    noun = language.objects[larger].noun
    first, second = language.describe(rng, i), language.describe(rng, j)
    return Draft(
        _ask(sentence(["Which is larger, the", first, "or the", second])),
        noun,
        _state(sentence(["The", Named(noun, noun, [larger]), "is larger"])),
        [
            _select(language, i),
            _select(language, j),
            Step("choose larger", [0, 1], ""),
        ],
        "compareSize",
        "attr",
        "compare",
        larger,
    )


def _ground(rng: Random, language: Language) -> Draft:
    """A question about the whole image, which has no boxes at all."""
    pattern = language.scene.background.pattern
    return Draft(
        Sentence("What does the background look like?", []),
        pattern,
        Sentence(f"The background is {pattern}.", []),
        [Step("select", [], "scene"), Step("query", [0], "background")],
        "background",
        "global",
        "query",
    )


def _directions(language: Language) -> list[Relation]:
    return [relation for relation in language.relations if relation.direction != "near"]


_KINDS: list[Callable[[Random, Language], Draft | None]] = [
    _exists,
    _exists,
    _color,
    _color,
    _choose_color,
    _what_is_there,
    _what_is_there,
    _verify_relation,
    _choose_relation,
    _both,
    _same_color,
    _which_is_larger,
    _ground,
]
