"""Small random models and batches, for tests of the model."""

from typing import Any

import torch
from torch import Tensor

from mdetr_model.modeling.backbone import FrozenBatchNorm2d
from mdetr_model.modeling.configuration_mdetr import MdetrConfig
from mdetr_model.modeling.modeling_mdetr import MdetrForGrounding
from mdetr_model.modeling.outputs import MdetrOutput

RESNET = {
    "model_type": "resnet",
    "layer_type": "basic",
    "embedding_size": 8,
    "hidden_sizes": [8, 8, 16, 16],
    "depths": [1, 1, 1, 1],
}
EFFICIENTNET = {
    "model_type": "efficientnet",
    "width_coefficient": 0.25,
    "depth_coefficient": 0.1,
    "hidden_dim": 320,
    "drop_connect_rate": 0.0,
}
TEXT = {
    "model_type": "roberta",
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 40,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}
QUERIES = 5
LAYERS = 3


def tiny_config(**fields: Any) -> MdetrConfig:
    tiny: dict[str, Any] = {
        "backbone_config": RESNET,
        "text_config": TEXT,
        "hidden_size": 32,
        "num_attention_heads": 4,
        "encoder_layers": 2,
        "decoder_layers": LAYERS,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 40,
        "num_queries": QUERIES,
    }
    return MdetrConfig(**(tiny | fields))


def tiny_model(kind: type = MdetrForGrounding, **fields: Any) -> Any:
    torch.manual_seed(0)
    model = kind(tiny_config(**fields))
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.bias.normal_(std=0.3)
            # Untrained norms restore the scale that activations remove from the features.
            module.weight.fill_(1.3)
    return model.eval()


def two_inputs() -> dict[str, Tensor]:
    """Two images, 75 x 100 and 61 x 70, with 9 and 6 tokens."""
    torch.manual_seed(1)
    pixel_mask = torch.zeros(2, 75, 100, dtype=torch.long)
    pixel_mask[0] = 1
    pixel_mask[1, :61, :70] = 1
    attention_mask = torch.ones(2, 9, dtype=torch.long)
    attention_mask[1, 6:] = 0
    input_ids = torch.randint(3, 50, (2, 9)).masked_fill(attention_mask == 0, 1)
    return {
        "pixel_values": torch.randn(2, 3, 75, 100) * pixel_mask[:, None],
        "input_ids": input_ids,
        "pixel_mask": pixel_mask,
        "attention_mask": attention_mask,
    }


def two_labels() -> dict[str, Any]:
    positive_map = torch.zeros(2, 3, 256, dtype=torch.bool)
    positive_map[0, 0, 1:3] = positive_map[0, 1, 4] = positive_map[0, 2, 2:6] = positive_map[
        1, 0, 3
    ] = True
    box_mask = torch.tensor([[True, True, True], [True, False, False]])
    boxes = torch.rand(2, 3, 4) * 0.4 + 0.3
    return {
        "boxes": boxes * box_mask[..., None],
        "box_mask": box_mask,
        "positive_map": positive_map,
    }


@torch.no_grad()
def run(model: torch.nn.Module, inputs: dict[str, Tensor]) -> MdetrOutput:
    return model(**inputs)


def difference(first: Any, second: Any) -> float:
    """Returns the largest absolute difference over the outputs that both have."""
    assert first.keys() == second.keys()
    pairs = []
    for name in first:
        if isinstance(first[name], dict):
            pairs += [(first[name][head], second[name][head]) for head in first[name]]
        else:
            pairs.append((first[name], second[name]))
    # Keeps NaN, which Python's max would ignore.
    return torch.stack([(a.float() - b.float()).abs().max() for a, b in pairs]).max().item()
