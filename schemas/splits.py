"""The names of splits: which are trained on, which are evaluated on, and where files state them."""

import re
from pathlib import PurePath

# COCO's "restval", of Karpathy's splits, is trained on.
_TRAINED_ON = re.compile(r"train(?:ing)?[_-]?[0-9]*|restval", re.IGNORECASE)
_EVALUATED_ON = re.compile(
    r"(?:mini)?(?:val(?:id(?:ation)?)?|test(?:ing)?|dev|eval(?:uation)?)"
    r"(?:[_-]?(?:[abc]|[0-9]+|dev|std|challenge|seen|unseen))*",
    re.IGNORECASE,
)
_SHARD = re.compile(r"([A-Za-z0-9_]+)-[0-9]{5}-of-[0-9]{5}")
_OTHER_NAMES = {"validation": "val"}


def is_trained_on(split: str) -> bool:
    """Returns whether a split is known by its name to be trained on.

    >>> is_trained_on("Train"), is_trained_on("training"), is_trained_on("trainval")
    (True, True, False)
    """
    return _TRAINED_ON.fullmatch(split.strip()) is not None


def is_evaluated_on(split: str) -> bool:
    """Returns whether a split is known by its name to be evaluated on.

    >>> is_evaluated_on("testA"), is_evaluated_on("minival"), is_evaluated_on("chapter1")
    (True, True, False)
    """
    return _EVALUATED_ON.fullmatch(split.strip()) is not None


def split_of_shard(name: str) -> str:
    """Returns the split that the name of one of several files states, or an empty text.

    >>> split_of_shard("validation-00000-of-00002.parquet"), split_of_shard("a.parquet")
    ('val', '')
    """
    match = _SHARD.match(name)
    return _OTHER_NAMES.get(match[1], match[1]) if match else ""


def split_of_path(path: PurePath) -> str:
    """Returns the split that a file's name or its folders state, or an empty text.

    >>> split_of_path(PurePath("data/test-00000-of-00001.parquet"))
    'test'
    >>> split_of_path(PurePath("train/0000.parquet")), split_of_path(PurePath("a/0.tar"))
    ('train', '')
    """
    names = (split_of_shard(path.name), path.stem, *reversed(path.parts[:-1]))
    return next((name for name in names if is_trained_on(name) or is_evaluated_on(name)), "")
