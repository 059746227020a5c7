"""The images of the evaluation sets that a file is audited against."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from schemas.image_ids import NAMESPACES, namespace_of_dataset
from shards.audit.files.detection import open_annotation_file
from shards.audit.files.errors import AuditError
from shards.audit.files.statements import DATASETS, Reading, Statement, Unknown

_REMEDIES = {
    Unknown.NUMBER: "state their dataset: NAME=coco:PATH, vg:, gqa: or flickr30k:",
    Unknown.OWN_NAME: "they cannot be looked for by ids",
    Unknown.NO_ID: "they cannot be looked for",
    Unknown.UNREADABLE: "they may be trained on",
}


class EvalSet(NamedTuple):
    """An evaluation set.

    Attributes:
        name: Its name in tables.
        images: What its files state about each image, by key.
        unique: Keys of images that no other dataset has: those of COCO that GQA names, of test2015.
    """

    name: str
    images: dict[str, Statement]
    unique: set[str]


def read_eval_sets(arguments: Iterable[str], *, with_images: bool = False) -> list[EvalSet]:
    """Reads the evaluation sets that ``NAME=PATH`` or ``NAME=NAMESPACE:PATH`` name.

    PATH is of any format that is audited, or a pickle of RefCOCO's references. Of a shard set, the
    splits to evaluate on count, and of records that state a ``split``, those that are not in train.
    A set of several files is named several times. Where a file states no dataset, NAME tells it, if
    it is the name of one.

    Raises:
        AuditError: An argument has another form, or a file names no image or one that cannot be
            identified.
        ShardError: A shard set cannot be read.
        OSError: A file cannot be read.
    """
    sets: dict[str, EvalSet] = {}
    for argument in arguments:
        name, equals, location = argument.partition("=")
        if not (name and equals and location):
            raise AuditError(
                f"--against {argument}: expected NAME=PATH, such as refcoco=refs(unc).p"
            )
        namespace, colon, path = location.partition(":")
        if not (colon and namespace.lower() in NAMESPACES and not path.startswith("//")):
            namespace, path = DATASETS.get(re.split("[_-]", name.lower())[0], ""), location
        reading = Reading(namespace_of_dataset(namespace.lower()), "eval", with_images)
        eval_set = sets.setdefault(name, EvalSet(name, {}, set()))
        is_empty = True
        for statement in open_annotation_file(path, reading).statements():
            if statement.other_split:
                continue
            is_empty = False
            _check(statement, path)
            for key in statement.keys or statement.links:
                eval_set.images.setdefault(key, statement)
                if reading.namespace == "vg" and key.startswith("coco/") and not statement.file:
                    eval_set.unique.add(key)
        if is_empty:
            raise AuditError(f"--against {argument}: the file names no image that is evaluated on")
    return list(sets.values())


def _check(statement: Statement, path: str) -> None:
    """Checks that an image of an evaluation set can be identified: else it would leak unnoticed."""
    if statement.unknown is not None:
        raise AuditError(
            f"{path}: images such as {statement.name[:80]!a} {statement.unknown.value}: "
            f"{_REMEDIES[statement.unknown]}"
        )
