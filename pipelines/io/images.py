"""Image files: read from their folders or zips, and checked before they are written to a shard."""

import io
from collections.abc import Collection, Mapping

import msgspec
from PIL import Image, UnidentifiedImageError

from pipelines.io.file_roots import (
    Root,
    UnreadableFileError,
    UnsafeNameError,
    check_name,
    open_root,
    overlap,
    read_from,
)
from pipelines.io.members import AmbiguousNameError
from schemas import ImageInfo
from schemas.image_ids import other_coco_names
from schemas.limits import MAX_IMAGE_FILE_BYTES, MAX_IMAGE_PIXELS
from shards.format.image_files import incompleteness

EXTENSIONS = {"JPEG": "jpg", "PNG": "png"}  # by Pillow's name of the format


class UnusableImageError(Exception):
    """An image cannot be used; ``reason`` is short and fixed, ``detail`` is free text."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class ImageFile(msgspec.Struct):
    """The original bytes of an image, with format and size from its header."""

    content: bytes
    extension: str  # jpg or png
    width: int
    height: int


class ImageStore:
    """The image files of each source, in its roots: folders, or zips as published.

    An archive that sources of different namespaces have as a root is a shared one, in which no
    image is found by the end of its path: ``coco/7.jpg`` is not the image 7 of Visual Genome.
    """

    def __init__(
        self, roots: dict[str, list[str]], namespaces: Mapping[str, Collection[str]] | None = None
    ) -> None:
        """Takes the roots of each source, and the namespaces of its images."""
        self._paths = roots
        self._namespaces = namespaces or {}
        self._roots: dict[str, list[Root]] = {}

    def read(self, image: ImageInfo) -> ImageFile:
        """Reads the file of an image.

        Raises:
            UnusableImageError: It is missing, not a JPEG or PNG, truncated, too large, not of the
                annotated size, cannot be read, or its name is ambiguous or would escape the root.
        """
        content = self._content(image)
        if len(content) > MAX_IMAGE_FILE_BYTES:
            raise UnusableImageError("image too large", f"{len(content)} bytes")
        file = inspect(content)
        stated = (image.width, image.height)
        if stated != (0, 0) and stated != (file.width, file.height):
            raise UnusableImageError(
                "image of another size",
                f"{file.width}x{file.height}, annotated as {stated[0]}x{stated[1]}",
            )
        return file

    def _content(self, image: ImageInfo) -> bytes:
        roots = self._roots_of(image.source)
        try:
            check_name(image.file)
            # COCO publishes an image under several names, all of which state its id.
            names = (image.file, *other_coco_names(image.file, image.key))
            contents = (read_from(roots, name, MAX_IMAGE_FILE_BYTES + 1) for name in names)
            content = next((content for content in contents if content is not None), None)
        except UnsafeNameError as error:
            raise UnusableImageError("unsafe image name", ascii(image.file[:200])) from error
        except AmbiguousNameError as error:
            raise UnusableImageError("ambiguous image name", str(error)) from error
        except UnreadableFileError as error:
            raise UnusableImageError("unreadable image", f"{image.file}: {error}") from error
        if content is None:
            others = [other for root in roots if (other := root.describe(image.file))]
            raise UnusableImageError("image missing", "; ".join([image.file, *others[:2]]))
        return content

    def _roots_of(self, source: str) -> list[Root]:
        if source not in self._roots:
            paths = self._paths.get(source, [])
            self._roots[source] = [open_root(path, self._is_shared(path)) for path in paths]
        return self._roots[source]

    def _is_shared(self, path: str) -> bool:
        namespaces = {
            namespace
            for source, paths in self._paths.items()
            if any(overlap(path, other) for other in paths)
            for namespace in self._namespaces.get(source, ())
        }
        return len(namespaces) > 1


def inspect(content: bytes) -> ImageFile:
    """Returns an image with the format and size in its header; does not decode pixels.

    Raises:
        UnusableImageError: Not a JPEG or PNG, truncated, or more than ``MAX_IMAGE_PIXELS``.
    """
    try:
        with Image.open(io.BytesIO(content), formats=list(EXTENSIONS)) as image:
            # Pillow calls a JPEG that contains further images an MPO.
            format_ = "JPEG" if image.format == "MPO" else str(image.format)
            width, height = image.width, image.height
    except UnidentifiedImageError as error:
        raise UnusableImageError("not an image", "neither JPEG nor PNG") from error
    except Image.DecompressionBombError as error:
        raise UnusableImageError("image too large", str(error)) from error
    except (OSError, ValueError, SyntaxError) as error:
        raise UnusableImageError("not an image", str(error)) from error
    if width * height > MAX_IMAGE_PIXELS:
        raise UnusableImageError("image too large", f"{width}x{height} pixels")
    if (problem := incompleteness(content)) is not None:
        raise UnusableImageError("truncated image", problem)
    return ImageFile(content, EXTENSIONS[format_], width, height)
