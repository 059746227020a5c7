"""Typed records, a sample of a shard with its JSON, and the Arrow schemas of the tables."""

from schemas.records import (
    EvalImage,
    Excluded,
    GroundedCaption,
    ImageInfo,
    ImageRecord,
    Object,
    ObjectRegion,
    Rejected,
)
from schemas.sample import Box, Caption, Phrase, Provenance, Question, Region, Sample, Span

__all__ = [
    "Box",
    "Caption",
    "EvalImage",
    "Excluded",
    "GroundedCaption",
    "ImageInfo",
    "ImageRecord",
    "Object",
    "ObjectRegion",
    "Phrase",
    "Provenance",
    "Question",
    "Region",
    "Rejected",
    "Sample",
    "Span",
]
