"""The root noun phrase of a caption, found in its dependency parse."""

from pipelines.captions.parsing import Parse
from schemas import Span

_NOUNS = frozenset(("NN", "NNS", "NNP", "NNPS"))
_NOUNS_AND_PRONOUNS = _NOUNS | {"PRP"}
_VERBS = frozenset(("VB", "VBD", "VBG", "VBN", "VBP", "VBZ"))


def root_and_negative_spans(text: str, parse: Parse, lazy: bool) -> tuple[list[Span], list[Span]]:
    """Finds the root noun phrase of a caption, and the words that belong to no other object.

    This is the heuristic of the published MDETR data (``get_root_and_nouns`` of its scripts).

    Args:
        text: the caption.
        parse: the parse of ``text``.
        lazy: do not split a text that has a single noun.

    Returns:
        The spans of the tokens of the root phrase, which name the object that the caption is
        about, and the spans of all tokens outside the noun phrases of other objects
        (``tokens_negative``). Both are the whole text where it cannot be split.
    """
    whole = [(0, len(text))]
    noun_count = sum(tag in _NOUNS_AND_PRONOUNS for tag in parse.tags)
    if noun_count == 0 or (lazy and noun_count == 1):
        return whole, whole
    root_phrase = _root_phrase(parse)
    if root_phrase is None:
        return whole, whole
    other_objects: set[int] = set()
    for token, tag in enumerate(parse.tags):
        if tag in _NOUNS and parse.deps[token] != "ROOT" and token not in root_phrase:
            other_objects.update(_noun_phrase(parse, token))
    negative = [token for token in range(len(parse.words)) if token not in other_objects]
    return [parse.span(token) for token in root_phrase], [parse.span(token) for token in negative]


def _root_phrase(parse: Parse) -> list[int] | None:
    """Returns the tokens of the noun phrase at the root of the sentence, if there is one."""
    root = _root(parse)
    if root is None:
        return None
    children = [token for token, head in enumerate(parse.heads) if head == root and token != root]
    if any(parse.tags[child] in _VERBS and parse.deps[child] == "compound" for child in children):
        return None
    if parse.tags[root] in _NOUNS:
        return _noun_phrase(parse, root)
    nouns = [child for child in children if parse.tags[child] in _NOUNS_AND_PRONOUNS]
    return [*_left_children(parse, nouns[0]), nouns[0]] if nouns else None


def _root(parse: Parse) -> int | None:
    """Returns the first root that is not an interjection."""
    for token, dep in enumerate(parse.deps):
        if dep == "ROOT" and parse.tags[token] != "UH":
            return token
    return None


def _left_children(parse: Parse, head: int) -> list[int]:
    return [token for token in range(head) if parse.heads[token] == head]


def _noun_phrase(parse: Parse, noun: int) -> list[int]:
    """Returns a noun and its left children and, recursively, those of children that are nouns."""
    phrase, unvisited = [noun], [noun]
    while unvisited:
        head = unvisited.pop()
        if parse.tags[head] in _NOUNS:
            children = _left_children(parse, head)
            phrase += children
            unvisited += children
    return phrase
