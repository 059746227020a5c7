"""Limits on input that must hold before it is decoded."""

#: Maximum number of pixels in the header of an image; a decoded image takes 3 bytes per pixel.
MAX_IMAGE_PIXELS = 100_000_000

#: Most bytes of an image file, which is read whole.
MAX_IMAGE_FILE_BYTES = 64 << 20
