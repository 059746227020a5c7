"""What the recipe in a manifest says that is of interest here, as far as it is understood."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec


class _Rules(msgspec.Struct):
    max_length: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class _WithRules(msgspec.Struct):
    rules: _Rules


class _Source(msgspec.Struct):
    refs: dict[str, Any] | None = None


class _WithSources(msgspec.Struct):
    sources: dict[str, _Source]


def max_length(recipe: Mapping[str, Any]) -> int | None:
    """The length of captions that the rules allow, in characters; None if they do not tell."""
    try:
        return msgspec.convert(recipe, _WithRules).rules.max_length
    except msgspec.ValidationError:
        return None


def datasets_of_sources(recipe: Mapping[str, Any]) -> dict[str, list[str]]:
    """The data sets that each source is read for: its references (RefCOCO), or one of its name."""
    try:
        sources = msgspec.convert(recipe, _WithSources).sources
    except msgspec.ValidationError:
        return {}
    return {
        name: [name] if source.refs is None else list(source.refs)
        for name, source in sources.items()
    }
