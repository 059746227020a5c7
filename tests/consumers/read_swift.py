"""ms-swift reads conversations and replaces placeholders: RESULT FILE IMAGES.

Its templates need no model for this: those of Qwen2-VL, which states boxes in thousandths, and of
Qwen2.5-VL, which states them in pixels.
"""

import json
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

from PIL import Image
from swift.dataset import load_dataset
from swift.template.template_inputs import StdTemplateInputs
from swift.template.templates.qwen import Qwen2_5VLTemplate, Qwen2VLTemplate

result, file, images = sys.argv[1:]


def template(kind: type) -> Any:
    """Returns a template without a processor, which leaves images as they are."""

    class WithoutProcessor(kind):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            self.template_backend, self.bbox_format = "swift", "legacy"

        def replace_tag(self, media_type: str, index: int, inputs: Any) -> list[str]:
            return [f"<{media_type}>"]

    return WithoutProcessor()


def replaced(kind: type, row: dict[str, Any]) -> list[str]:
    """Returns the messages as the model would read them."""
    reader, inputs = template(kind), StdTemplateInputs.from_dict(deepcopy(row))
    inputs.images = [Image.open(Path(images, image)) for image in inputs.images]
    reader._get_height_width(inputs)
    separator = "\0"
    contexts = [separator.join(message["content"] for message in inputs.messages)]
    parts, scales = reader._split_special_tokens(contexts, [1.0])
    return "".join(reader._pre_tokenize(parts, scales, inputs)[0]).split(separator)


dataset, _ = load_dataset([file], split_dataset_ratio=0.0, strict=True, num_proc=1)
conversations = []
for row in dataset:
    row = {**row, "images": [image["path"] for image in row["images"]]}
    conversations.append(
        {
            "image": row["images"][0],
            "roles": [message["role"] for message in row["messages"]],
            "thousandths": replaced(Qwen2VLTemplate, row),
            "pixels": replaced(Qwen2_5VLTemplate, row),
        }
    )
Path(result).write_text(json.dumps(conversations))
