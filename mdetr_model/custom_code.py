"""Model folders with their code, for people who do not have this project."""

from typing import Any

from mdetr_model.modeling import (
    MdetrConfig,
    MdetrForGrounding,
    MdetrForQuestionAnswering,
    MdetrImageProcessor,
    MdetrModel,
    MdetrProcessor,
)


def register_custom_code() -> None:
    """Adds the code of ``mdetr_model/modeling`` to all that this process saves or pushes later.

    ``from_pretrained(folder, trust_remote_code=True)`` of transformers' Auto classes and pipelines
    then needs transformers, torch and scipy, and not this project.
    """
    classes: dict[str, Any] = {
        "AutoConfig": MdetrConfig,
        "AutoModel": MdetrModel,
        "AutoModelForZeroShotObjectDetection": MdetrForGrounding,
        "AutoModelForVisualQuestionAnswering": MdetrForQuestionAnswering,
        "AutoImageProcessor": MdetrImageProcessor,
        "AutoProcessor": MdetrProcessor,
    }
    for auto_class, registered in classes.items():
        registered.register_for_auto_class(auto_class)
