"""The pages' templates, rendered so that nothing in a shard set can be more than text in them."""

import functools
import unicodedata
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from shards.inspection import charts, flow
from shards.inspection.marked_caption import COLOURS

_STEERING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def render(template: str, **values: object) -> str:
    """A template of ``pages/``, filled in."""
    return _environment().get_template(template).render(values)


def visible(text: str) -> str:
    r"""A text whose control characters are written out, so that they can be seen and do nothing.

    Those that steer the direction of text are among them: they could make it read as another one.

    >>> visible("a\x1b[1mb\u202ec\n")
    'a\\u001b[1mb\\u202ec\n'
    """
    if text.isprintable():
        return text
    return "".join(f"\\u{ord(char):04x}" if _steers(char) else char for char in text)


def _steers(char: str) -> bool:
    if char in "\t\n":
        return False
    return (
        unicodedata.category(char) in ("Cc", "Cs") or unicodedata.bidirectional(char) in _STEERING
    )


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
    environment.globals |= {"area": charts, "diagram": flow, "colours": COLOURS}
    environment.filters["form"] = format
    environment.filters["count"] = lambda n: f"{n:,d}"
    environment.filters["percent"] = lambda share: f"{100 * share:.1f} %"
    environment.filters["px"] = lambda x: f"{x:.6g}"
    environment.filters["megabytes"] = lambda n: f"{n / 1e6:,.1f} MB"
    return environment


def _shown(value: Any) -> Any:
    """What stands for a value that a template prints."""
    return visible(value) if type(value) is str else value
