"""What the sentences of each published dataset have in common, by the reader that makes them.

A recipe names the reader of each source. Readers of annotation files in which anything may stand
(``mdetr_json``, ``custom``), and readers that are not shipped, are open: nothing is known of their
sentences.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

# The namespaces of the image keys of each reader; those of an open one may have any.
_NAMESPACES = {
    "clevr": {"clevr"},
    "coco": {"coco"},
    "coco_detection": {"coco"},
    "flickr30k": {"flickr30k"},
    "gqa": {"coco", "vg"},
    "lvis": {"coco"},
    "objects365": {"objects365"},
    "openimages": {"openimages"},
    "v3det": {"v3det"},
    "vg": {"vg"},
}


class DatasetRules(msgspec.Struct, frozen=True):
    """The rules for the sentences of a dataset.

    Attributes:
        min_regions: The least number of regions of a sentence.
        same_words: Whether all regions of a sentence name the same words.
        area: "box": the area of a region is that of its box; "object": at most that, since it is
            the area of the object's outline.
        negative: The words that ``tokens_negative`` covers: those of the whole sentence, at least
            those of its regions, or none.
        question: Whether each sentence is a question, whose id is that of the record.
        phrases: Whether the spans of all regions are phrases to ground.
        class_name: Whether a sentence is the name of a class, ``record`` the image and the class.
    """

    min_regions: int = 0
    same_words: bool = False
    area: Literal["box", "object"] = "box"
    negative: Literal["sentence", "regions", "none"] = "sentence"
    question: bool = False
    phrases: bool = False
    class_name: bool = False


# Of one object in RefCOCO, of several in gRefCOCO; a recipe may give both the same name.
_REFERRING = DatasetRules(min_regions=1, area="object", negative="regions", same_words=True)
_NO_TARGET = msgspec.structs.replace(_REFERRING, min_regions=0)  # or of none
# The names of classes that an image shows, and in LVIS also of some that it does not show.
_CLASSES = DatasetRules(min_regions=1, area="object", negative="none", class_name=True)
_OF_READER = {
    "clevr": {"clevr": DatasetRules(question=True)},
    "coco_detection": {"coco_classes": _CLASSES},
    "flickr30k": {"flickr30k": DatasetRules(phrases=True)},
    "gqa": {"gqa": DatasetRules(question=True)},
    "lvis": {"lvis": DatasetRules(area="object", negative="none", class_name=True)},
    "objects365": {"objects365": _CLASSES},
    # Its records name a class by its label, not by its number, and its images may be those of other
    # datasets.
    "openimages": {"openimages": DatasetRules(min_regions=1, negative="none")},
    "v3det": {"v3det": _CLASSES},
    "vg": {"vg": DatasetRules(min_regions=1, negative="regions")},
}


class Datasets(msgspec.Struct, frozen=True):
    """The datasets that a recipe's sources make.

    Attributes:
        rules: Of each dataset about whose sentences something is known.
        is_open: Whether a source may make other datasets, and images of any namespace.
        namespaces: Of the image keys of the sources that are not open.
        by_source: The datasets of each source that is not open.
    """

    rules: dict[str, DatasetRules]
    is_open: bool
    namespaces: frozenset[str]
    by_source: dict[str, frozenset[str]]


def datasets_of(sources: Mapping[str, Mapping[str, Any]], image_tables: Iterable[str]) -> Datasets:
    """Returns the datasets of the sources in a resolved recipe.

    An open source could make sentences of a dataset that another source makes as well, so nothing
    is known about any dataset beside one. ``image_tables`` are the namespaces of the image tables
    that no source has.
    """
    rules: dict[str, DatasetRules] = {}
    namespaces = set(image_tables)
    by_source: dict[str, frozenset[str]] = {}
    is_open = False
    for name, source in sources.items():
        reader = source.get("reader", name)
        refs = source.get("refs", {})
        if reader == "coco" and isinstance(refs, dict):
            made = dict.fromkeys(refs, _NO_TARGET if source.get("no_target") else _REFERRING)
        elif reader in _OF_READER:
            made = _OF_READER[reader]
        else:
            is_open = True
            continue
        rules |= made
        namespaces |= _NAMESPACES[reader]
        by_source[name] = frozenset(made)
    if is_open:
        rules = {}
    return Datasets(rules, is_open, frozenset(namespaces), by_source)
