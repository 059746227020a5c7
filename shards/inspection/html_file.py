"""Writes pages to HTML files. A page replaces only one of the same generator."""

from pathlib import Path

from shards.atomic import atomic_write

_HEAD_BYTES = 1000  # of a page, in which its generator is


def check_html_file(path: Path, generator: str) -> None:
    """Checks that a page may be written to a file.

    Args:
        path: of the file.
        generator: of the page, which ``document.html`` states.

    Raises:
        OSError: it is a folder, or a file that is no page of this generator.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; expected the name of an HTML file")
    if path.exists() and not _is_page(path, generator):
        raise FileExistsError(f"{path} exists already and is not a report; it would be lost")


def write_html_file(path: Path, page: str, generator: str) -> None:
    """Writes a page completely or not at all.

    Raises:
        OSError: the file cannot be written, or `check_html_file` refuses it.
    """
    check_html_file(path, generator)
    with atomic_write(path) as file:
        file.write(page.encode())


def _is_page(path: Path, generator: str) -> bool:
    with path.open("rb") as file:
        return f'<meta name="generator" content="{generator}">'.encode() in file.read(_HEAD_BYTES)
