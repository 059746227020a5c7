"""Flickr photo ids, which identify duplicates across datasets."""

import re

from schemas import image_ids

_FLICKR_URL = re.compile(r"https?://[^/]*\bstaticflickr\.com/(?:\d+/)+(\d+)_")


def flickr_photo_id(url: str) -> str:
    """Returns the id of the Flickr photo whose file a URL names, or an empty string.

    >>> flickr_photo_id("http://farm6.staticflickr.com/5062/5896644212_a326e96ea9_z.jpg")
    '5896644212'
    """
    match = _FLICKR_URL.match(url)
    return image_ids.photo_id(match[1]) if match else ""
