"""MDETR as a transformers model. The modules of this folder can be saved with a checkpoint.

They import only transformers and what it needs, torch, scipy and, by relative imports, each other:
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
