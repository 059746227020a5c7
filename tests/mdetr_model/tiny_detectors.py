"""Random detectors of transformers with a few thousand weights, saved as they are published."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertTokenizerFast,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    MMGroundingDinoConfig,
    MMGroundingDinoForObjectDetection,
    Owlv2Config,
    Owlv2ForObjectDetection,
    OwlViTConfig,
    OwlViTForObjectDetection,
    PreTrainedTokenizerFast,
)
from transformers.models.grounding_dino.image_processing_pil_grounding_dino import (
    GroundingDinoImageProcessorPil,
)
from transformers.models.owlv2.image_processing_pil_owlv2 import Owlv2ImageProcessorPil
from transformers.models.owlvit.image_processing_pil_owlvit import OwlViTImageProcessorPil

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
#: The ids of BERT's tokens that Grounding DINO knows by number.
BERT_IDS = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029}


def write_grounding_dino(folder: Path, *, mm: bool = False) -> Path:
    """Writes a Grounding DINO, or a model of the type of MM-Grounding-DINO and LLMDet."""
    torch.manual_seed(0)
    size = {"d_model": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    layers = {"encoder_layers": 1, "decoder_layers": 2, "num_queries": 6}
    config = (MMGroundingDinoConfig if mm else GroundingDinoConfig)(
        backbone_config={
            "model_type": "swin",
            "embed_dim": 8,
            "depths": [1, 1, 1, 1],
            "num_heads": [1, 1, 1, 1],
            "window_size": 4,
            "out_indices": [2, 3, 4],
        },
        text_config={
            "model_type": "bert",
            "vocab_size": 1100,
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
        },
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_feature_levels=4,
        disable_custom_kernels=True,
        **size,
        **layers,
    )
    kind = MMGroundingDinoForObjectDetection if mm else GroundingDinoForObjectDetection
    kind(config).save_pretrained(folder)
    ids = dict(BERT_IDS)
    ids |= {letter: 200 + number for number, letter in enumerate(LETTERS)}
    ids |= {f"##{letter}": 300 + number for number, letter in enumerate(LETTERS)}
    ids |= {f"[unused{index}]": index for index in range(1100) if index not in ids.values()}
    BertTokenizerFast(vocab=ids).save_pretrained(folder)
    size = {"shortest_edge": 64, "longest_edge": 96}
    GroundingDinoImageProcessorPil(size=size).save_pretrained(folder)
    return folder


def write_owl(folder: Path, *, v2: bool = True) -> Path:
    """Writes an OWLv2 or an OWL-ViT."""
    torch.manual_seed(0)
    encoder = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = (Owlv2Config if v2 else OwlViTConfig)(
        text_config={
            **encoder,
            "vocab_size": 60,
            "max_position_embeddings": 16,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 59,
        },
        vision_config={**encoder, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    (Owlv2ForObjectDetection if v2 else OwlViTForObjectDetection)(config).save_pretrained(folder)
    ids = {"!": 0, "<s>": 1, "<unk>": 2, "</s>": 59}  # the last token has the highest id
    ids |= {letter: 3 + number for number, letter in enumerate(LETTERS)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 59)]
    )
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "!"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    image_processor = Owlv2ImageProcessorPil if v2 else OwlViTImageProcessorPil
    image_processor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder
