"""Orientation in the metadata of image files: left out, with the pixels as they are stored."""

import io
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from shards.format.image_files import incompleteness, without_orientation
from tests import tiny

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
    b'syntax-ns#"><rdf:Description tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


def exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Maker"
    return exif


def with_exif_text(content: bytes) -> bytes:
    """Returns a PNG with EXIF in a text chunk, as ImageMagick writes it."""
    raw = exif(6).tobytes()
    text = b"Raw profile type exif\0\0"
    text += zlib.compress(b"\nexif\n%8d\n" % len(raw) + raw.hex().encode() + b"\n")
    chunk = b"zTXt" + text
    chunk = struct.pack(">I", len(text)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return content[:33] + chunk + content[33:]


def turned_files() -> dict[str, bytes]:
    image = tiny.drawing(40, 20)
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    files = {f"exif {n}": tiny.encoded(image, exif=exif(n)) for n in range(2, 9)}
    return files | {
        "xmp": tiny.encoded(image, xmp=XMP),
        "both": tiny.encoded(image, exif=exif(6), xmp=XMP),
        "progressive": tiny.encoded(image, exif=exif(6), progressive=True),
        "png": tiny.encoded(image, "PNG", exif=exif(6)),
        "png text": with_exif_text(tiny.encoded(image, "PNG")),
        "png xmp": tiny.encoded(image, "PNG", pnginfo=text),
    }


@pytest.mark.parametrize("name", turned_files())
def test_image_is_shown_as_its_pixels_are_stored(name: str) -> None:
    content = turned_files()[name]
    plain = without_orientation(content)
    stored = Image.open(io.BytesIO(content))
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(plain)))
    assert shown.size == stored.size == (40, 20)
    assert shown.tobytes() == stored.tobytes()
    assert len(plain) < len(content)
    assert incompleteness(bytes(plain)) is None
    turned = ImageOps.exif_transpose(stored)
    assert turned.tobytes() != stored.tobytes()  # so the orientation had an effect


def test_other_images_stay_as_they_are() -> None:
    for options in ({}, {"exif": exif(1)}, {"comment": b"Orientation 6"}):
        content = tiny.encoded(tiny.drawing(40, 20), **options)
        assert without_orientation(content) is content
    png = tiny.encoded(tiny.drawing(40, 20), "PNG", exif=exif(1))
    assert without_orientation(png) is png
    assert without_orientation(b"no image") == b"no image"


@given(st.binary(max_size=60), st.integers(0, 200))
def test_damaged_metadata_never_turn_an_image(noise: bytes, position: int) -> None:
    content = bytearray(tiny.encoded(tiny.drawing(40, 20), exif=exif(6), xmp=XMP))
    start = content.index(b"Exif") + position
    stop = min(start + len(noise), content.index(b"\xff\xdb"))  # the segments after EXIF and XMP
    content[start:stop] = noise[: max(stop - start, 0)]
    plain = without_orientation(bytes(content))
    try:
        shown = ImageOps.exif_transpose(Image.open(io.BytesIO(plain)))
    except (OSError, SyntaxError, ValueError):
        return  # it is no image at all: the length of a segment was hit
    assert shown.size == (40, 20)
