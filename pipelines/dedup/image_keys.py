"""Keys and Flickr photo ids, which identify duplicates across datasets."""

import re

_FLICKR_URL = re.compile(r"https?://[^/]*\bstaticflickr\.com/(?:\d+/)+(\d+)_")


def flickr_photo_id(url: str) -> str:
    """Returns the id of the Flickr photo whose file a URL names, or an empty string.

    >>> flickr_photo_id("http://farm6.staticflickr.com/5062/5896644212_a326e96ea9_z.jpg")
    '5896644212'
    """
    match = _FLICKR_URL.match(url)
    return match[1] if match else ""


def gqa_image_key(image_id: str) -> str:
    """Returns the key of an image by its id in GQA's files, which are images of VG and COCO.

    >>> gqa_image_key("2320633"), gqa_image_key("n578020")
    ('vg/2320633', 'coco/578020')
    """
    return f"coco/{image_id[1:]}" if image_id.startswith("n") else f"vg/{image_id}"
