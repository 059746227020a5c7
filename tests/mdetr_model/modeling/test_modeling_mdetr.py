"""MDETR as a transformers model: shapes, batches, saving, losses."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForVisualQuestionAnswering,
    AutoModelForZeroShotObjectDetection,
)

import mdetr_model
from mdetr_model import (
    MdetrConfig,
    MdetrForGrounding,
    MdetrForQuestionAnswering,
    MdetrModel,
)
from mdetr_model.modeling.answer_types import (
    CLEVR_ANSWER_HEADS,
    GQA_ANSWER_HEADS,
    UNIFIED_GQA_ANSWER_HEADS,
)
from mdetr_model.modeling.position_encoding import sine_positions
from mdetr_model.modeling.transformer import MdetrAttention
from tests.mdetr_model.small import (
    EFFICIENTNET,
    LAYERS,
    QUERIES,
    RESNET,
    TEXT,
    difference,
    run,
    tiny_config,
    tiny_model,
    two_inputs,
    two_labels,
)

# Stride 16.
THREE_STAGES = RESNET | {"hidden_sizes": [8, 8, 16], "depths": [1, 1, 1]}
MASKS = ("pixel_mask", "attention_mask")


def test_output_shapes() -> None:
    outputs = run(tiny_model(predict_final=True), two_inputs())
    assert outputs.logits.shape == (2, QUERIES, 256)
    assert outputs.pred_boxes.shape == (2, QUERIES, 4)
    assert outputs.proj_queries.shape == (2, QUERIES, 64)
    assert outputs.proj_tokens.shape == (2, 9, 64)
    assert outputs.is_final.shape == (2, QUERIES)
    assert ((outputs.pred_boxes >= 0) & (outputs.pred_boxes <= 1)).all()
    assert torch.allclose(outputs.proj_queries.norm(dim=-1), torch.ones(2, QUERIES))
    for name in ("logits", "pred_boxes", "proj_queries", "is_final"):
        layers = outputs[f"layer_{name}"]
        assert layers.shape == (LAYERS, *outputs[name].shape)
        assert torch.equal(layers[-1], outputs[name])
        assert not torch.allclose(layers[0], layers[-1])


@pytest.mark.parametrize("backbone_config", [RESNET, EFFICIENTNET])
def test_outputs_depend_on_the_image(backbone_config: Any) -> None:
    model, inputs = tiny_model(backbone_config=backbone_config), two_inputs()
    other = inputs | {"pixel_values": torch.randn(2, 3, 75, 100)}
    assert difference(run(model, inputs), run(model, other)) > 1e-2


def test_image_index_gives_same_outputs_as_repeated_images() -> None:
    model, inputs = tiny_model(), two_inputs()
    image_index = torch.tensor([1, 0, 1])
    each = {name: value[image_index] for name, value in inputs.items()}
    once = {name: inputs[name] for name in ("pixel_values", "pixel_mask")}
    texts = {name: each[name] for name in ("input_ids", "attention_mask")}
    outputs = run(model, {**once, **texts, "image_index": image_index})
    assert difference(outputs, run(model, each)) < 1e-5


def test_grid_loss_coef_adds_losses_at_grid_locations() -> None:
    """They have the heads and losses of queries, and are not in the outputs without labels."""
    model, plain, inputs, labels = (
        tiny_model(grid_loss_coef=2.0), tiny_model(), two_inputs(), two_labels()
    )  # fmt: skip
    assert difference(run(model, inputs), run(plain, inputs)) == 0
    outputs, without = model(**inputs, labels=labels), plain(**inputs, labels=labels)
    assert outputs.grid_logits.shape == (2, 3 * 4, 256)
    grid_losses = {name: v for name, v in outputs.loss_dict.items() if name.endswith("_grid")}
    assert grid_losses.keys() >= {f"loss_{n}_grid" for n in ("ce", "bbox", "giou")}
    assert not any(name.endswith("_grid") for name in without.loss_dict)
    added = sum(
        weight * outputs.loss_dict[f"loss_{name}_grid"]
        for name, weight in {"ce": 1, "bbox": 5, "giou": 2, "contrastive_align": 1}.items()
    )
    torch.testing.assert_close(outputs.loss, without.loss + 2 * added)


def test_positions_at_input_are_added_to_projected_features() -> None:
    model, inputs = tiny_model(), two_inputs()
    without, mask = run(model, inputs), run(model.mdetr, inputs).grid_mask

    def add_positions(module: torch.nn.Module, args: Any, features: Tensor) -> Tensor:
        positions = sine_positions(mask, features.shape[1])
        return features + positions.transpose(1, 2).unflatten(2, features.shape[2:])

    model.mdetr.image_projection.register_forward_hook(add_positions)
    by_hand = run(model, inputs)
    assert difference(by_hand, without) > 1e-3
    assert difference(run(tiny_model(positions_at_input=True), inputs), by_hand) <= 1e-6


def test_identity_init_copies_memory_and_makes_branches_small() -> None:
    """With memory that is the same everywhere, any attention returns what an identity does."""
    model, xavier = tiny_model(identity_init=True).mdetr, tiny_model().mdetr
    memory = torch.randn(1, 1, model.config.hidden_size).expand(-1, 5, -1)
    queries = torch.randn(1, 3, model.config.hidden_size)
    for layer in model.decoder.layers:
        copied, _ = layer.cross_attention(queries, memory, memory, None)
        torch.testing.assert_close(copied, memory[:, :3], rtol=0, atol=1e-5)
    layers, others = (
        [*m.encoder.layers, *m.decoder.layers, *(e.attention for e in m.encoder.layers)]
        for m in (model, xavier)
    )
    for layer, other in zip(layers, others, strict=True):
        small, usual = (
            (m.output if isinstance(m, MdetrAttention) else m.feedforward.contract).weight.std()
            for m in (layer, other)
        )
        assert 0.15 * usual < small < 0.25 * usual


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_identity_init_builds_and_loads_models_of_any_precision(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    model = MdetrForGrounding._from_config(tiny_model(identity_init=True).config, dtype=dtype)
    model.save_pretrained(tmp_path)
    loaded = MdetrForGrounding.from_pretrained(tmp_path, dtype=dtype).state_dict()
    for name, weight in model.state_dict().items():
        assert weight.isfinite().all()
        assert torch.equal(weight, loaded[name]), name


def published_layers(config: MdetrConfig) -> dict[str, torch.nn.Module]:
    """Torch's modules as the published program makes them, by a name of ours that they match."""
    size, ffn, channels = config.hidden_size, config.encoder_ffn_dim, 64
    attention = torch.nn.MultiheadAttention(size, config.num_attention_heads)
    expand, contract = torch.nn.Linear(size, ffn), torch.nn.Linear(ffn, size)
    for matrix in (attention.in_proj_weight, attention.out_proj.weight):
        torch.nn.init.xavier_uniform_(matrix)
    for matrix in (expand.weight, contract.weight):
        torch.nn.init.xavier_uniform_(matrix)
    return {
        "mdetr.encoder.layers.0.attention": attention,
        "mdetr.decoder.layers.0.self_attention": attention,
        "mdetr.decoder.layers.1.cross_attention": attention,
        "mdetr.encoder.layers.1.feedforward.expand": expand,
        "mdetr.encoder.layers.1.feedforward.contract": contract,
        "mdetr.image_projection": torch.nn.Conv2d(channels, size, 1),
        "mdetr.text_projection.linear": torch.nn.Linear(config.text_config.hidden_size, size),
        "mdetr.queries": torch.nn.Embedding(100, size),
        "object_heads.tokens": torch.nn.Linear(size, 256),
        "object_heads.box.first": torch.nn.Linear(size, size),
        "object_heads.box.last": torch.nn.Linear(size, 4),
        "alignment_heads.queries": torch.nn.Linear(size, config.projection_dim),
        "alignment_heads.tokens": torch.nn.Linear(size, config.projection_dim),
        "answer_queries": torch.nn.Embedding(5, size),
        "answer_heads.heads.0": torch.nn.Linear(size, 40),
    }


def spread(*tensors: Tensor) -> list[float]:
    values = torch.cat([tensor.detach().flatten() for tensor in tensors])
    return [values.std().item(), values.abs().max().item()]


def test_initial_weights_are_the_published_ones() -> None:
    """They have the standard deviation and the bounds of the published program's modules."""
    model = tiny_model(
        MdetrForQuestionAnswering,
        answer_heads=[["total", 40]],
        backbone_config=RESNET | {"hidden_sizes": [8, 8, 16, 64]},
        hidden_size=128,
        encoder_ffn_dim=96,
    )
    for name, published in published_layers(model.config).items():
        module = model.get_submodule(name)
        expected = {n: [p] for n, p in published.named_parameters()}
        actual = {n: [p] for n, p in module.named_parameters()}
        if isinstance(module, MdetrAttention):
            parts = (module.query, module.key, module.value)
            actual = {
                "in_proj_weight": [part.weight for part in parts],
                "in_proj_bias": [part.bias for part in parts],
                "out_proj.weight": [module.output.weight],
                "out_proj.bias": [module.output.bias],
            }
        assert actual.keys() == expected.keys()
        for parameter, tensors in actual.items():
            few = sum(tensor.numel() for tensor in tensors) < 300
            if module is model.answer_queries or (few and parameter == "bias"):
                continue  # too few values to compare
            assert spread(*tensors) == pytest.approx(
                spread(*expected[parameter]), rel=0.1 if not few else 0.5, abs=1e-9
            ), (name, parameter)
    assert model.answer_queries.weight.std() > 0.7


def test_identity_init_has_larger_weights_and_one_initial_bias() -> None:
    model = tiny_model(identity_init=True)
    for name in ("object_heads.box.last", "alignment_heads.queries"):
        layer = model.get_submodule(name)
        bound = (6 / (layer.in_features + layer.out_features)) ** 0.5
        assert 0.9 * bound < layer.weight.abs().max() <= bound
        assert not layer.bias.any()
    biases = {
        name: bias.abs().max().item()
        for name, bias in model.mdetr.decoder.named_parameters()
        if name.endswith("bias")
    }
    assert biases.pop("layers.0.self_attention.output.bias") > 0
    assert biases and not any(biases.values())


def test_weights_that_a_folder_lacks_are_initialized_and_no_others(tmp_path: Path) -> None:
    model = tiny_model()
    state = model.state_dict()
    missing = "mdetr.encoder.layers.0.attention.query.weight"
    lacking = {name: value for name, value in state.items() if name != missing}
    model.save_pretrained(tmp_path, state_dict=lacking)
    loaded = MdetrForGrounding.from_pretrained(tmp_path).state_dict()
    for name, value in state.items():
        assert torch.equal(loaded[name], value) == (name != missing), name
    assert loaded[missing].abs().max() <= model.config.hidden_size**-0.5


def test_boxes_have_the_precision_of_float32_under_autocast() -> None:
    model, inputs = tiny_model(), two_inputs()
    with torch.autocast("cpu", torch.bfloat16):
        boxes = run(model, inputs).layer_pred_boxes
    assert boxes.dtype == torch.float32
    assert (boxes != boxes.bfloat16().float()).float().mean() > 0.9
    half = model.bfloat16()
    halves = {n: v.bfloat16() if v.is_floating_point() else v for n, v in inputs.items()}
    assert run(half, halves).pred_boxes.dtype == torch.bfloat16


def test_token_embeddings_can_be_resized() -> None:
    model, inputs = tiny_model(), two_inputs()
    before = run(model, inputs)
    model.resize_token_embeddings(60)
    assert model.get_input_embeddings().num_embeddings == 60
    assert model.config.text_config.vocab_size == 60
    assert difference(run(model, inputs), before) <= 1e-6
    assert run(model, inputs | {"input_ids": torch.full((2, 9), 59)}).logits.isfinite().all()


@pytest.mark.parametrize("tokens", [60, 51, 40])
@pytest.mark.parametrize("resized", ["model", "base", "text encoder", "set"])
def test_saved_model_of_any_vocabulary_is_loaded(tokens: int, resized: str, tmp_path: Path) -> None:
    model = tiny_model(word_loss_coef=1.0)
    words, bias = model.word_head.words.weight.clone(), model.word_head.bias.clone()
    if resized == "set":
        model.set_input_embeddings(torch.nn.Embedding(tokens, TEXT["hidden_size"]))
    else:
        parts = {"model": model, "base": model.mdetr, "text encoder": model.mdetr.text_encoder}
        parts[resized].resize_token_embeddings(tokens)
    model.save_pretrained(tmp_path)
    loaded, info = MdetrForGrounding.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert loaded.config.text_config.vocab_size == loaded.word_head.words.out_features == tokens
    common = min(tokens, len(bias))
    assert torch.equal(loaded.word_head.words.weight[:common], words[:common])
    assert torch.equal(loaded.word_head.bias[:common], bias[:common])
    inputs = two_inputs() | {"input_ids": torch.full((2, 9), tokens - 1)}
    labels = two_labels()
    losses = [each(**inputs, labels=labels).loss for each in (model, loaded)]
    assert losses[0].isfinite()
    torch.testing.assert_close(losses[0], losses[1])
    losses[1].backward()
    assert loaded.word_head.words.weight.grad[tokens - 1].abs().sum() > 0


@pytest.mark.parametrize("multiple, expected", [(None, 57), (8, 64)])
def test_padded_vocabulary_has_padded_heads(multiple: int | None, expected: int) -> None:
    model = tiny_model(word_loss_coef=1.0)
    model.resize_token_embeddings(57, pad_to_multiple_of=multiple)
    assert len(model.word_head.bias) == model.word_head.words.out_features == expected
    labels = two_labels()
    assert model(**two_inputs(), labels=labels).loss_dict["loss_word"].isfinite()


def test_optional_heads_are_absent_from_outputs() -> None:
    model = tiny_model(contrastive_align_loss=False, auxiliary_loss=False)
    outputs = run(model, two_inputs())
    assert set(outputs.keys()) == {"logits", "pred_boxes", "input_ids"}
    whole = tiny_model(contrastive_align_loss=False)
    whole.load_state_dict(model.state_dict())
    assert torch.allclose(run(whole, two_inputs()).logits, outputs.logits, atol=1e-5)


def test_answer_shapes() -> None:
    outputs = run(
        tiny_model(MdetrForQuestionAnswering, answer_heads=CLEVR_ANSWER_HEADS), two_inputs()
    )
    shapes = {head: tuple(logits.shape) for head, logits in outputs.answers.items()}
    assert shapes == {"type": (2, 3), "binary": (2,), "reg": (2, 20), "attr": (2, 15)}
    assert outputs.logits.shape == (2, QUERIES, 256)
    unified = run(
        tiny_model(MdetrForQuestionAnswering, answer_heads=UNIFIED_GQA_ANSWER_HEADS), two_inputs()
    )
    assert unified.answers["total"].shape == (2, 1853)
    with pytest.raises(ValueError, match="answer_heads"):
        MdetrForQuestionAnswering(tiny_config())


@pytest.mark.parametrize("backbone_config", [RESNET, THREE_STAGES, EFFICIENTNET])
@pytest.mark.parametrize("item", [0, 1])
def test_sample_has_same_outputs_in_any_batch(backbone_config: Any, item: int) -> None:
    model = tiny_model(backbone_config=backbone_config, mask_padding=True)
    inputs = two_inputs()
    whole = run(model, inputs)
    height = int(inputs["pixel_mask"][item].any(1).sum())
    width = int(inputs["pixel_mask"][item].any(0).sum())
    tokens = int(inputs["attention_mask"][item].sum())
    one = slice(item, item + 1)
    single = run(
        model,
        {
            "pixel_values": inputs["pixel_values"][one, :, :height, :width],
            "input_ids": inputs["input_ids"][one, :tokens],
        },
    )
    for name in ("logits", "pred_boxes", "proj_queries"):
        assert (single[name] - whole[name][one]).abs().max() <= 1e-4, name
    assert (single.proj_tokens - whole.proj_tokens[one, :tokens]).abs().max() <= 1e-4


@pytest.mark.parametrize("item", [0, 1])
def test_caption_padding_does_not_change_outputs(item: int) -> None:
    """Padding of images affects the published image encoder; padding of captions never does."""
    model, inputs = tiny_model(), two_inputs()
    whole = run(model, inputs)
    one, tokens = slice(item, item + 1), int(inputs["attention_mask"][item].sum())
    single = {name: value[one] for name, value in inputs.items()}
    single["input_ids"], single["attention_mask"] = (
        single[name][:, :tokens] for name in ("input_ids", "attention_mask")
    )
    outputs = run(model, single)
    assert (outputs.logits - whole.logits[one]).abs().max() <= 1e-4
    assert (outputs.pred_boxes - whole.pred_boxes[one]).abs().max() <= 1e-4


def test_common_padding_does_not_change_outputs() -> None:
    model, inputs = tiny_model(mask_padding=True), two_inputs()
    more = {name: F.pad(inputs[name], (0, 33, 0, 40)) for name in ("pixel_values", "pixel_mask")}
    more |= {name: F.pad(inputs[name], (0, 4)) for name in ("input_ids", "attention_mask")}
    first, second = run(model, inputs), run(model, more)
    assert (first.logits - second.logits).abs().max() <= 1e-4
    assert (first.pred_boxes - second.pred_boxes).abs().max() <= 1e-4


@pytest.mark.parametrize(
    "kind, auto, fields",
    [
        (MdetrForGrounding, AutoModelForZeroShotObjectDetection, {"predict_final": True}),
        (
            MdetrForQuestionAnswering,
            AutoModelForVisualQuestionAnswering,
            {"answer_heads": CLEVR_ANSWER_HEADS, "backbone_config": EFFICIENTNET},
        ),
    ],
)
def test_saved_model_is_loaded_by_its_auto_class(
    tmp_path: Path, kind: type, auto: Any, fields: dict[str, Any]
) -> None:
    model = tiny_model(kind, **fields)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    assert AutoConfig.from_pretrained(tmp_path).to_diff_dict() == model.config.to_diff_dict()
    loaded = auto.from_pretrained(tmp_path)
    assert type(loaded) is kind
    # Not always bit-identical: the order of summation depends on the alignment in memory.
    assert difference(run(loaded, two_inputs()), run(model, two_inputs())) <= 1e-5
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert {name for name, p in loaded.named_parameters() if not p.requires_grad} == frozen


def test_grounding_weights_load_into_question_answering_model(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path)
    model, info = MdetrForQuestionAnswering.from_pretrained(
        tmp_path, answer_heads=CLEVR_ANSWER_HEADS, output_loading_info=True
    )
    assert not info["unexpected_keys"]
    assert all(name.startswith("answer_") for name in info["missing_keys"])
    base = AutoModel.from_pretrained(tmp_path)
    assert isinstance(base, MdetrModel)
    assert torch.equal(base.queries.weight, model.mdetr.queries.weight)


@pytest.mark.parametrize("fields", [{}, {"mask_padding": True}, {"backbone_config": EFFICIENTNET}])
@pytest.mark.parametrize("without", [("pixel_mask",), ("attention_mask",), MASKS])
def test_outputs_without_a_mask_are_those_with_a_mask_of_ones(
    fields: dict[str, Any], without: tuple[str, ...]
) -> None:
    model, inputs = tiny_model(**fields), two_inputs()
    inputs |= {name: torch.ones_like(inputs[name]) for name in without}
    fewer = {name: value for name, value in inputs.items() if name not in without}
    assert difference(run(model, fewer), run(model, inputs)) <= 1e-5


def test_attention_has_no_mask_where_nothing_is_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a GPU may use the kernels that take none; all of the model's attention."""
    masks = []

    def recorded(*args: Any, attn_mask: Any = None, **kwargs: Any) -> Any:
        masks.append(attn_mask)
        return original(*args, attn_mask=attn_mask, **kwargs)

    original = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", recorded)
    model, inputs = tiny_model(), two_inputs()
    run(model, {name: value for name, value in inputs.items() if name not in MASKS})
    # Of two layers each of the text encoder and the joint encoder, and twice of three decoder ones.
    assert masks == [None] * (2 + 2 + 2 * 3)
    masks.clear()
    run(model, inputs)
    assert [mask is None for mask in masks] == [False] * 4 + [True, False] * 3


def test_bfloat16_autocast_is_close_to_float32() -> None:
    model, inputs = tiny_model(), two_inputs()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(**inputs, labels=two_labels())
    assert torch.isfinite(outputs.loss)
    outputs.loss.backward()
    exact = run(model, inputs)
    assert (outputs.pred_boxes.float() - exact.pred_boxes).abs().max() < 0.05
    assert (outputs.logits.float() - exact.logits).abs().max() < 0.2


@pytest.mark.parametrize("backbone_config", [RESNET, EFFICIENTNET])
def test_image_encoder_trains_from_scratch(tmp_path: Path, backbone_config: Any) -> None:
    scratch = {"frozen_batch_norm": False, "frozen_first_layers": False}
    model = tiny_model(backbone_config=backbone_config, **scratch).train()
    model(**two_inputs(), labels=two_labels()).loss.backward()
    encoder = model.mdetr.image_encoder
    assert all(parameter.grad.abs().sum() > 0 for parameter in encoder.parameters())
    norms = [module for module in encoder.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms and all(norm.running_mean.abs().sum() > 0 for norm in norms)

    model.eval().save_pretrained(tmp_path)
    loaded = MdetrForGrounding.from_pretrained(tmp_path)
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert difference(run(loaded, two_inputs()), run(model, two_inputs())) <= 1e-6
    # With the collected statistics frozen, the outputs are the same.
    frozen = MdetrForGrounding.from_pretrained(tmp_path, frozen_batch_norm=True)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in frozen.modules())
    if backbone_config is RESNET:  # EfficientNet's batch norm has another epsilon.
        assert difference(run(frozen, two_inputs()), run(model, two_inputs())) <= 1e-5
        frozen.save_pretrained(tmp_path)
        thawed = MdetrForGrounding.from_pretrained(tmp_path, **scratch)
        assert difference(run(thawed, two_inputs()), run(model, two_inputs())) <= 1e-5


def test_losses_reach_every_trained_parameter() -> None:
    model = tiny_model(predict_final=True).train()
    labels = two_labels() | {"is_final": torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]])}
    outputs = model(**two_inputs(), labels=labels)
    assert {"loss_ce", "loss_bbox_0", "loss_contrastive_align", "loss_isfinal"} <= set(
        outputs.loss_dict
    )
    outputs.loss.backward()
    without = {
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    }
    assert not without
    assert model.mdetr.queries.weight.grad.abs().sum() > 0


def test_missing_labels_are_named_in_the_error() -> None:
    model, labels = tiny_model(predict_final=True), two_labels()
    del labels["positive_map"]
    message = (
        r"labels lack positive_map, is_final; .* need boxes, box_mask, positive_map, is_final$"
    )
    for is_final in ({}, {"is_final": None}):
        with pytest.raises(ValueError, match=message):
            model(**two_inputs(), labels=labels | is_final)
    model = tiny_model(MdetrForQuestionAnswering, answer_heads=CLEVR_ANSWER_HEADS)
    message = r"labels lack answers; .* heads type, binary, reg, attr$"
    for no_answers in ({}, {"answers": None}):
        with pytest.raises(ValueError, match=message):
            model(**two_inputs(), labels=two_labels() | no_answers)
    answers = {head: torch.zeros(2, dtype=torch.long) for head in ("type", "binary", "attr")}
    for no_number in ({}, {"reg": None}):
        with pytest.raises(ValueError, match=r"labels lack answers\['reg'\]; "):
            model(**two_inputs(), labels=two_labels() | {"answers": answers | no_number})


def test_mismatched_numbers_of_images_captions_and_labels_are_refused() -> None:
    model, inputs = tiny_model(), two_inputs()
    one_image = inputs | {name: inputs[name][:1] for name in ("pixel_values", "pixel_mask")}
    with pytest.raises(ValueError, match="1 images and 2 captions, without image_index"):
        model(**one_image)
    for image_index in (torch.zeros(3, dtype=torch.long), torch.zeros(2, 1, dtype=torch.long)):
        with pytest.raises(ValueError, match=r"image_index of shape \(.*\), for 2 captions"):
            model(**one_image, image_index=image_index)
    for name, label in two_labels().items():
        with pytest.raises(ValueError, match=f"{name} for 3 captions instead of 2"):
            model(**inputs, labels=two_labels() | {name: torch.cat([label, label[:1]])})


def test_answers_of_wrong_length_are_refused() -> None:
    model = tiny_model(MdetrForQuestionAnswering, answer_heads=CLEVR_ANSWER_HEADS)
    answers = {head: torch.zeros(2, dtype=torch.long) for head, _ in CLEVR_ANSWER_HEADS}
    model(**two_inputs(), labels=two_labels() | {"answers": answers})
    answers["reg"] = torch.zeros(1, dtype=torch.long)
    with pytest.raises(ValueError, match="reg for 1 captions instead of 2"):
        model(**two_inputs(), labels=two_labels() | {"answers": answers})


@pytest.mark.parametrize("kind", [MdetrModel, MdetrForGrounding, MdetrForQuestionAnswering])
def test_return_dict_false_gives_tuple(kind: type) -> None:
    model = tiny_model(kind, answer_heads=CLEVR_ANSWER_HEADS)
    named = run(model, two_inputs())
    values = run(model, two_inputs() | {"return_dict": False})
    assert isinstance(values, tuple) and len(values) == len(named.to_tuple())
    tensor = named.to_tuple()[0]
    assert torch.equal(values[0], tensor)
    if kind is MdetrForGrounding:
        values = run(model, two_inputs() | {"return_dict": False, "labels": two_labels()})
        assert values[0].shape == ()  # The loss, as training loops expect.
    model.config.return_dict = False
    assert torch.equal(run(model, two_inputs())[0], tensor)
    assert run(model, two_inputs() | {"return_dict": True}).keys() == named.keys()


def test_unknown_token_targets_are_refused_by_the_configuration() -> None:
    with pytest.raises(ValueError, match="'soft'; it has to be 'normalized' or 'binary'"):
        MdetrConfig(token_targets="soft")


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"image_config": {"model_type": "resnet"}}, "image_config is a field of version 0.1.0"),
        ({"hidden_size": 30, "num_attention_heads": 5}, "hidden_size is 30, with 5 attention"),
        ({"hidden_size": 32, "num_attention_heads": 5}, "multiple of 4 and of the number of heads"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0; it has to be at least 1"),
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"decoder_layers": 0}, "decoder_layers is 0"),
        ({"num_queries": -1}, "num_queries is -1"),
        ({"answer_heads": [("total", 5), ("total", 5)]}, "are total, total; they have to be total"),
        (
            {"answer_heads": [*UNIFIED_GQA_ANSWER_HEADS, *CLEVR_ANSWER_HEADS]},
            "; they have to be total; or",
        ),
        (
            {"answer_heads": CLEVR_ANSWER_HEADS[:3]},
            "are binary, reg, type; .* type, binary, attr, reg;",
        ),
        ({"answer_heads": [("type", 3), *CLEVR_ANSWER_HEADS]}, "are attr, binary, reg, type, type"),
        ({"answer_heads": [("kind", 3)]}, "answer_heads are kind"),
        (
            {"answer_heads": [("type", 4), *CLEVR_ANSWER_HEADS[1:]]},
            "type has 4 answers for 3 types",
        ),
        (
            {"answer_heads": [("binary", 2), *(h for h in CLEVR_ANSWER_HEADS if h[0] != "binary")]},
            "binary has 2 outputs instead of 1",
        ),
    ],
)
def test_invalid_configurations_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MdetrConfig(**fields)


def test_answer_heads_may_have_any_order() -> None:
    for heads in (CLEVR_ANSWER_HEADS[::-1], GQA_ANSWER_HEADS[::-1], UNIFIED_GQA_ANSWER_HEADS):
        assert MdetrConfig(answer_heads=heads).answer_heads == [list(head) for head in heads]


def test_unknown_encoder_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="Nothing"):
        _ = mdetr_model.Nothing
    with pytest.raises(ValueError, match="'gpt'"):
        MdetrConfig(text_config="gpt")
