"""What a record is: typed records and the Arrow schemas of the tables written from them."""

from schemas.records import (
    Box,
    GroundedCaption,
    ImagePart,
    Object,
    Phrase,
    Picture,
    Question,
    Region,
    Rejected,
    Span,
)

__all__ = [
    "Box",
    "GroundedCaption",
    "ImagePart",
    "Object",
    "Phrase",
    "Picture",
    "Question",
    "Region",
    "Rejected",
    "Span",
]
