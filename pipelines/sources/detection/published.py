"""COCO, Objects365 and V3Det as detection datasets."""

import re
from typing import ClassVar

from pipelines.dedup.joins import TableIds
from pipelines.sources.detection.coco_layout import CocoLayout, ImageRow
from pipelines.sources.image_licenses import LicenseTable, web_address
from schemas import ImageInfo
from schemas.class_names import CLASSES_ENDING
from schemas.image_ids import photo_id_of_url
from schemas.joins import PHOTO_ID

_OBJECTS365_FOLDERS = re.compile(r"images/v[0-9]+/(?=patch[0-9]+/)")


class CocoDetection(CocoLayout, kw_only=True):
    """COCO's 80 classes, from ``instances_*.json``; or other boxes of COCO's images."""

    namespace: ClassVar[str] = "coco"
    dataset_name: ClassVar[str] = f"coco{CLASSES_ENDING}"

    def image_ids(self) -> TableIds:
        return {"coco": frozenset({PHOTO_ID})}

    def image_info(self, image: ImageRow, key: str, licenses: LicenseTable) -> ImageInfo:
        info = super().image_info(image, key, licenses)
        info.photo_id = photo_id_of_url(web_address(image.flickr_url))
        return info


class Objects365(CocoLayout, kw_only=True):
    """Objects365 version 2: 365 classes.

    Its files state no id of another dataset and no Flickr photo, so only perceptual hashes find
    its images elsewhere, and no worker holds the table of its 1.8 million images. The patches of
    images are unpacked without the folders ``images/v1`` and ``images/v2`` that files state.
    """

    namespace: ClassVar[str] = "objects365"
    dataset_name: ClassVar[str] = "objects365"
    unique_images: ClassVar[bool] = True

    def image_info(self, image: ImageRow, key: str, licenses: LicenseTable) -> ImageInfo:
        info = super().image_info(image, key, licenses)
        info.file = _OBJECTS365_FOLDERS.sub("", info.file, count=1)
        return info


class V3Det(CocoLayout, kw_only=True):
    """V3Det: 13,204 classes. As of Objects365, no id joins its images with those of others.

    Files are below the folder ``images``, which ``file_name`` may or may not name.
    """

    namespace: ClassVar[str] = "v3det"
    dataset_name: ClassVar[str] = "v3det"
    unique_images: ClassVar[bool] = True

    def image_info(self, image: ImageRow, key: str, licenses: LicenseTable) -> ImageInfo:
        info = super().image_info(image, key, licenses)
        info.file = info.file.removeprefix("images/")
        return info
