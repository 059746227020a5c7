"""Image files: read from their folders or zips, and checked before they are written to a shard."""

import io

import msgspec
from PIL import Image, UnidentifiedImageError

from pipelines.io.file_roots import (
    Root,
    UnreadableFileError,
    UnsafeNameError,
    check_name,
    open_root,
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
    """The image files of each source, in its roots: folders, or zips as published."""

    def __init__(self, roots: dict[str, list[str]]) -> None:
        self._paths = roots
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
            self._roots[source] = [open_root(path) for path in self._paths.get(source, [])]
        return self._roots[source]


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
