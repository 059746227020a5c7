"""What the classes of a detection data set are called in captions."""

import re


def class_name(name: str) -> str:
    """A class by its published name, without remarks, as the published training had them.

    Some classes of LVIS have one name then: "fish" and "fish_(food)". They are asked for alike.

    >>> class_name("bow_(decorative_ribbons)"), class_name("aerosol_can")
    ('bow', 'aerosol can')
    """
    return " ".join(re.sub(r"\(.*?\)", " ", name).replace("_", " ").split())
