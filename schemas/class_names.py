"""Names of the classes of detection datasets, and the captions that are such names."""

import re

_CLASS_DATASETS = frozenset({"lvis", "objects365", "openimages", "v3det"})
#: How the names of other datasets end whose captions are names of classes.
CLASSES_ENDING = "_classes"


def is_class_dataset(dataset: str) -> bool:
    """Returns whether the captions of a dataset are names of classes, by its name.

    >>> is_class_dataset("lvis"), is_class_dataset("coco_classes"), is_class_dataset("refcoco")
    (True, True, False)
    """
    return dataset in _CLASS_DATASETS or dataset.endswith(CLASSES_ENDING)


def class_name(name: str) -> str:
    """Returns a class's published name without its qualifier in brackets, as in MDETR's training.

    Some classes of LVIS then share a name, such as "fish" and "fish_(food)", and so a caption.

    >>> class_name("bow_(decorative_ribbons)"), class_name("aerosol_can"), class_name("x :(")
    ('bow', 'aerosol can', 'x :(')
    """
    # Up to the last closing bracket: opening ones behind it would each be compared with the rest.
    closed, bracket, rest = name.rpartition(")")
    return " ".join((re.sub(r"\([^)]*\)", " ", closed + bracket) + rest).replace("_", " ").split())
