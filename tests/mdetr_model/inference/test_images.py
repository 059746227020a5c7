"""Images as users have them."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mdetr_model.inference.images import ImageError, decode_image, image_extensions, open_image

RED, GREEN = (204, 0, 0), (0, 153, 0)  # of the palette that Pillow uses by default


def encoded(image: Image.Image, format_: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def two_colors(mode: str = "RGB") -> Image.Image:
    """An image of 8 x 6 pixels: the left half red, the right half green."""
    image = Image.new("RGB", (8, 6), RED)
    image.paste(GREEN, (4, 0, 8, 6))
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "PA"])
def test_modes_of_color_images(mode: str) -> None:
    decoded = decode_image(encoded(two_colors(mode), "TIFF" if mode == "PA" else "PNG"))
    assert decoded.mode == "RGB"
    assert (decoded.getpixel((1, 1)), decoded.getpixel((6, 1))) == (RED, GREEN)


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_modes_of_gray_images(mode: str) -> None:
    decoded = decode_image(encoded(Image.new(mode, (8, 6), 1 if mode == "1" else 128)))
    gray = 255 if mode == "1" else 128
    assert decoded.getpixel((1, 1)) == (gray, gray, gray)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_orientation_is_applied(format_: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: the left half is shown at the top
    decoded = decode_image(encoded(two_colors().resize((80, 60)), format_, exif=exif))
    assert decoded.size == (60, 80)
    assert np.abs(np.subtract(decoded.getpixel((30, 10)), RED)).max() < 30
    assert np.abs(np.subtract(decoded.getpixel((30, 70)), GREEN)).max() < 30


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_16_bit_gray_is_scaled_to_8_bits(format_: str) -> None:
    gray = np.random.default_rng(0).integers(0, 256, (6, 9), np.uint8)
    content = encoded(Image.fromarray(gray.astype(np.uint16) * 257), format_)
    assert np.array_equal(np.asarray(decode_image(content)), np.repeat(gray[..., None], 3, axis=2))


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_32_bit_pixels_are_refused(tmp_path: Path, kind: type) -> None:
    Image.fromarray(np.full((6, 9), 7, kind)).save(tmp_path / "deep.tiff")
    with pytest.raises(ImageError, match=r"deep\.tiff: pixels of 32 bits"):
        open_image(tmp_path / "deep.tiff")


@pytest.mark.parametrize("error", [SyntaxError, struct.error])
def test_corrupted_image_error_names_the_file(
    image: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def corrupted(_opened: Image.Image) -> None:
        raise error("broken")

    monkeypatch.setattr("mdetr_model.inference.images.ImageOps.exif_transpose", corrupted)
    with pytest.raises(ImageError, match=r"image\.jpg: .*broken"):
        open_image(image)


def test_truncated_image_error_names_the_file(image: Path) -> None:
    image.write_bytes(image.read_bytes()[:1500])
    with pytest.raises(ImageError, match=r"image\.jpg: .*truncated"):
        open_image(image)


def test_corrupted_png_chunk_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    content = bytearray(encoded(Image.new("RGB", (400, 400)), compress_level=0))
    second = content.index(b"IDAT", content.index(b"IDAT") + 4)
    content[second : second + 4] = b"\0\0\0\0"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"broken\.png"):
        open_image(path)


def test_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    content = bytearray(encoded(Image.new("1", (8, 8))))
    content[16:24] = struct.pack(">II", 10_001, 10_000)  # width and height of the header
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    with pytest.raises(ImageError, match="10001 x 10000 pixels are too many"):
        decode_image(bytes(content))


@pytest.mark.parametrize("content", [b"", b"no image", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"%PDF-1.7"])
def test_other_files_are_refused(content: bytes) -> None:
    with pytest.raises(ImageError, match="not an image of a known format"):
        decode_image(content)


def test_extensions_of_images() -> None:
    extensions = image_extensions()
    assert {".jpg", ".jpeg", ".png", ".webp", ".tif"} <= set(extensions)
    assert not {".eps", ".pdf", ".txt", ".mpg"} & set(extensions)
