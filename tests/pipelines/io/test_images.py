"""Image files: read, bounded and checked."""

import io
import os
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest
from PIL import Image

from pipelines.io import archives, images
from pipelines.io.images import ImageStore, UnusableImageError, inspect
from pipelines.io.raw_files import RawFileError
from schemas import ImageInfo
from tests import tiny


def image(file: str, width: int = 0, height: int = 0) -> ImageInfo:
    return ImageInfo("vg/1", "vg", file, width, height)


def store(*roots: Path | str) -> ImageStore:
    return ImageStore({"vg": [str(root) for root in roots]})


def png_header(width: int, height: int) -> bytes:
    """Returns a PNG of about a hundred bytes whose header states a size."""

    def chunk(name: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def reason(content: bytes) -> str:
    with pytest.raises(UnusableImageError) as error:
        inspect(content)
    return error.value.reason


# --- what is in a file ----------------------------------------------------------------------------


@pytest.mark.parametrize(("format_", "extension"), [("JPEG", "jpg"), ("PNG", "png")])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_and_png_are_inspected(format_: str, extension: str, mode: str) -> None:
    content = tiny.encoded(tiny.drawing().convert(mode), format_)
    file = inspect(content)
    assert (file.content, file.extension) == (content, extension)
    assert (file.width, file.height) == (tiny.WIDTH, tiny.HEIGHT)


@pytest.mark.parametrize("format_", ["GIF", "BMP", "TIFF", "WEBP"])
def test_other_formats_are_refused(format_: str) -> None:
    assert reason(tiny.encoded(tiny.drawing(), format_)) == "not an image"


@pytest.mark.parametrize(
    "content", [b"", b"<html>404</html>", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]
)
def test_content_that_is_no_image_is_refused(content: bytes) -> None:
    assert reason(content) == "not an image"


@pytest.mark.parametrize("format_", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_truncated_image_is_refused(format_: str, share: float) -> None:
    content = tiny.encoded(tiny.drawing(), format_)
    assert reason(content[: int(len(content) * share)]) == "truncated image"


def test_end_marker_of_a_thumbnail_does_not_hide_truncation() -> None:
    image = tiny.drawing(800, 600)
    exif = Image.Exif()
    content = tiny.encoded(image, exif=exif.tobytes() + tiny.image_file(16, 16))
    assert b"\xff\xd9" in content[: len(content) // 2]
    assert inspect(content).width == 800
    assert reason(content[: int(len(content) * 0.8)]) == "truncated image"


def test_bytes_after_the_end_marker_are_kept() -> None:
    content = tiny.image_file() + b"\r\n" * 20
    assert inspect(content).content == content


@pytest.mark.parametrize(("width", "height"), [(50_000, 50_000), (12_000, 10_000), (2**31 - 1, 1)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_enormous_image_is_refused_by_its_header(width: int, height: int) -> None:
    content = png_header(width, height)
    tracemalloc.start()
    try:
        assert reason(content) == "image too large"
        assert tracemalloc.get_traced_memory()[1] < 5 << 20
    finally:
        tracemalloc.stop()


# --- where files are ------------------------------------------------------------------------------


def unusable(image_store: ImageStore, row: ImageInfo) -> tuple[str, str]:
    with pytest.raises(UnusableImageError) as error:
        image_store.read(row)
    return error.value.reason, error.value.detail


def test_roots_are_tried_in_turn(tmp_path: Path) -> None:
    first = tiny.write(tmp_path / "VG_100K/1.jpg", tiny.image_file(hue=1)).read_bytes()
    second = tiny.write(tmp_path / "VG_100K_2/2.jpg", tiny.image_file(hue=2)).read_bytes()
    tiny.write(tmp_path / "VG_100K_2/1.jpg", b"not reached")
    image_store = store(tmp_path / "VG_100K", tmp_path / "VG_100K_2")
    assert image_store.read(image("1.jpg")).content == first
    assert image_store.read(image("2.jpg")).content == second
    assert unusable(image_store, image("3.jpg")) == ("image missing", "3.jpg")
    assert unusable(ImageStore({}), image("1.jpg")) == ("image missing", "1.jpg")


def test_image_in_a_folder_below_the_root_is_read(tmp_path: Path) -> None:
    tiny.write(tmp_path / "train2014/COCO_train2014_000000000009.jpg", tiny.image_file())
    assert store(tmp_path).read(image("train2014/COCO_train2014_000000000009.jpg")).width == 200


@pytest.mark.parametrize("format_", ["JPEG", "PNG"])
def test_format_is_that_of_the_content_not_of_the_name(tmp_path: Path, format_: str) -> None:
    tiny.write(tmp_path / "1.jpg", tiny.encoded(tiny.drawing(), format_))
    assert store(tmp_path).read(image("1.jpg")).extension == {"JPEG": "jpg", "PNG": "png"}[format_]


def test_size_other_than_annotated_is_refused(tmp_path: Path) -> None:
    tiny.write(tmp_path / "1.jpg", tiny.image_file(200, 100))
    assert store(tmp_path).read(image("1.jpg", 200, 100)).height == 100
    assert store(tmp_path).read(image("1.jpg")).height == 100
    expected = ("image of another size", "200x100, annotated as 100x200")
    assert unusable(store(tmp_path), image("1.jpg", 100, 200)) == expected


@pytest.mark.parametrize(
    "name",
    [
        "../secret.jpg",
        "a/../../secret.jpg",
        "..",
        ".",
        "",
        "/etc/passwd",
        "a//b.jpg",
        "a/./b.jpg",
        "a\\..\\b.jpg",
        "gs://bucket/a.jpg",
        "a.jpg\n",
        "a\0.jpg",
        "x" * 300 + ".jpg",
    ],
)
def test_name_that_could_leave_the_root_is_refused(tmp_path: Path, name: str) -> None:
    tiny.write(tmp_path / "secret.jpg", tiny.image_file())
    root = tmp_path / "root"
    root.mkdir()
    assert unusable(store(root), image(name))[0] == "unsafe image name"


def test_folder_in_place_of_an_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").mkdir()
    assert unusable(store(tmp_path), image("1.jpg")) == (
        "unreadable image",
        "1.jpg: Is a directory",
    )


def test_too_large_file_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_IMAGE_FILE_BYTES", 1000)
    tiny.write(tmp_path / "1.jpg", tiny.image_file() + b"\0" * 5000)
    assert unusable(store(tmp_path), image("1.jpg")) == ("image too large", "1001 bytes")


def zip_of(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"any/folder/{name}.jpg", content)
    return path


def test_image_in_a_zip_is_read_by_its_name(tmp_path: Path) -> None:
    content = tiny.image_file()
    image_store = store(zip_of(tmp_path / "images.zip", a=b"", b=content), tmp_path)
    assert image_store.read(image("b.jpg")).content == content
    assert image_store.read(image("folder/b.jpg")).content == content
    expected = ("image missing", "train/b.jpg; images.zip has any/folder/b.jpg")
    assert unusable(image_store, image("train/b.jpg")) == expected
    assert unusable(image_store, image("a.jpg"))[0] == "not an image"
    assert unusable(image_store, image("c.jpg")) == ("image missing", "c.jpg")
    assert unusable(image_store, image("../b.jpg"))[0] == "unsafe image name"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("extra", [0, 3000, 9000])
def test_zip_members_of_any_method_and_header_length_are_read(
    tmp_path: Path, method: int, extra: int
) -> None:
    """The first read covers headers of usual length only."""
    contents = {f"{i}.jpg": tiny.image_file() + bytes(1000 * i) for i in range(3)}
    with zipfile.ZipFile(tmp_path / "images.zip", "w", method) as archive:
        for name, content in contents.items():
            member = zipfile.ZipInfo(name)
            member.compress_type = method
            member.extra = struct.pack("<HH", 0x7777, extra) + bytes(extra)
            archive.writestr(member, content)
    image_store = store(tmp_path / "images.zip")
    for name in ("1.jpg", "0.jpg", "2.jpg", "1.jpg"):
        assert image_store.read(image(name)).content == contents[name]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all reads of archives; a read of a remote file is a request."""
    sizes: list[int] = []

    class Counted(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            sizes.append(size or 0)
            return super().read(size)

    monkeypatch.setattr(
        archives, "open_binary", lambda path, read_ahead: Counted(Path(path).read_bytes())
    )
    return sizes


def test_image_in_a_zip_takes_one_read(tmp_path: Path, reads: list[int]) -> None:
    path = zip_of(tmp_path / "images.zip", **{name: tiny.image_file() for name in "abcd"})
    image_store = store(path)
    image_store.read(image("c.jpg"))
    for name in "adb":
        reads.clear()
        image_store.read(image(f"{name}.jpg"))
        assert len(reads) == 1


def test_image_in_a_tar_takes_one_read(tmp_path: Path, reads: list[int]) -> None:
    path = tiny.write_tar(tmp_path / "images.tar", {f"{n}.jpg": tiny.image_file() for n in "abcd"})
    image_store = store(path)
    image_store.read(image("c.jpg"))
    for name in "adb":
        reads.clear()
        image_store.read(image(f"{name}.jpg"))
        assert reads == [len(tiny.image_file())]


def test_too_large_member_of_a_zip_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_IMAGE_FILE_BYTES", 1000)
    image_store = store(zip_of(tmp_path / "images.zip", a=os.urandom(9000)))
    assert unusable(image_store, image("a.jpg")) == ("image too large", "1001 bytes")


def test_corrupted_image_in_a_zip_is_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "images.zip", a=tiny.image_file(), b=tiny.image_file())
    content = bytearray(path.read_bytes())
    content[200] ^= 0xFF
    path.write_bytes(content)
    image_store = store(path)
    assert unusable(image_store, image("a.jpg"))[0] == "unreadable image"
    assert image_store.read(image("b.jpg")).width == 200


def test_truncated_zip_of_images_is_an_error(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "images.zip", a=tiny.image_file())
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(RawFileError, match=r"images\.zip: not a readable zip file"):
        store(path).read(image("a.jpg"))


def test_drawings_have_the_expected_size_and_format() -> None:
    with Image.open(io.BytesIO(tiny.image_file(120, 80))) as image:
        assert (image.size, image.format) == ((120, 80), "JPEG")


# --- archives that several datasets share ---------------------------------------------------------


def shared_store(path: Path, ending: str, **roots: list[str]) -> ImageStore:
    members = {
        f"{folder}/{number}.jpg": tiny.image_file(hue=number)
        for folder, number in (("coco", 7), ("vg/VG_100K", 9))
    }
    write = tiny.write_zip if ending == ".zip" else tiny.write_tar
    write(path / f"all{ending}", members)
    paths = {name: [f"{path}/{root}" for root in names] for name, names in roots.items()}
    namespaces = {"coco": ["coco"], "lvis": ["coco"], "vg": ["vg"], "gqa": ["vg"]}
    return ImageStore(paths, namespaces)


@pytest.mark.parametrize("ending", [".zip", ".tar"])
def test_image_of_another_dataset_is_not_taken_from_a_shared_archive(
    tmp_path: Path, ending: str
) -> None:
    name = f"all{ending}"
    expected = (
        "image missing",
        f"7.jpg; {name} has coco/7.jpg, but several datasets share it: state the folder of each, "
        f"{name}/FOLDER",
    )
    # However its path is stated, and whatever folder in it the other states.
    for root in (name, f"x/../{name}", f"{name}/coco"):
        (tmp_path / "x").mkdir(exist_ok=True)
        image_store = shared_store(tmp_path, ending, coco=[root], vg=[name])
        assert unusable(image_store, image("7.jpg")) == expected
        assert image_store.read(image("vg/VG_100K/9.jpg")).content == tiny.image_file(hue=9)


@pytest.mark.parametrize("ending", [".zip", ".tar"])
def test_folders_in_a_shared_archive_and_sources_of_one_dataset_are_not_affected(
    tmp_path: Path, ending: str
) -> None:
    name = f"all{ending}"
    image_store = shared_store(tmp_path, ending, coco=[f"{name}/coco"], vg=[f"{name}/vg"])
    assert unusable(image_store, image("7.jpg")) == ("image missing", "7.jpg")
    assert image_store.read(image("9.jpg")).content == tiny.image_file(hue=9)
    of_coco = ImageInfo("coco/7", "coco", "7.jpg")
    assert image_store.read(of_coco).content == tiny.image_file(hue=7)
    same = shared_store(tmp_path, ending, vg=[name], gqa=[name])
    assert same.read(image("9.jpg")).content == tiny.image_file(hue=9)
