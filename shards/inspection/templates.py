"""The pages' templates, rendered so that nothing in a shard set can be more than text in them."""

import functools
import unicodedata
from bisect import bisect_right
from itertools import accumulate
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from shards.inspection import charts, flow
from shards.inspection.marked_caption import COLORS

_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, formats, lone surrogates, separators of lines
_JOINERS = "\u200c\u200d"


class Exact(str):
    """A text that comes back as it was when a form is sent: it is escaped, not made visible."""


def render(template: str, **values: object) -> str:
    """A template of ``pages/``, filled in."""
    return _environment().get_template(template).render(values)


def visible(text: str) -> str:
    r"""A text with its controls, formats and separators of lines written out, so as to be seen.

    By Unicode, formats are what steers the direction of text, and so could make it read as another
    one, and most of what has no width. Tabs and line feeds stay, and joiners between other than
    ASCII characters: Persian words and emoji are written with them.

    >>> visible("a\x1b[1mb\u202ec\n")
    'a\\u001b[1mb\\u202ec\n'
    """
    if text.isprintable():
        return text
    padded = f" {text} "
    return "".join(
        _written_out(char) if _is_unseen(before, char, behind) else char
        for before, char, behind in zip(padded, text, padded[2:], strict=False)
    )


def _written_out(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 1 << 16 else f"\\U{ord(char):08x}"


def _is_unseen(before: str, char: str, behind: str) -> bool:
    if char in "\t\n" or unicodedata.category(char) not in _UNSEEN:
        return False
    return not (char in _JOINERS and _may_be_joined(before) and _may_be_joined(behind))


def _may_be_joined(char: str) -> bool:
    return not char.isascii() and unicodedata.category(char)[0] in "LMS"


def shortened(text: str, most: int) -> str:
    """A text as it is shown, in at most so many columns; wide characters take two.

    >>> shortened("flickr30k", 9), shortened("a_very_long_name", 9)
    ('flickr30k', 'a_very_l…')
    """
    text = visible(text)
    columns = list(accumulate(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text))
    if not text or columns[-1] <= most:
        return text
    return text[: bisect_right(columns, most - 1)] + "…"


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("shards.inspection", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.globals |= {"area": charts, "diagram": flow, "colors": COLORS}
    environment.filters["exact"] = Exact
    environment.filters["shortened"] = shortened
    environment.filters["form"] = format
    environment.filters["count"] = lambda n: f"{n:,d}"
    environment.filters["percent"] = lambda share: f"{100 * share:.1f} %"
    environment.filters["px"] = lambda x: f"{x:.6g}"
    environment.filters["megabytes"] = lambda n: f"{n / 1e6:,.1f} MB"
    return environment


def _shown(value: Any) -> Any:
    """What stands for a value that a template prints."""
    return visible(value) if type(value) is str else value
