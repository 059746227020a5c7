"""Whether an image file is whole, as far as its structure tells without decoding pixels."""

import zlib

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_END = b"\xff\xd9"
_START_OF_SCAN = 0xDA
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}  # markers that are not followed by a length


def incompleteness(content: bytes) -> str | None:
    r"""Returns why the file of a JPEG or PNG is not whole; None if it is.

    A JPEG needs an end marker after the beginning of its pixels; there may be bytes after it, as in
    some published files. The chunks of a PNG need their CRC-32, up to the last one. A JPEG whose
    pixels are damaged, or that lost some before the end marker, looks whole: libjpeg decodes it
    with a warning that Pillow does not pass on.

    >>> incompleteness(b"\xff\xd8\xff\xda\x00\x02...\xff\xd9") is None
    True
    >>> incompleteness(b"\xff\xd8\xff\xda\x00\x02...")
    '9 bytes without an end marker'
    """
    if content.startswith(_PNG_SIGNATURE):
        return _png_error(content)
    # An embedded thumbnail has an end marker of its own, but before the pixels.
    if content.rfind(_JPEG_END) < _first_scan(content):
        return f"{len(content)} bytes without an end marker"
    return None


def _first_scan(content: bytes) -> int:
    """Returns the offset of a JPEG's first scan; half the file if its segments cannot be walked."""
    offset = 2
    while content[offset : offset + 1] == b"\xff":
        marker = content[offset + 1] if offset + 1 < len(content) else None
        if marker == _START_OF_SCAN:
            return offset
        if marker == 0xFF:  # padding
            offset += 1
        elif marker in _WITHOUT_LENGTH:
            offset += 2
        else:
            length = int.from_bytes(content[offset + 2 : offset + 4], "big")
            if length < 2:
                break
            offset += 2 + length
    return len(content) // 2


def _png_error(content: bytes) -> str | None:
    offset = len(_PNG_SIGNATURE)
    while True:
        length = int.from_bytes(content[offset : offset + 4], "big")
        end = offset + 12 + length
        if end > len(content):
            return f"{len(content)} bytes without an end marker"
        name = content[offset + 4 : offset + 8]
        # The CRC-32 covers the chunk's name and data.
        actual = zlib.crc32(memoryview(content)[offset + 4 : end - 4])
        stated = int.from_bytes(content[end - 4 : end], "big")
        if actual != stated:
            message = f"the chunk {name!a} has CRC-32 {actual:08x}, stated is {stated:08x}"
            return message
        if name == b"IEND":
            return None
        offset = end
