"""Limits on input that must hold before it is decoded."""

#: Most pixels of an image, as its header states them; a decoded image takes 3 bytes for each.
MAX_IMAGE_PIXELS = 100_000_000
