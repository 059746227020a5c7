"""Conversion of published checkpoints, and refusal of other files."""

import argparse
import os
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import (
    AutoModelForZeroShotObjectDetection,
    AutoProcessor,
    RobertaTokenizerFast,
)

from mdetr_model.__main__ import main
from mdetr_model.conversion.configuration import config_from_checkpoint
from mdetr_model.conversion.convert import convert
from mdetr_model.conversion.key_mapping import convert_state_dict
from mdetr_model.conversion.published_checkpoint import CheckpointError, read_checkpoint
from mdetr_model.data.answers import CLEVR, read_answers
from mdetr_model.modeling.answer_types import (
    CLEVR_ANSWER_HEADS,
    GQA_ANSWER_HEADS,
    UNIFIED_GQA_ANSWER_HEADS,
)
from mdetr_model.modeling.configuration_mdetr import (
    MdetrConfig,
    backbone_config_for,
)
from mdetr_model.modeling.modeling_mdetr import MdetrForGrounding, MdetrForQuestionAnswering
from mdetr_model.modeling.positive_map import NUM_TOKEN_POSITIONS
from mdetr_model.modeling.processing_mdetr import MdetrProcessor
from tests import foreign_files


def _tiny(**fields: Any) -> MdetrConfig:
    text = {
        "model_type": "roberta",
        "vocab_size": 50,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 1,
        "intermediate_size": 80,
        "max_position_embeddings": 40,
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,
    }
    size = {"hidden_size": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 48}
    size["decoder_ffn_dim"] = 40
    image = fields.pop("backbone_config", backbone_config_for("resnet18"))
    return MdetrConfig(backbone_config=image, text_config=text, num_queries=5, **size, **fields)


def _published(config: MdetrConfig) -> dict[str, Tensor]:
    """Returns a state dict with the published names for a small configuration."""
    return _published_transformer(config) | _published_heads(config) | _published_encoders(config)


def _linear(name: str, outputs: int, inputs: int) -> dict[str, Tensor]:
    return {f"{name}.weight": torch.zeros(outputs, inputs), f"{name}.bias": torch.zeros(outputs)}


def _norm(name: str, size: int) -> dict[str, Tensor]:
    return {f"{name}.weight": torch.zeros(size), f"{name}.bias": torch.zeros(size)}


def _attention(name: str, size: int) -> dict[str, Tensor]:
    return {
        f"{name}.in_proj_weight": torch.zeros(3 * size, size),
        f"{name}.in_proj_bias": torch.zeros(3 * size),
        **_linear(f"{name}.out_proj", size, size),
    }


def _mlp(name: str, size: int, outputs: int) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for layer, layer_outputs in enumerate((size, size, outputs)):
        state |= _linear(f"{name}.layers.{layer}", layer_outputs, size)
    return state


def _published_transformer(config: MdetrConfig) -> dict[str, Tensor]:
    size = config.hidden_size
    state = _norm("transformer.decoder.norm", size)
    sides = {
        "encoder": (config.encoder_layers, config.encoder_ffn_dim, (1, 2)),
        "decoder": (config.decoder_layers, config.decoder_ffn_dim, (1, 3, 4)),
    }
    for side, (layers, ffn_dim, norms) in sides.items():
        for layer in range(layers):
            prefix = f"transformer.{side}.layers.{layer}"
            state |= _attention(f"{prefix}.self_attn", size)
            state |= _linear(f"{prefix}.linear1", ffn_dim, size)
            state |= _linear(f"{prefix}.linear2", size, ffn_dim)
            for number in norms:
                state |= _norm(f"{prefix}.norm{number}", size)
            if side == "decoder":
                state |= _attention(f"{prefix}.cross_attn_image", size)
    return state


def _published_heads(config: MdetrConfig) -> dict[str, Tensor]:
    size = config.hidden_size
    state = {"query_embed.weight": torch.zeros(config.num_queries, size)}
    state |= _linear("class_embed", NUM_TOKEN_POSITIONS, size)
    state |= _mlp("bbox_embed", size, 4)
    if config.contrastive_align_loss:
        state |= _linear("contrastive_align_projection_image", config.projection_dim, size)
        state |= _linear("contrastive_align_projection_text", config.projection_dim, size)
    if config.predict_final:
        state |= _linear("isfinal_embed", 1, size)
    if config.answer_heads:
        state["qa_embed.weight"] = torch.zeros(len(config.answer_heads), size)
    for head, outputs in config.answer_heads:
        name = "answer_head" if head == "total" else f"answer_{head}_head"
        has_mlp = head in config.mlp_answer_heads
        state |= _mlp(name, size, outputs) if has_mlp else _linear(name, outputs, size)
    return state


def _published_encoders(config: MdetrConfig) -> dict[str, Tensor]:
    """Returns the weights of backbone and text encoder; names inside them are unchanged."""
    model, size, text = MdetrForGrounding(config), config.hidden_size, "transformer.text_encoder"
    state = {
        f"{text}.embeddings.position_ids": torch.zeros(1, 40),
        **_linear(f"{text}.pooler.dense", 64, 64),
        **_linear("transformer.resizer.fc", size, 64),
        **_norm("transformer.resizer.layer_norm", size),
        "input_proj.weight": torch.zeros(size, 512, 1, 1),
        "input_proj.bias": torch.zeros(size),
    }
    for name, tensor in model.mdetr.text_encoder.state_dict().items():
        state[f"{text}.{name}"] = tensor
    for name, tensor in model.mdetr.image_encoder.state_dict().items():
        state[f"backbone.0.body.{_torchvision_name(name)}"] = tensor
    return state


def _torchvision_name(name: str) -> str:
    words = name.removeprefix("backbone.").split(".")
    kind = {"convolution": "conv", "normalization": "bn"}[words[-2]]
    if words[0] == "embedder":
        return f"{kind}1.{words[-1]}"
    block = f"layer{int(words[2]) + 1}.{words[4]}"
    if words[5] == "shortcut":
        return f"{block}.downsample.{0 if kind == 'conv' else 1}.{words[-1]}"
    return f"{block}.{kind}{int(words[6]) + 1}.{words[-1]}"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"predict_final": True},
        {"contrastive_align_loss": False, "answer_heads": GQA_ANSWER_HEADS},
        {"answer_heads": CLEVR_ANSWER_HEADS},
        {"answer_heads": UNIFIED_GQA_ANSWER_HEADS},
    ],
)
def test_configuration_is_inferred_from_tensors(tmp_path: Path, fields: dict[str, Any]) -> None:
    config = _tiny(**fields)
    state = _published(config)
    inferred = config_from_checkpoint(state, {})
    sizes = (
        "hidden_size",
        "encoder_layers",
        "decoder_layers",
        "encoder_ffn_dim",
        "decoder_ffn_dim",
    )
    for name in sizes:
        assert getattr(inferred, name) == getattr(config, name)
    assert inferred.num_queries == 5
    assert inferred.text_config.max_position_embeddings == 40
    assert inferred.backbone_config.depths == [2, 2, 2, 2]
    assert inferred.token_targets == "binary"
    assert inferred.answer_heads == config.answer_heads
    assert inferred.predict_final == config.predict_final
    assert inferred.contrastive_align_loss == config.contrastive_align_loss

    torch.save({"model": state}, tmp_path / "published.pth")
    convert(tmp_path / "published.pth", tmp_path / "model")
    kind = MdetrForQuestionAnswering if config.answer_heads else MdetrForGrounding
    _, info = kind.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(info[part] for part in ("missing_keys", "unexpected_keys", "mismatched_keys"))


def test_answers_are_written_to_the_configuration(reference: Path, tmp_path: Path) -> None:
    """GQA's are read from a file, CLEVR's are known."""
    published = reference / "real" / "gqa_answers" / "gqa_answer2id_by_type.json"
    torch.save({"model": _published(_tiny(answer_heads=GQA_ANSWER_HEADS))}, tmp_path / "gqa.pth")
    config = convert(tmp_path / "gqa.pth", tmp_path / "gqa", answers=published)
    again = MdetrConfig.from_pretrained(tmp_path / "gqa")
    assert again.answers == config.answers == read_answers(published).names
    assert convert(tmp_path / "gqa.pth", tmp_path / "without").answers is None

    torch.save(
        {"model": _published(_tiny(answer_heads=CLEVR_ANSWER_HEADS))}, tmp_path / "clevr.pth"
    )
    assert convert(tmp_path / "clevr.pth", tmp_path / "clevr").answers == CLEVR.names
    with pytest.raises(ValueError, match="is for the heads"):
        convert(tmp_path / "clevr.pth", tmp_path / "clevr", answers=published)


def test_training_options_set_configuration_fields() -> None:
    options = {"nheads": 4, "eos_coef": 0.2, "set_cost_bbox": 3, "qa_loss_coef": 25, "lr": 1e-4}
    config = config_from_checkpoint(_published(_tiny()), options)
    assert config.num_attention_heads == 4
    assert config.eos_coef == 0.2
    assert config.bbox_cost == 3.0
    assert config.qa_loss_coef == 25.0


def test_packed_attention_projections_are_split() -> None:
    config = _tiny()
    published = _published(config)
    name = "transformer.encoder.layers.1.self_attn.in_proj_weight"
    published[name] = torch.arange(96 * 32).reshape(96, 32).float()
    state = convert_state_dict(published, [])
    attention = "mdetr.encoder.layers.1.attention"
    parts = [state[f"{attention}.{part}.weight"] for part in ("query", "key", "value")]
    assert torch.equal(torch.cat(parts), published[name])


def test_model_or_ema_weights_can_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "published.pth"
    torch.save({"model": {"a": torch.zeros(1)}, "model_ema": {"a": torch.ones(1)}}, path)
    assert read_checkpoint(path)[0]["a"] == 1
    assert read_checkpoint(path, "model_ema")[0]["a"] == 1
    assert read_checkpoint(path, "model")[0]["a"] == 0


def test_conversion_replaces_its_own_model_and_no_files_of_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """transformers deletes files that are named like weights in a folder that it writes to."""
    path, output = tmp_path / "published.pth", tmp_path / "set [1]"
    torch.save({"model": _published(_tiny())}, path)
    for _ in range(2):
        assert main(["convert", str(path), "--output", str(output)]) == 0
    (output / "model-00001-of-00002.safetensors").write_bytes(b"precious")
    foreign = tmp_path / "model of others"
    foreign_files.plant(foreign, ["model-00001-of-00002.safetensors", "config.json"])
    for folder in (output, foreign):
        before = foreign_files.contents(folder)
        assert main(["convert", str(path), "--output", str(folder)]) == 1
        assert "has files that are not listed in" in capsys.readouterr().err
        assert foreign_files.contents(folder) == before


def test_auto_class_loads_converted_model(tmp_path: Path) -> None:
    torch.save({"model": _published(_tiny())}, tmp_path / "published.pth")
    convert(tmp_path / "published.pth", tmp_path / "model")
    model = AutoModelForZeroShotObjectDetection.from_pretrained(tmp_path / "model")
    assert isinstance(model, MdetrForGrounding)


def test_convert_with_tokenizer_writes_processor(tmp_path: Path) -> None:
    special = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    vocabulary = {token: i for i, token in enumerate([*special, *sorted(ByteLevel.alphabet())])}
    RobertaTokenizerFast(vocab=vocabulary, merges=[]).save_pretrained(tmp_path / "tokenizer")
    torch.save({"model": _published(_tiny())}, tmp_path / "published.pth")
    paths = [str(tmp_path / name) for name in ("published.pth", "model", "tokenizer")]
    assert main(["convert", paths[0], "--output", paths[1], "--tokenizer", paths[2]]) == 0
    processor = AutoProcessor.from_pretrained(tmp_path / "model")
    assert isinstance(processor, MdetrProcessor)
    assert processor.tokenizer("a dog")["input_ids"][0] == vocabulary["<s>"]


def test_checkpoint_options_are_read(tmp_path: Path) -> None:
    path = tmp_path / "published.pth"
    options = argparse.Namespace(nheads=4, lr=1e-4, text_encoder_type="roberta-base")
    torch.save({"model": {"a": torch.zeros(1)}, "args": options}, path)
    assert read_checkpoint(path)[1] == vars(options)


class _Attack:
    """Creates a folder when it is read by an unpickler that runs pickled code."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.made),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", ["pickle", "checkpoint", "weights", "options"])
def test_pickled_code_is_never_executed(tmp_path: Path, kind: str) -> None:
    path, made = tmp_path / "file.pth", tmp_path / "made"
    attack, tensors = _Attack(made), {"a": torch.zeros(1)}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(attack))
    else:
        contents = {
            "checkpoint": attack,
            "weights": {"model": {**tensors, "b": attack}},
            "options": {"model": tensors, "args": argparse.Namespace(lr=attack)},
        }
        torch.save(contents[kind], path)
    with pytest.raises(CheckpointError, match="not a PyTorch checkpoint"):
        read_checkpoint(path)
    assert not made.exists()
    # An unsafe load runs it.
    with suppress(RuntimeError):
        torch.load(path, weights_only=False)
    assert made.is_dir()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    "content, message",
    [
        (b"this is text", "not a PyTorch checkpoint"),
        (b"", "not a PyTorch checkpoint"),
        (pickle.dumps({"model": 1}), "not a PyTorch checkpoint"),
    ],
)
def test_files_that_are_no_checkpoints_are_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "content, message",
    [
        ([torch.zeros(1)], "expected a dictionary, found list"),
        ({"state_dict": {}, "epoch": 3}, "tensors by name under 'model', found 'state_dict'"),
        ({"model": {"a": 1}}, "expected tensors by name under 'model'"),
        ({"model": {3: torch.zeros(1)}}, "expected tensors by name under 'model'"),
        ({"model_ema": torch.zeros(2)}, "expected tensors by name under 'model_ema'"),
        (Path("model"), "not a PyTorch checkpoint"),
    ],
)
def test_checkpoints_of_other_content_are_refused(
    tmp_path: Path, content: Any, message: str
) -> None:
    path = tmp_path / "file.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(path)


def test_checkpoints_of_other_models_are_refused() -> None:
    with pytest.raises(CheckpointError, match="not an MDETR model: missing query_embed"):
        config_from_checkpoint({"fc.weight": torch.zeros(1)}, {})
    state = _published(_tiny())
    del state["transformer.encoder.layers.0.linear1.weight"]
    with pytest.raises(CheckpointError, match=r"missing transformer\.encoder\.layers\.0"):
        config_from_checkpoint(state, {})
    with pytest.raises(CheckpointError, match="PhraseCut"):
        config_from_checkpoint({"detr.query_embed.weight": torch.zeros(1)}, {})


def test_unknown_image_encoders_are_refused() -> None:
    state = _published(_tiny())
    without = {name: t for name, t in state.items() if name != "backbone.0.body.conv1.weight"}
    with pytest.raises(CheckpointError, match=r"a ResNet without backbone\.0\.body\.conv1"):
        config_from_checkpoint(without, {})
    del state["backbone.0.body.layer1.0.bn1.running_mean"]
    with pytest.raises(CheckpointError, match="neither a ResNet with batch norm nor"):
        config_from_checkpoint(state, {})
    with pytest.raises(CheckpointError, match="neither B3 nor B5"):
        config_from_checkpoint(
            state | {"backbone.0.body.conv_stem.weight": torch.zeros(32, 3, 3, 3)}, {}
        )


@pytest.mark.parametrize(
    "option, value", [("pre_norm", True), ("dilation", True), ("pass_pos_and_query", False)]
)
def test_unsupported_training_options_are_refused(option: str, value: bool) -> None:
    with pytest.raises(CheckpointError, match=f"trained with {option}={value}"):
        config_from_checkpoint(_published(_tiny()), {option: value})


@pytest.mark.parametrize(
    "options, message",
    [
        ({"nheads": None}, "trained with nheads=None, which is not int"),
        ({"nheads": 3}, "hidden_size is 32, with 3 attention heads"),
        ({"nheads": 0}, "num_attention_heads is 0"),
        ({"dropout": "0.1"}, "trained with dropout='0.1', which is not float"),
        ({"aux_loss": "False"}, "trained with aux_loss='False', which is not bool"),
        ({"pre_norm": torch.zeros(2)}, "trained with pre_norm=tensor"),
    ],
)
def test_invalid_training_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        config_from_checkpoint(_published(_tiny()), options)


ATTENTION = "transformer.encoder.layers.0.self_attn"
WORDS = "transformer.text_encoder.embeddings.word_embeddings.weight"


@pytest.mark.parametrize(
    "name, tensor, message",
    [
        ("query_embed.weight", torch.zeros(5), r"query_embed\.weight has shape \(5,\)"),
        ("query_embed.weight", torch.zeros(5, 30), "hidden_size is 30, with 8 attention heads"),
        ("query_embed.weight", torch.zeros(5, 32).long(), "queries.weight is of torch.int64"),
        ("backbone.0.body.conv1.weight", torch.zeros(()), r"conv1\.weight has shape \(\)"),
        (f"{ATTENTION}.in_proj_bias", torch.zeros(2), r"bias has shape \(1,\), expected \(32,\)"),
        (f"{ATTENTION}.in_proj_bias", torch.zeros(97), r"shape \(33,\), expected \(32,\)"),
        (WORDS, torch.zeros(50, 32), "a text encoder of 32 channels"),
        ("answer_type_head.weight", torch.zeros(4, 32), "type has 4 answers for 3 types"),
    ],
)
def test_wrong_tensor_shapes_are_refused(
    tmp_path: Path, name: str, tensor: Tensor, message: str
) -> None:
    state = _published(_tiny(answer_heads=CLEVR_ANSWER_HEADS))
    assert name in state
    torch.save({"model": state | {name: tensor}}, tmp_path / "published.pth")
    with pytest.raises(CheckpointError, match=message):
        convert(tmp_path / "published.pth", tmp_path / "model")


def test_missing_and_unexpected_tensors_are_named_in_the_error(tmp_path: Path) -> None:
    path = tmp_path / "published.pth"
    state = _published(_tiny())
    torch.save({"model": {**state, "transformer.CLS.weight": torch.zeros(1, 32)}}, path)
    with pytest.raises(CheckpointError, match=r"unexpected tensors: transformer\.CLS\.weight"):
        convert(path, tmp_path / "model")
    del state["class_embed.bias"]
    state["bbox_embed.layers.2.bias"] = torch.zeros(5)
    torch.save({"model": state}, path)
    with pytest.raises(CheckpointError) as error:
        convert(path, tmp_path / "model")
    assert "missing tensors: object_heads.tokens.bias" in str(error.value)
    assert "object_heads.box.last.bias has shape (5,), expected (4,)" in str(error.value)
    assert not (tmp_path / "model").exists()
