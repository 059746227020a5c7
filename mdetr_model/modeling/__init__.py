"""MDETR as a transformers model. The modules of this folder can travel with a checkpoint.

They import transformers, torch, scipy, numpy and each other, by relative imports, and nothing else:
``save_pretrained`` copies such modules beside the weights. Importing the package registers its
classes with transformers' Auto classes.
"""

from .configuration_mdetr import MdetrConfig
from .image_processing_mdetr import MdetrImageProcessor
from .modeling_mdetr import MdetrForGrounding, MdetrForQuestionAnswering, MdetrModel
from .outputs import MdetrOutput
from .processing_mdetr import MdetrProcessor

__all__ = [
    "MdetrConfig",
    "MdetrForGrounding",
    "MdetrForQuestionAnswering",
    "MdetrImageProcessor",
    "MdetrModel",
    "MdetrOutput",
    "MdetrProcessor",
]
