"""Pairs of images and captions, from options and from text files."""

from pathlib import Path

import pytest

from mdetr_model.inference.pairs import every_pair, images_of_folder, read_pairs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images, and files that are not: their contents are not read."""
    for name in ("b.png", "a.JPG", "c d.webp", "notes.txt", ".hidden.png", "sub/e.png"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).touch()
    (tmp_path / "images/folder.png").mkdir()
    return tmp_path / "images"


def test_images_of_a_folder(folder: Path) -> None:
    assert [path.name for path in images_of_folder(folder)] == ["a.JPG", "b.png", "c d.webp"]


def test_broken_link_is_an_image_of_the_folder(folder: Path) -> None:
    (folder / "link.jpg").symlink_to("a.JPG")
    (folder / "broken.jpg").symlink_to("nowhere.jpg")
    names = [path.name for path in images_of_folder(folder)]
    assert names == ["a.JPG", "b.png", "broken.jpg", "c d.webp", "link.jpg"]


def test_every_image_has_every_caption(folder: Path) -> None:
    pairs = every_pair([folder / "sub/e.png", folder], ["one", "two"])
    assert [pair.caption for pair in pairs] == ["one", "two"] * 4
    assert [pair.image.name for pair in pairs[::2]] == ["e.png", "a.JPG", "b.png", "c d.webp"]


def test_missing_image_and_empty_folder_are_errors(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no image .*x\.png"):
        every_pair([folder / "x.png"], ["one"])
    with pytest.raises(FileNotFoundError, match=r"folder\.png has no files with the name of an im"):
        every_pair([folder / "folder.png"], ["one"])


def test_lines_of_a_file(folder: Path, tmp_path: Path) -> None:
    absolute = folder / "sub/e.png"
    lines = ["images/b.png\ta red ball", "", f"{absolute}\t a\u2028dog ", "images/c d.webp\té"]
    (tmp_path / "pairs.tsv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert read_pairs(tmp_path / "pairs.tsv") == [
        (folder / "b.png", "a red ball"),
        (absolute, " a\u2028dog "),
        (folder / "c d.webp", "é"),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"images/b.png a red ball", "line 2: expected an image, a tab and a caption: 'images/b"),
        (b"images/b.png\t", "line 2: expected an image, a tab and a caption"),
        (b"images/b.png\t  ", "line 2: expected an image, a tab and a caption"),
        (b"\ta red ball", "line 2: expected an image, a tab and a caption"),
        (b"images/b.png\tred\tball", "line 2: expected an image, a tab and a caption"),
        (b"images/b.png\t\xff", "line 2: not UTF-8 text"),
        (b"images/x.png\tred", r"line 2: there is no image .*images/x\.png"),
        (b"images\tred", "line 2: there is no image .*images"),
    ],
)
def test_broken_line_error_has_its_number(
    folder: Path, tmp_path: Path, line: bytes, message: str
) -> None:
    assert folder.is_dir()
    (tmp_path / "pairs.tsv").write_bytes(b"images/b.png\tfine\n" + line)
    with pytest.raises((ValueError, FileNotFoundError), match=rf"pairs\.tsv, {message}"):
        read_pairs(tmp_path / "pairs.tsv")


def test_file_without_lines_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text("\n\n")
    with pytest.raises(ValueError, match=r"pairs\.tsv has no lines"):
        read_pairs(tmp_path / "pairs.tsv")
