"""What a reader of a raw dataset is.

A reader is a ``msgspec`` struct whose fields are the keys of its table in the recipe, and whose
methods name its files and turn slices of them into records. See docs/new_source.md.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import ClassVar, Literal

import msgspec

from pipelines.captions.options import Rules
from pipelines.captions.parsing import Parse
from schemas import ImageInfo, ImageRecord, Rejected

Layout = Literal["list", "dict", "lines", "file"]

Parser = Callable[[Iterable[str]], Mapping[str, Parse]]


class Input(msgspec.Struct, frozen=True):
    """One raw file and how it is cut into slices.

    ``list`` and ``dict``: JSON whose top level is that (or, with ``within``, whose top level is a
    dict that has it under that key), cut between elements. ``lines``: text, cut between lines.
    ``file``: never cut. A path that ends in ``.zip`` and a layout other than ``file`` means the
    zip's only member with the name's ending (``region_graphs.json.zip``).
    """

    path: str
    layout: Layout
    within: str = ""
    role: str = ""  # for readers with more than one kind of file


class Slice(msgspec.Struct, frozen=True):
    """A piece of one input: ``content`` is decompressed and cut at element borders.

    For ``list`` and ``dict`` it is itself a JSON list or dict; for ``file`` it is empty and the
    reader opens ``input.path`` itself.
    """

    input: Input
    content: bytes


class Context(msgspec.Struct, frozen=True):
    """What a build lends to a reader: its rules, the split names it makes, the language model."""

    rules: Rules
    splits: tuple[str, ...]
    parse: Parser
    stop_words: frozenset[str]


class Source(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One raw dataset in its published layout; subclasses are registered in ``recipe.SOURCES``.

    Every path in the fields is resolved against the recipe's ``root`` before a method is called.
    """

    #: the name in image keys that images of this source have: "coco" gives "coco/139"
    namespace: ClassVar[str]
    #: whether none of its images is a copy of another data set's; every worker knows the rows of
    #: all others, so that only of these there may be any number
    unique_images: ClassVar[bool] = False
    #: whether `read` uses the language model
    parses: ClassVar[bool] = False

    images: list[str] = []  # folders or zips below which Image.file is found, tried in turn

    def paths(self) -> list[str]:
        """Every file and folder that must exist before any work starts, images aside."""
        raise NotImplementedError

    def image_inputs(self) -> list[Input]:
        """The tables of images: small files, or small parts of files."""
        return []

    def read_images(self, piece: Slice) -> Iterator[ImageInfo | Rejected]:
        """The images that a slice of an image table lists."""
        raise NotImplementedError

    def split_names(self) -> set[str]:
        """The splits that the fields give files for by name; none where the files tell them."""
        return set()

    def inputs(self, splits: tuple[str, ...]) -> list[Input]:
        """The annotation files of these splits, in the order that ranks their records."""
        raise NotImplementedError

    def read(self, piece: Slice, context: Context) -> Iterator[ImageRecord | Rejected]:
        """What a slice of an annotation file says, one part an image."""
        raise NotImplementedError
