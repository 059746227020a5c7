"""Image processor: resizes, normalizes and pads images to one size, with a mask of the padding."""

from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from transformers import AutoImageProcessor, BatchFeature
from transformers.image_processing_backends import PilBackend
from transformers.image_transforms import get_size_with_aspect_ratio
from transformers.image_utils import PILImageResampling, SizeDict
from transformers.utils.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from .configuration_mdetr import MdetrConfig
from .postprocess import as_floats, as_threshold, boxes_in_pixels, image_sizes, query_scores


class MdetrImageProcessor(PilBackend):
    """DETR's image processing: shortest side 800, longest at most 1333, statistics of ImageNet.

    Takes what image processors of transformers take: PIL images, numpy arrays and torch tensors
    (on the CPU), one or a list of them; with ``do_rescale=False``, values from 0 to 1. A PIL image
    is turned as its EXIF orientation states, and the upper 8 of 16 bits are read.

    Returns:
        ``pixel_values`` (B, 3, H, W), padded with zeros on the right and at the bottom, and
        ``pixel_mask`` (B, H, W), 1 on the image and 0 on its padding.

    Raises:
        ValueError: pixels have 32 bits, whose range is unknown, or exceed 255.
    """

    resample = PILImageResampling.BILINEAR
    image_mean = IMAGENET_DEFAULT_MEAN
    image_std = IMAGENET_DEFAULT_STD
    size = {"shortest_edge": 800, "longest_edge": 1333}
    default_to_square = False
    do_convert_rgb = True
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_pad = True
    model_input_names = ["pixel_values", "pixel_mask"]

    def process_image(self, image: Any, *args: Any, **kwargs: Any) -> np.ndarray:
        """Returns the pixels (3, H, W) of an image as a viewer shows it."""
        image = _upright(image) if isinstance(image, Image.Image) else image
        return super().process_image(_of_8_bits(image), *args, **kwargs)

    def resize(self, image: np.ndarray, size: SizeDict, *args: Any, **kwargs: Any) -> np.ndarray:
        """Resizes as the base class does, and leaves a pixel of the shorter side of any image."""
        if size.shortest_edge and size.longest_edge:
            sides = get_size_with_aspect_ratio(
                image.shape[-2:], size.shortest_edge, size.longest_edge
            )
            height, width = (max(1, side) for side in sides)
            size = SizeDict(height=height, width=width)
        return super().resize(image, size, *args, **kwargs)

    def post_process_object_detection(
        self, outputs: Any, threshold: float = 0.5, target_sizes: Any = None
    ) -> list[dict[str, Any]]:
        """Returns the objects of each image that its caption refers to, without their words.

        As in other detectors of transformers, so that their pipelines can use the model: each
        caption is one class.

        Args:
            outputs, threshold, target_sizes: see
                ``MdetrProcessor.post_process_grounded_object_detection``.

        Returns:
            For each image ``scores`` (K,), ``labels`` (K,), which are 0, and ``boxes`` (K, 4) as
            xyxy, best first.

        Raises:
            ValueError: the threshold is no number, or there are not as many sizes as images.
        """
        threshold = as_threshold("threshold", threshold)
        boxes, scores = as_floats(outputs.pred_boxes), query_scores(outputs)
        boxes = boxes_in_pixels(boxes, image_sizes(target_sizes, len(boxes)))
        scores, order = scores.sort(descending=True, stable=True)
        return [
            {
                "scores": image_scores[image_scores > threshold],
                "labels": torch.zeros_like(queries[image_scores > threshold]),
                "boxes": image_boxes[queries[image_scores > threshold]],
            }
            for image_scores, queries, image_boxes in zip(scores, order, boxes, strict=True)
        ]

    # The base class names all the options that are passed on here.
    def _preprocess(  # type: ignore[override]
        self, images: list[np.ndarray], do_pad: bool, return_tensors: Any, **kwargs: Any
    ) -> BatchFeature:
        """Preprocesses as the base class does, and adds the mask of the padding."""
        features = super()._preprocess(images, do_pad=False, return_tensors=None, **kwargs)
        pixels = features["pixel_values"]
        if not do_pad:
            return BatchFeature({"pixel_values": pixels}, tensor_type=return_tensors)
        pixels, mask = self.pad(pixels, pad_size=kwargs["pad_size"], return_mask=True)
        data = {"pixel_values": pixels, "pixel_mask": mask}
        return BatchFeature(data, tensor_type=return_tensors)


def _upright(image: Image.Image) -> Image.Image:
    """Applies the EXIF orientation of an image."""
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of 32 bits (mode {image.mode}); 8 or 16 can be read")
    return ImageOps.exif_transpose(image)


def _of_8_bits(image: Any) -> Any:
    """Scales pixels of 16 bits, which conversion to 8 would clip to white."""
    if isinstance(image, Image.Image):
        if not image.mode.startswith("I;16"):
            return image
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    values = np.asarray(image)
    if values.dtype.kind == "u" and values.itemsize == 2:
        return (values >> 8).astype(np.uint8)
    if values.dtype.kind in "iu" and values.size and values.max() > 255:
        raise ValueError(f"pixels of {values.dtype} up to {values.max()}; expected 0 to 255")
    return image


AutoImageProcessor.register(MdetrConfig, image_processor_classes={"pil": MdetrImageProcessor})
