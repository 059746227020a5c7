"""The answer heads that a model for question answering can have (paper, sections 4.1 and 4.4).

There are three sets of them. ``total`` alone is GQA's unified head. Otherwise ``type`` predicts
which of the other heads answers the question: for GQA one for each semantic type of question, for
CLEVR ``binary`` (yes or no), ``attr`` (attributes) and ``reg`` (numbers).
"""

from collections.abc import Container, Mapping, Sequence
from typing import Any

UNIFIED_TYPES = ("total",)
# In the order of the classes of the head ``type``.
GQA_TYPES = ("obj", "attr", "rel", "global", "cat")
CLEVR_TYPES = ("binary", "attr", "reg")

# Name and number of outputs of the heads of the published models, in the order of their queries.
GQA_ANSWER_HEADS = (
    ("type", 5),
    ("obj", 3),
    ("rel", 1594),
    ("attr", 403),
    ("cat", 678),
    ("global", 111),
)
CLEVR_ANSWER_HEADS = (
    ("type", 3),
    ("binary", 1),
    ("reg", 20),
    ("attr", 15),
)
UNIFIED_GQA_ANSWER_HEADS = (("total", 1853),)

# The order of the queries in all of the published models.
_QUERY_ORDER = ("type", "total", "binary", "reg", "obj", "rel", "attr", "cat", "global")


def question_types(heads: Container[str]) -> tuple[str, ...]:
    """Returns the heads that answer questions, in the order of the classes of the head ``type``.

    Args:
        heads: names of a complete set of heads, with or without ``type``.
    """
    if "total" in heads:
        return UNIFIED_TYPES
    return CLEVR_TYPES if "binary" in heads else GQA_TYPES


def answer_heads_for(answers: Mapping[str, Sequence[str]]) -> list[list[Any]]:
    """Returns ``MdetrConfig.answer_heads`` for the answers of every head but ``type``.

    Raises:
        ValueError: these are not the heads of a model, or a head has no answers or repeats one.
    """
    if answers.keys() != set(question_types(answers)) or not all(answers.values()):
        raise ValueError(f"no model has the answer heads {', '.join(sorted(answers))}")
    for head, names in answers.items():
        if len(set(names)) < len(names):
            raise ValueError(f"the answer head {head} has an answer twice")
    sizes = {head: len(names) for head, names in answers.items()}
    if "binary" in sizes:
        sizes["binary"] = 1  # one output for yes and no
    if "total" not in sizes:
        sizes["type"] = len(answers)
    return [[head, sizes[head]] for head in _QUERY_ORDER if head in sizes]


def check_answer_heads(heads: Sequence[Sequence[Any]]) -> None:
    """Raises a ``ValueError`` unless ``MdetrConfig.answer_heads`` is empty or a complete set."""
    complete_sets = (UNIFIED_TYPES, ("type", *CLEVR_TYPES), ("type", *GQA_TYPES))
    names = sorted(name for name, _ in heads)
    if names and names not in map(sorted, complete_sets):
        known = "; or ".join(map(", ".join, complete_sets))
        raise ValueError(f"answer_heads are {', '.join(names)}; they have to be {known}")
    for name, outputs in heads:
        if name == "type" and outputs != len(heads) - 1:
            raise ValueError(
                f"the answer head type has {outputs} answers for {len(heads) - 1} types"
            )
        if name == "binary" and outputs != 1:
            raise ValueError(f"the answer head binary has {outputs} outputs instead of 1")
