"""The licenses and web addresses that raw tables state of images."""

from collections.abc import Container, Iterator, Mapping
from typing import Any

import msgspec

from schemas.decodable import decodable
from schemas.image_ids import image_key
from schemas.licenses import is_web_address
from shards.verification.raw.files import RawRoot
from shards.verification.raw.records import readable, vg_image_id


class Stated(msgspec.Struct):
    """The licenses (name and URL) and the addresses that tables state of an image."""

    licenses: set[tuple[str, str]] = msgspec.field(default_factory=set)
    addresses: set[str] = msgspec.field(default_factory=set)


class _Tables(msgspec.Struct):
    images: list[Any]
    licenses: Any = None


def stated_licenses(
    root: RawRoot, sources: Mapping[str, Mapping[str, Any]], keys: Container[str]
) -> dict[str, Stated]:
    """Returns what the tables of COCO, LVIS and Visual Genome state of some images, by their keys.

    Raises:
        RawError, or any error of a file in another layout.
    """
    by_key: dict[str, Stated] = {}
    for name, source in sources.items():
        for key, license, address in _rows(root, source.get("reader", name), source):
            if key in keys:
                stated = by_key.setdefault(key, Stated())
                if any(license):
                    stated.licenses.add(license)
                if is_web_address(address):
                    stated.addresses.add(address)
    return by_key


_Row = tuple[str, tuple[str, str], str]  # key, license, address


def _rows(root: RawRoot, reader: str, source: Mapping[str, Any]) -> Iterator[_Row]:
    if reader == "vg":
        yield from readable(root.read_json(source["image_data"]), _vg_row)
    paths = {"coco": source.get("instances", []), "lvis": source.get("annotations", {})}
    of_reader = paths.get(reader, [])
    for path in of_reader.values() if isinstance(of_reader, dict) else of_reader:
        tables = msgspec.json.decode(root.read(path), type=decodable(_Tables))
        licenses: dict[Any, tuple[str, str]] = {}
        if isinstance(tables.licenses, list):
            for id_, license in readable(tables.licenses, _license):
                licenses.setdefault(id_, license)
        yield from readable(tables.images, _image_row, licenses)


def _license(row: Any) -> tuple[Any, tuple[str, str]]:
    name, url = row.get("name", ""), row.get("url", "")
    if not (isinstance(name, str) and isinstance(url, str)):
        raise TypeError
    return row["id"], (name, url)


def _image_row(image: Any, licenses: Mapping[Any, tuple[str, str]]) -> _Row:
    id_ = image.get("license")
    license = licenses.get(id_, ("", "")) if type(id_) in (int, float) else ("", "")
    address = image.get("flickr_url") or image.get("coco_url") or ""
    return image_key("coco", image["id"]), license, str(address)


def _vg_row(image: Any) -> _Row:
    return image_key("vg", vg_image_id(image)), ("", ""), str(image.get("url") or "")
