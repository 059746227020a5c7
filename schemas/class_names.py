"""Converts class names of a detection dataset to captions."""

import re


def class_name(name: str) -> str:
    """Returns a class's published name without its qualifier in brackets, as in MDETR's training.

    Some classes of LVIS then share a name, such as "fish" and "fish_(food)", and so a caption.

    >>> class_name("bow_(decorative_ribbons)"), class_name("aerosol_can")
    ('bow', 'aerosol can')
    """
    return " ".join(re.sub(r"\(.*?\)", " ", name).replace("_", " ").split())
