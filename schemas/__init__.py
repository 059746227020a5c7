"""What a record is: typed records and the Arrow schemas of the tables written from them."""

from schemas.records import (
    Box,
    Caption,
    Excluded,
    GroundedCaption,
    HeldOut,
    ImageInfo,
    ImageRecord,
    Object,
    Phrase,
    Provenance,
    Question,
    Region,
    Rejected,
    Sample,
    Span,
)

__all__ = [
    "Box",
    "Caption",
    "Excluded",
    "GroundedCaption",
    "HeldOut",
    "ImageInfo",
    "ImageRecord",
    "Object",
    "Phrase",
    "Provenance",
    "Question",
    "Region",
    "Rejected",
    "Sample",
    "Span",
]
