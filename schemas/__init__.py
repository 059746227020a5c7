"""Typed records, a sample of a shard with its JSON, and the Arrow schemas of the tables."""

from schemas.licenses import UNKNOWN_LICENSE, License
from schemas.records import (
    ALL_BOXES_LOST,
    UNKNOWN_IMAGE,
    UNKNOWN_OBJECT,
    EvalImage,
    Excluded,
    GroundedCaption,
    ImageInfo,
    ImageRecord,
    NotAskedFor,
    Object,
    ObjectRegion,
    RawCounts,
    Rejected,
)
from schemas.sample import Box, Caption, Phrase, Provenance, Question, Region, Sample, Span

__all__ = [
    "ALL_BOXES_LOST",
    "UNKNOWN_IMAGE",
    "UNKNOWN_LICENSE",
    "UNKNOWN_OBJECT",
    "Box",
    "Caption",
    "EvalImage",
    "Excluded",
    "GroundedCaption",
    "ImageInfo",
    "ImageRecord",
    "License",
    "NotAskedFor",
    "Object",
    "ObjectRegion",
    "Phrase",
    "Provenance",
    "Question",
    "RawCounts",
    "Region",
    "Rejected",
    "Sample",
    "Span",
]
