"""Image processor: resizes, normalizes and pads images to one size, with a mask of the padding."""

from typing import Any

import numpy as np
from transformers import AutoImageProcessor, BatchFeature
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import PILImageResampling
from transformers.utils.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from .configuration_mdetr import MdetrConfig


class MdetrImageProcessor(PilBackend):
    """DETR's image processing: shortest side 800, longest at most 1333, statistics of ImageNet.

    Takes what image processors of transformers take: PIL images, numpy arrays and torch tensors
    (on the CPU), one or a list of them; with ``do_rescale=False``, values from 0 to 1.

    Returns:
        ``pixel_values`` (B, 3, H, W), padded with zeros on the right and at the bottom, and
        ``pixel_mask`` (B, H, W), 1 on the image and 0 on its padding.
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


AutoImageProcessor.register(MdetrConfig, image_processor_classes={"pil": MdetrImageProcessor})
