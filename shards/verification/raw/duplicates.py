"""The images of all raw tables that show the photos of some images."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from schemas.image_ids import image_key, optional_image_key, photo_id, photo_id_of_key
from shards.verification.raw.files import RawRoot
from shards.verification.raw.records import readable, vg_image_id

_PHOTO_URL = re.compile(r"static\.?flickr\.com/(?:\d+/)+(\d+)_")


class SameImages:
    """Whether an image is one of the wanted ones, or shows the same photo as one of them.

    Raises:
        RawError, or any error of a file in another layout.
    """

    def __init__(
        self, keys: Iterable[str], root: RawRoot, sources: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self._keys = set(keys)
        rows = [row for name, source in sources.items() for row in _rows(root, name, source)]
        self._photos = {photo for key in self._keys if (photo := photo_id_of_key(key))}
        self._photos |= {photo for key, _, photo in rows if photo and key in self._keys}
        for key, same_as, photo in rows:
            if same_as in self._keys or photo in self._photos:
                self._keys.add(key)

    def __contains__(self, key: object) -> bool:
        return key in self._keys or photo_id_of_key(str(key)) in self._photos


def _rows(root: RawRoot, name: str, source: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yields key, key of the image it was made from, and photo id, of images that state any."""
    reader = source.get("reader", name)
    if reader == "coco":
        for path in source.get("instances", []):
            yield from readable(root.read_json(path)["images"], _coco_row)
    elif reader == "vg":
        yield from readable(root.read_json(source["image_data"]), _vg_row)


def _coco_row(image: Any) -> tuple[str, str, str]:
    match = _PHOTO_URL.search(image.get("flickr_url", ""))
    return image_key("coco", image["id"]), "", match[1] if match else ""


def _vg_row(image: Any) -> tuple[str, str, str]:
    same_as = optional_image_key("coco", image.get("coco_id"))
    return image_key("vg", vg_image_id(image)), same_as, photo_id(image.get("flickr_id"))
