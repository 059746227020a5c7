"""Questions about a scene in GQA's style, with answers that the image shows."""

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from pipelines.synthetic.phrases import (
    OPPOSITE,
    RELATIONS,
    Language,
    ObjectPhrase,
    Sentence,
    SpatialRelation,
    article,
    plural,
    sentence,
)
from pipelines.synthetic.scene import COLORS

SIZE_ORDER = ("small", "medium", "large")


class ProgramStep(NamedTuple):
    """A step of a question's program; ``dependencies`` are indices of earlier steps."""

    operation: str
    dependencies: list[int]
    argument: str
    obj: int | None = None


class GqaQuestion(NamedTuple):
    """A question and its answer, without ids.

    ``detailed``, ``semantic`` and ``structural`` are GQA's types of questions; ``answer_object`` is
    the object that the answer names, if it names one.
    """

    question: Sentence
    answer: str
    full_answer: Sentence
    program: list[ProgramStep]
    detailed: str
    semantic: str
    structural: str
    answer_object: int | None = None


def make_question(rng: Random, language: Language) -> GqaQuestion:
    """Returns a question of a random type among those that the scene allows."""
    while True:
        question = rng.choice(_QUESTION_TYPES)(rng, language)
        if question is not None:
            return question


def _exists(rng: Random, language: Language) -> GqaQuestion:
    """Returns a question whether an object exists, whose words do not give the answer away."""
    i = rng.randrange(len(language.objects))
    exists = rng.random() < 0.5
    phrase = language.noun_phrase(rng, i) if exists else language.absent_noun_phrase(rng)
    singular = [article(phrase.words), _present_only(phrase)]
    question = sentence(["Is there", *singular, "in the image"])
    if rng.random() < 0.5:
        several = ObjectPhrase(plural(phrase.words), plural(phrase.noun), phrase.objects)
        question = sentence(["Do you see any", _present_only(several)])
    select = _select(language, i) if exists else _select_absent(phrase.noun)
    return GqaQuestion(
        question=_add_end(question, "?"),
        answer="yes" if exists else "no",
        full_answer=_statement(["Yes, there is" if exists else "No, there is not", *singular]),
        program=[select, ProgramStep("exist", [0], "?")],
        detailed="exist",
        semantic="obj",
        structural="verify",
    )


def _color(rng: Random, language: Language) -> GqaQuestion | None:
    i = rng.randrange(len(language.objects))
    phrase = language.colorless_noun_phrase(rng, i)
    if phrase is None:
        return None
    color = language.objects[i].color
    return GqaQuestion(
        question=_question(["What color is the", phrase]),
        answer=color,
        full_answer=_statement(["The", phrase, f"is {color}"]),
        program=[_select(language, i), ProgramStep("query", [0], "color")],
        detailed="color",
        semantic="attr",
        structural="query",
    )


def _choose_color(rng: Random, language: Language) -> GqaQuestion | None:
    i = rng.randrange(len(language.objects))
    phrase = language.colorless_noun_phrase(rng, i)
    if phrase is None:
        return None
    color = language.objects[i].color
    options = [color, rng.choice([other for other in COLORS if other != color])]
    rng.shuffle(options)
    return GqaQuestion(
        question=_question(["Is the", phrase, " or ".join(options)]),
        answer=color,
        full_answer=_statement(["The", phrase, f"is {color}"]),
        program=[_select(language, i), ProgramStep("choose color", [0], "|".join(options))],
        detailed="chooseAttr",
        semantic="attr",
        structural="choose",
    )


def _query_relation(rng: Random, language: Language) -> GqaQuestion | None:
    """Returns "What is to the left of the red circle?" where that is one object only."""
    unambiguous = [
        relation
        for relation in _directions(language)
        if language.possible_subjects(relation.direction, relation.object) == [relation.subject]
    ]
    if not unambiguous:
        return None
    relation = rng.choice(unambiguous)
    words = RELATIONS[relation.direction][0]
    noun = language.objects[relation.subject].noun
    anchor = language.noun_phrase(rng, relation.object)
    answer = ObjectPhrase(noun, noun, [relation.subject])
    return GqaQuestion(
        question=_question([f"What is {words} the", anchor]),
        answer=noun,
        full_answer=_statement(["The", answer, f"is {words} the", anchor]),
        program=[
            _select(language, relation.object),
            ProgramStep("relate", [0], f"_,{words},s", relation.subject),
            ProgramStep("query", [1], "name"),
        ],
        detailed="relS",
        semantic="rel",
        structural="query",
        answer_object=relation.subject,
    )


def _verify_relation(rng: Random, language: Language) -> GqaQuestion | None:
    directions = _directions(language)
    if not directions:
        return None
    relation = rng.choice(directions)
    holds = rng.random() < 0.5
    asked = RELATIONS[relation.direction if holds else OPPOSITE[relation.direction]][0]
    true_words = RELATIONS[relation.direction][0]
    subject = language.noun_phrase(rng, relation.subject)
    anchor = language.noun_phrase(rng, relation.object)
    answer = "yes" if holds else "no"
    relate = f"{language.objects[relation.subject].noun},{asked},s"
    return GqaQuestion(
        question=_question(["Is the", subject, f"{asked} the", anchor]),
        answer=answer,
        full_answer=_statement(
            [f"{answer.capitalize()}, the", subject, f"is {true_words} the", anchor]
        ),
        program=[
            _select(language, relation.object),
            ProgramStep("relate", [0], relate, relation.subject),
            ProgramStep("exist", [1], "?"),
        ],
        detailed="relVerify",
        semantic="rel",
        structural="verify",
    )


def _choose_relation(rng: Random, language: Language) -> GqaQuestion | None:
    directions = _directions(language)
    if not directions:
        return None
    relation = rng.choice(directions)
    words = RELATIONS[relation.direction][0]
    options = [words, RELATIONS[OPPOSITE[relation.direction]][0]]
    rng.shuffle(options)
    subject = language.noun_phrase(rng, relation.subject)
    anchor = language.noun_phrase(rng, relation.object)
    choice = f"{language.objects[relation.subject].noun},{'|'.join(options)},s"
    return GqaQuestion(
        question=_question(["Is the", subject, f"{' or '.join(options)} the", anchor]),
        answer=words,
        full_answer=_statement(["The", subject, f"is {words} the", anchor]),
        program=[
            _select(language, relation.object),
            ProgramStep("choose rel", [0], choice, relation.subject),
        ],
        detailed="relChooser",
        semantic="rel",
        structural="choose",
    )


def _both_exist(rng: Random, language: Language) -> GqaQuestion:
    """Returns a conjunction; where it is false, its second half names a shape that is absent."""
    i, j = rng.sample(range(len(language.objects)), 2)
    first = language.noun_phrase(rng, i)
    exist = rng.random() < 0.5
    second = language.noun_phrase(rng, j) if exist else language.absent_noun_phrase(rng)
    select_second = _select(language, j) if exist else _select_absent(second.noun)
    both: list[str | ObjectPhrase] = [
        article(first.words),
        first,
        f"and {article(second.words)}",
        _present_only(second),
    ]
    return GqaQuestion(
        question=_question(["Are there both", *both]),
        answer="yes" if exist else "no",
        full_answer=_statement(
            ["Yes, there are both", *both] if exist else [f"No, there is no {second.words}"]
        ),
        program=[
            _select(language, i),
            ProgramStep("exist", [0], "?"),
            select_second,
            ProgramStep("exist", [2], "?"),
            ProgramStep("and", [1, 3], ""),
        ],
        detailed="existAnd",
        semantic="obj",
        structural="logical",
    )


def _same_color(rng: Random, language: Language) -> GqaQuestion | None:
    i, j = rng.sample(range(len(language.objects)), 2)
    first = language.colorless_noun_phrase(rng, i)
    second = language.colorless_noun_phrase(rng, j)
    if first is None or second is None:
        return None
    same = language.objects[i].color == language.objects[j].color
    both: list[str | ObjectPhrase] = ["the", first, "and the", second]
    if same:
        full_answer = _statement(["Yes,", *both, f"are both {language.objects[i].color}"])
    else:
        full_answer = _statement(["No,", *both, "have different colors"])
    return GqaQuestion(
        question=_question(["Do", *both, "have the same color"]),
        answer="yes" if same else "no",
        full_answer=full_answer,
        program=[
            _select(language, i),
            _select(language, j),
            ProgramStep("same color", [0, 1], ""),
        ],
        detailed="twoSame",
        semantic="attr",
        structural="compare",
    )


def _compare_size(rng: Random, language: Language) -> GqaQuestion | None:
    """Returns "Which is larger, the circle or the star?", always of two different nouns."""
    i, j = rng.sample(range(len(language.objects)), 2)
    a, b = language.objects[i], language.objects[j]
    if a.size == b.size or a.noun == b.noun:
        return None
    larger = i if SIZE_ORDER.index(a.size) > SIZE_ORDER.index(b.size) else j
    noun = language.objects[larger].noun
    first, second = language.noun_phrase(rng, i), language.noun_phrase(rng, j)
    return GqaQuestion(
        question=_question(["Which is larger, the", first, "or the", second]),
        answer=noun,
        full_answer=_statement(["The", ObjectPhrase(noun, noun, [larger]), "is larger"]),
        program=[
            _select(language, i),
            _select(language, j),
            ProgramStep("choose larger", [0, 1], ""),
        ],
        detailed="compareSize",
        semantic="attr",
        structural="compare",
        answer_object=larger,
    )


def _background(rng: Random, language: Language) -> GqaQuestion:
    """Returns a question about the whole image, which refers to no object."""
    pattern = language.scene.background.pattern
    return GqaQuestion(
        question=_question(["What does the background look like"]),
        answer=pattern,
        full_answer=_statement([f"The background is {pattern}"]),
        program=[ProgramStep("select", [], "scene"), ProgramStep("query", [0], "background")],
        detailed="background",
        semantic="global",
        structural="query",
    )


#: Each type as often as it is listed; `_exists` suits every scene.
_QUESTION_TYPES: list[Callable[[Random, Language], GqaQuestion | None]] = [
    _exists,
    _exists,
    _color,
    _color,
    _choose_color,
    _query_relation,
    _query_relation,
    _verify_relation,
    _choose_relation,
    _both_exist,
    _same_color,
    _compare_size,
    _background,
]


def _question(parts: list[str | ObjectPhrase]) -> Sentence:
    return _add_end(sentence(parts), "?")


def _statement(parts: list[str | ObjectPhrase]) -> Sentence:
    return _add_end(sentence(parts), ".")


def _add_end(text: Sentence, punctuation: str) -> Sentence:
    return Sentence(text.text + punctuation, text.mentions)


def _present_only(phrase: ObjectPhrase) -> str | ObjectPhrase:
    """Returns the phrase, or only its words if they refer to no object."""
    return phrase if phrase.objects else phrase.words


def _select(language: Language, obj: int) -> ProgramStep:
    return ProgramStep("select", [], language.objects[obj].noun, obj)


def _select_absent(noun: str) -> ProgramStep:
    return ProgramStep("select", [], f"{noun} (-) ")


def _directions(language: Language) -> list[SpatialRelation]:
    return [relation for relation in language.relations if relation.direction != "near"]
