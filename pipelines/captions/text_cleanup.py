"""Clean-up of caption text: white space and punctuation, with or without a map of offsets."""

import re

_PUNCTUATION = re.compile(r"[!?,;.:-]")

_Substitutions = tuple[tuple[re.Pattern[str], str], ...]  # (pattern, template), applied in order
_WHITESPACE: _Substitutions = (
    (re.compile("//t|_"), " "),  # the first is a misspelled tab
    (re.compile(r"\s{2,}|[^\S ]"), " "),
    (re.compile(r"\A | \Z"), ""),
)
_REPEATED_PUNCTUATION: _Substitutions = (
    (re.compile(r"([!?,;:-])\1+"), r"\1"),
    (re.compile(r"\.{2,}"), "..."),
    (re.compile(r"\s?-\s?"), "-"),
)
_CLEANUP = _WHITESPACE + _REPEATED_PUNCTUATION


def lower(text: str) -> str:
    """Lowers the case of a text without changing its length, so that offsets stay valid.

    >>> lower("A Man"), len(lower("İ"))
    ('a man', 1)
    """
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(low if len(low := char.lower()) == 1 else char for char in text)


def has_alphanumeric(text: str) -> bool:
    """Returns whether a text has a letter or digit."""
    return text.isalnum() or any(map(str.isalnum, text))


def remove_punctuation(text: str) -> str:
    """Deletes punctuation marks, hyphens included.

    >>> remove_punctuation("a man: short-haired.")
    'a man shorthaired'
    """
    return _PUNCTUATION.sub("", text)


def normalize_whitespace(text: str) -> str:
    r"""Leaves single spaces only and none at the ends; an underscore counts as a space.

    >>> normalize_whitespace(" a  traffic_light\n")
    'a traffic light'
    """
    return _substitute(_WHITESPACE, text)


def clean(phrase: str) -> str:
    """Turns a raw phrase into a caption: normalizes its white space, then its punctuation.

    A repeated mark becomes one, two or more dots become three, and no space remains around a
    hyphen.

    >>> clean(" what??  a t - shirt....")
    'what? a t-shirt...'
    """
    return _substitute(_CLEANUP, phrase)


def clean_with_offsets(phrase: str) -> tuple[str, list[int]]:
    """Returns ``clean(phrase)`` and, for each of its characters, its offset in ``phrase``.

    >>> clean_with_offsets(" a  t - shirt")
    ('a t-shirt', [1, 2, 4, 5, 8, 9, 10, 11, 12])
    """
    text, offsets = phrase, list(range(len(phrase)))
    for pattern, template in _CLEANUP:
        new_text: list[str] = []
        new_offsets: list[int] = []
        end = 0
        for match in pattern.finditer(text):
            replacement = match.expand(template)
            new_text += (text[end : match.start()], replacement)
            new_offsets += offsets[end : match.start()]
            new_offsets += [offsets[match.start()]] * len(replacement)
            end = match.end()
        text, offsets = "".join((*new_text, text[end:])), new_offsets + offsets[end:]
    return text, offsets


def _substitute(substitutions: _Substitutions, text: str) -> str:
    for pattern, template in substitutions:
        text = pattern.sub(template, text)
    return text
