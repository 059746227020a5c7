"""The fields of a manifest's recipe that the inspection tools show, read leniently.

The recipe of a shard set from another version may have any form; unreadable fields are unknown.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from schemas.decodable import decodable


class _Rules(msgspec.Struct):
    max_length: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class _WithRules(msgspec.Struct):
    rules: _Rules


class _Source(msgspec.Struct):
    refs: dict[str, Any] | None = None


class _WithSources(msgspec.Struct):
    sources: dict[str, _Source]


def max_caption_length(recipe: Mapping[str, Any]) -> int | None:
    """Returns the length limit of combined captions in characters; None if it is unknown."""
    try:
        return msgspec.convert(recipe, decodable(_WithRules)).rules.max_length
    except msgspec.ValidationError:
        return None


def datasets_by_source(recipe: Mapping[str, Any]) -> dict[str, list[str]]:
    """Returns the datasets of each source: its ``refs`` (RefCOCO), or the source's own name."""
    try:
        sources = msgspec.convert(recipe, decodable(_WithSources)).sources
    except msgspec.ValidationError:
        return {}
    return {
        name: [name] if source.refs is None else list(source.refs)
        for name, source in sources.items()
    }
