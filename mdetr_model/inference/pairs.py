"""Pairs of an image and a caption: every image with every caption, or the lines of a file."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mdetr_model.inference.images import image_extensions


class ImageCaption(NamedTuple):
    """An image file and a caption to ground in it."""

    image: Path
    caption: str


def every_pair(paths: Iterable[Path], captions: Sequence[str]) -> list[ImageCaption]:
    """Pairs every image with every caption; a folder stands for its images.

    Raises:
        FileNotFoundError: there is no such file, or a folder has no images.
        OSError: a folder cannot be read.
    """
    images = [image for path in paths for image in _images_at(path)]
    return [ImageCaption(image, caption) for image in images for caption in captions]


def read_pairs(path: Path) -> list[ImageCaption]:
    """Reads a text file: in each line an image, a tab, and a caption; empty lines are skipped.

    The paths of images are relative to the folder of the file.

    Raises:
        OSError: the file, or an image that it names, cannot be found.
        ValueError: a line is not as described, or there is none; the message has its number.
    """
    pairs = list(_parse(path))
    if not pairs:
        raise ValueError(f"{path} has no lines with an image and a caption")
    return pairs


def images_of_folder(folder: Path) -> list[Path]:
    """Returns the images of a folder by their names, without hidden files and subfolders.

    Raises:
        FileNotFoundError: there is none.
        OSError: the folder cannot be read.
    """
    extensions = image_extensions()
    images = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in extensions
        and not path.name.startswith(".")
        and (path.is_file() or path.is_symlink())  # a broken link is an image that is missing
    ]
    if not images:
        raise FileNotFoundError(f"{folder} has no files with the name of an image")
    return images


def _images_at(path: Path) -> list[Path]:
    if path.is_dir():
        return images_of_folder(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no image {path}")
    return [path]


def _parse(path: Path) -> Iterator[ImageCaption]:
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}, line {number}: not UTF-8 text: {error}") from error
        if not text.strip():
            continue
        match text.split("\t"):
            case [image, caption] if image and caption.strip():
                yield ImageCaption(_existing(path, number, image), caption)
            case _:
                raise ValueError(
                    f"{path}, line {number}: expected an image, a tab and a caption: {text[:80]!r}"
                )


def _existing(path: Path, number: int, image: str) -> Path:
    located = path.parent / image
    if not located.is_file():
        raise FileNotFoundError(f"{path}, line {number}: there is no image {located}")
    return located
