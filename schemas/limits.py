"""Limits on input that must hold before it is decoded."""

#: Most pixels of an image, as its header states them; a decoded image takes 3 bytes for each.
MAX_IMAGE_PIXELS = 100_000_000

#: Most bytes of an image file, which is read whole.
MAX_IMAGE_FILE_BYTES = 64 << 20
