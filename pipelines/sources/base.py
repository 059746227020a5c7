"""The interface of a raw dataset; docs/new_source.md shows how to add one.

A source is a ``msgspec`` struct. Its fields are the keys of its table in the recipe, and its
methods list its files and turn slices of them into records. Everything else is the same for all
sources: slicing files, distributing slices over workers, joining images, excluding evaluation
images, binding boxes, combining captions, writing shards.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import ClassVar, Self

import msgspec

from pipelines.captions.parsing import Parse
from pipelines.captions.rules import CaptionRules
from pipelines.dedup.joins import TableIds
from pipelines.io.file_roots import OpenRoots
from pipelines.io.slices import Input, Slice
from schemas import ImageInfo, ImageRecord, NotAskedFor, RawCounts, Rejected, Synonyms

#: What ``Source.read`` yields of a slice.
SliceItem = ImageRecord | Rejected | NotAskedFor | RawCounts | Synonyms
Parser = Callable[[Iterable[str]], Mapping[str, Parse]]


class Context(msgspec.Struct, frozen=True):
    """The inputs of ``Source.read`` from the build, for the slices that one thread reads."""

    rules: CaptionRules
    splits: tuple[str, ...]  # the splits that are built
    parse: Parser  # the language model
    stop_words: frozenset[str]
    negatives: bool = False  # whether `ImageRecord.absent` and `names` are of use
    proven: bool = False  # whether classes not shown are asked for as absent phrases
    roots: OpenRoots = msgspec.field(default_factory=OpenRoots)  # what earlier slices opened


class Source(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A raw dataset in its published layout.

    Sources that are shipped are registered in ``recipe.SOURCES``. Every path in the fields is
    resolved against the recipe's ``root`` before a method is called.
    """

    #: the namespace of its image keys, if it has one: "coco" gives "coco/139"; see `image_ids`
    namespace: ClassVar[str]
    #: whether none of its images is in another dataset; every worker holds the image tables of all
    #: other sources, so only the number of such images is unlimited
    unique_images: ClassVar[bool] = False
    #: whether its boxes are fractions of an image's sides, which only the file of the image states
    has_relative_boxes: ClassVar[bool] = False
    #: whether ``read`` calls the language model
    uses_parser: ClassVar[bool] = False

    #: whether the recipe expects that no caption of it may be in the shards
    allow_empty: bool = False
    images: list[str] = []  # folders, zips or tars with the image files, searched in this order

    def paths(self) -> list[str]:
        """Lists the files and folders that must exist before a build starts, except images."""
        raise NotImplementedError

    def with_found_files(self) -> Self:
        """Returns the source with its located paths, or with those of files below or in them.

        Raises:
            RawFileError: One of the files and folders cannot be what the source expects.
        """
        return self

    def check_paths(self) -> None:
        """Checks the content of the located files, as far as it takes seconds at most.

        Raises:
            RawFileError: One of them cannot be what the source expects.
        """

    def image_ids(self) -> TableIds:
        """Returns the namespaces of its image keys, each with the ids that its tables state.

        A recipe is checked by them: which evaluation sets can be found in which source.
        """
        return {self.namespace: frozenset()}

    def image_tables(self) -> list[Input]:
        """Lists the image tables: small files, or small parts of files."""
        return []

    def read_image_table(self, raw_slice: Slice) -> Iterator[ImageInfo | Rejected]:
        """Yields the rows of a slice of an image table.

        Bad rows are rejected here or in ``read``, but only in one of them, if both see them.
        """
        raise NotImplementedError

    def split_names(self) -> set[str]:
        """Returns the splits for which the fields name files; empty if the files name them."""
        return set()

    def inputs(self, splits: tuple[str, ...]) -> list[Input]:
        """Lists the annotation files of these splits, in the order of their records."""
        raise NotImplementedError

    def read(self, raw_slice: Slice, context: Context) -> Iterator[SliceItem]:
        """Yields the records of a slice of an annotation file, one per image.

        A region of a caption is a ``Region`` with its box, or an ``ObjectRegion`` with the id of an
        object whose box another file of the source gives in ``ImageRecord.objects``. A raw record
        that cannot be used is ``Rejected``, with a short fixed reason and details as free text; one
        of a split or a part that the recipe does not ask for is ``NotAskedFor``.

        If the context asks for negatives, records may also state absent phrases of their split, and
        names; and a slice may yield ``Synonyms``.

        A slice with captions also yields ``RawCounts``: all captions and boxes that it states. The
        build fails if they are not as many as it wrote, merged, rejected, excluded or left out.

        Raises:
            RawFileError: the file is not in the layout of the source.
        """
        raise NotImplementedError
