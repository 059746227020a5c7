"""What a record is: typed records and the Arrow schemas of the tables written from them."""

from schemas.records import (
    Box,
    Caption,
    Excluded,
    GroundedCaption,
    HeldOut,
    ImagePart,
    Object,
    Part,
    Phrase,
    Picture,
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
    "ImagePart",
    "Object",
    "Part",
    "Phrase",
    "Picture",
    "Question",
    "Region",
    "Rejected",
    "Sample",
    "Span",
]
