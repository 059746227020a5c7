"""Renders the HTML templates so that the contents of a shard set cannot inject markup."""

import functools
import unicodedata
from bisect import bisect_right
from itertools import accumulate
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from schemas.licenses import is_web_address
from shards.inspection.caption_markup import COLORS

# Unicode categories: control, format, lone surrogate, line separator, paragraph separator.
_INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d"


class UnchangedText(str):
    """A form value: HTML-escaped, but otherwise unchanged, because the form sends it back."""


def render(template: str, package: str = "shards.inspection", /, **values: object) -> str:
    """Returns a template with its values filled in.

    Args:
        template: a file of the package's ``templates/``, which may include files of ours.
        package: the package.
        values: of the template's variables.
    """
    return _environment(package).get_template(template).render(values)


def make_visible(text: str) -> str:
    r"""Escapes control characters, format characters and line separators.

    Format characters can be invisible or change the direction of text, which could make it appear
    as another one. Tabs and line feeds stay, and so do joiners between letters, marks and symbols
    other than ASCII, which Persian words and emoji need.

    >>> make_visible("a\x1b[1mb\u202ec\n")
    'a\\u001b[1mb\\u202ec\n'
    """
    if text.isprintable():
        return text
    padded = f" {text} "
    return "".join(
        _escape(char) if _is_invisible(before, char, after) else char
        for before, char, after in zip(padded, text, padded[2:], strict=False)
    )


def _escape(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 1 << 16 else f"\\U{ord(char):08x}"


def _is_invisible(before: str, char: str, after: str) -> bool:
    if char in "\t\n" or unicodedata.category(char) not in _INVISIBLE:
        return False
    return not (char in _JOINERS and _may_be_joined(before) and _may_be_joined(after))


def _may_be_joined(char: str) -> bool:
    return not char.isascii() and unicodedata.category(char)[0] in "LMS"


def shorten(text: str, max_columns: int) -> str:
    """Returns the visible text, cut to ``max_columns``; East Asian wide characters take two.

    >>> shorten("flickr30k", 9), shorten("a_very_long_name", 9)
    ('flickr30k', 'a_very_l…')
    """
    text = make_visible(text)
    columns = list(accumulate(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text))
    if not text or columns[-1] <= max_columns:
        return text
    return text[: bisect_right(columns, max_columns - 1)] + "…"


@functools.cache
def _environment(package: str) -> Environment:
    packages = dict.fromkeys([package, "shards.inspection"])
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(name, "templates") for name in packages]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.globals["colors"] = COLORS
    environment.tests["web_address"] = is_web_address
    environment.filters |= {
        "unchanged": UnchangedText,
        "shorten": shorten,
        "form": format,
        "count": lambda n: f"{n:,d}",
        "percent": lambda ratio: f"{100 * ratio:.1f} %",
        "px": lambda x: f"{x:.6g}",
        "megabytes": lambda n: f"{n / 1e6:,.1f} MB",
    }
    return environment


def _finalize(value: Any) -> Any:
    """Makes every text that a template prints visible; markup and `UnchangedText` pass."""
    return make_visible(value) if type(value) is str else value
