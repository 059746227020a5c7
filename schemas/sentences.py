"""The rule by which sentences become the text of a caption, for builds and their verification."""

from collections.abc import Iterable


def as_sentence(text: str) -> str:
    """Returns a text as part of a joined caption: with a full stop, unless it ends in . or ?.

    >>> as_sentence("a red cat"), as_sentence("is it red?")
    ('a red cat.', 'is it red?')
    """
    return text if text.endswith((".", "?")) else text + "."


def join_sentences(texts: Iterable[str]) -> str:
    """Returns the text of a caption that combines sentences.

    >>> join_sentences(["a red cat", "is it red?"])
    'a red cat. is it red?'
    """
    return " ".join(map(as_sentence, texts))
