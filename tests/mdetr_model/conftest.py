"""A model and an image for tests of what users do with them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers.pre_tokenizers import ByteLevel
from transformers import RobertaTokenizerFast

from mdetr_model import MdetrConfig, MdetrForGrounding, MdetrImageProcessor, MdetrProcessor

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random model with a tokenizer of single bytes."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *sorted(ByteLevel.alphabet())])}
    text = {"model_type": "roberta", "hidden_size": 32, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "intermediate_size": 40, "vocab_size": len(vocabulary)}
    image = {"model_type": "resnet", "layer_type": "basic", "embedding_size": 8}
    image |= {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}
    size = {"hidden_size": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32}
    size["decoder_ffn_dim"] = 32
    config = MdetrConfig(backbone_config=image, text_config=text, num_queries=6, **size)
    MdetrForGrounding(config).save_pretrained(folder)
    tokenizer = RobertaTokenizerFast(vocab=vocabulary, merges=[])
    image_processor = MdetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    MdetrProcessor(image_processor, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A JPEG of random pixels, 200 x 60."""
    pixels = np.random.default_rng(0).integers(0, 255, (60, 200, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.jpg")
    return tmp_path / "image.jpg"
