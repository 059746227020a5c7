"""The initial model of training: an existing one, or one assembled from parts."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoTokenizer

from mdetr_model.data.answers import CLEVR, AnswerVocabulary
from mdetr_model.data.transforms import EvalTransform
from mdetr_model.model_folder import write_model
from mdetr_model.modeling.configuration_mdetr import MdetrConfig
from mdetr_model.modeling.image_processing_mdetr import MdetrImageProcessor
from mdetr_model.modeling.modeling_mdetr import MdetrForQuestionAnswering
from mdetr_model.modeling.processing_mdetr import MdetrProcessor
from mdetr_model.training.config import InitConfig
from mdetr_model.training.init_model import init_model, load_backbone_weights
from mdetr_model.training.tokenizer import train_tokenizer
from tests.mdetr_model.small import EFFICIENTNET, RESNET, TEXT, tiny_model

TRANSFORM = EvalTransform(size=40, max_size=60)
SMALL = {"hidden_size": 32, "num_attention_heads": 4, "encoder_layers": 1, "decoder_layers": 1}
CAPTIONS = ["a red circle", "two blue stars on the left"]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image encoder and, in half precision, a text encoder with its tokenizer."""
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(1)
    for name, config in (("resnet", RESNET), ("efficientnet", EFFICIENTNET)):
        AutoModel.from_config(AutoConfig.for_model(**config)).save_pretrained(folder / name)
    tokenizer = train_tokenizer(CAPTIONS, 270)
    text = AutoConfig.for_model(**(TEXT | {"vocab_size": len(tokenizer)}))
    AutoModel.from_config(text).half().save_pretrained(folder / "text")
    tokenizer.save_pretrained(folder / "text")
    return folder


@pytest.mark.parametrize("kind", ["resnet", "efficientnet"])
def test_encoders_get_their_pretrained_weights(parts: Path, kind: str) -> None:
    """As ``from_pretrained`` loads them from a folder or the hub, in float32."""
    init = InitConfig(
        backbone_weights=str(parts / kind), text_weights=str(parts / "text"), config=dict(SMALL)
    )
    model, processor = init_model(init, TRANSFORM, None)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    text = AutoModel.from_pretrained(parts / "text", dtype=torch.float32)
    words = model.mdetr.text_encoder.embeddings.word_embeddings.weight
    assert torch.equal(words, text.embeddings.word_embeddings.weight)

    pixels = torch.randn(1, 3, 64, 64)
    image = AutoModel.from_pretrained(parts / kind, dtype=torch.float32).eval()
    loaded = model.mdetr.image_encoder.eval()(pixels)
    with torch.no_grad():
        stem = image.embedder if kind == "resnet" else image.embeddings
        features = image.encoder(stem(pixels)).last_hidden_state
    if kind == "resnet":
        torch.testing.assert_close(loaded, features, rtol=1e-4, atol=1e-5)
    else:
        # the channels differ, because this package's encoder has no final convolution
        assert loaded.shape[-2:] == features.shape[-2:]
    assert processor.image_processor.size == {"shortest_edge": 40, "longest_edge": 60}
    assert len(processor.tokenizer) == 270


def test_weights_of_another_architecture_are_refused(parts: Path) -> None:
    model = tiny_model()
    other = AutoModel.from_config(AutoConfig.for_model(**(RESNET | {"depths": [2, 1, 1, 1]})))
    load_backbone_weights(model.mdetr.image_encoder, AutoModel.from_pretrained(parts / "resnet"))
    with pytest.raises(ValueError, match="does not fit the image encoder"):
        load_backbone_weights(model.mdetr.image_encoder, AutoModel.from_pretrained(parts / "text"))
    deeper = tiny_model(backbone_config=RESNET | {"depths": [2, 1, 1, 1]})
    with pytest.raises(ValueError, match=r"does not fit .*stages\.0"):
        load_backbone_weights(
            deeper.mdetr.image_encoder, AutoModel.from_pretrained(parts / "resnet")
        )
    load_backbone_weights(deeper.mdetr.image_encoder, other)


def test_model_folder_is_loaded_with_other_losses_and_size(parts: Path, tmp_path: Path) -> None:
    """With other losses and another image size."""
    init = InitConfig(text_weights=str(parts / "text"), config={**SMALL, "backbone_config": RESNET})
    first, processor = init_model(init, EvalTransform(), None)
    write_model(tmp_path / "model", first, processor)
    again = InitConfig(model=str(tmp_path / "model"), config={"ce_loss_coef": 3.0})
    model, processor = init_model(again, TRANSFORM, None)
    assert model.config.ce_loss_coef == 3.0
    assert processor.image_processor.size["shortest_edge"] == 40
    for (name, one), other in zip(first.named_parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other), name


@pytest.mark.parametrize("part", ["backbone_weights", "text_weights", "model"])
def test_half_downloaded_weights_are_named(parts: Path, tmp_path: Path, part: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(parts / "text")
    write_model(tmp_path / "model", tiny_model(), MdetrProcessor(MdetrImageProcessor(), tokenizer))
    for name in ("resnet", "text"):
        shutil.copytree(parts / name, tmp_path / name)
    folders = {"backbone_weights": "resnet", "text_weights": "text", "model": "model"}
    weights = tmp_path / folders[part] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    names = ["model"] if part == "model" else ["backbone_weights", "text_weights"]
    fields: dict[str, Any] = {name: str(tmp_path / folders[name]) for name in names}
    if part != "model":
        fields["config"] = dict(SMALL)
    with pytest.raises(
        ValueError, match=rf"{folders[part]} cannot .*: model\.safetensors is damaged"
    ):
        init_model(InitConfig(**fields), TRANSFORM, None)


def test_weights_that_are_missing_are_named_and_new_heads_have_random_ones(
    parts: Path, tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(parts / "text")
    text = TEXT | {"vocab_size": len(tokenizer)}
    processor = MdetrProcessor(MdetrImageProcessor(), tokenizer)
    write_model(tmp_path / "model", tiny_model(text_config=text), processor)
    init = InitConfig(model=str(tmp_path / "model"), config={"word_loss_coef": 1.0})
    model, _ = init_model(init, TRANSFORM, None)
    assert model.word_head is not None
    path = tmp_path / "model/model.safetensors"
    weights = load_file(path)
    del weights["object_heads.tokens.bias"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"model cannot .* lack object_heads\.tokens\.bias$"):
        init_model(init, TRANSFORM, None)


def test_folder_of_another_model_is_refused(parts: Path) -> None:
    with pytest.raises(ValueError, match=r"text cannot .*config\.json .* 'roberta', not 'mdetr'"):
        init_model(InitConfig(model=str(parts / "text")), TRANSFORM, None)


def test_trained_tokenizer_sizes_the_text_encoder() -> None:
    tokenizer = train_tokenizer(CAPTIONS, 280)
    init = InitConfig(
        vocab_size=280, config={**SMALL, "backbone_config": RESNET, "text_config": TEXT}
    )
    model, _ = init_model(init, TRANSFORM, tokenizer)
    assert model.mdetr.text_encoder.config.vocab_size == len(tokenizer)
    assert model.mdetr.text_encoder.config.pad_token_id == tokenizer.pad_token_id


def test_tokenizer_larger_than_the_text_encoder_is_refused(parts: Path, tmp_path: Path) -> None:
    train_tokenizer(CAPTIONS * 3 + ["hexagons and pentagons"], 290).save_pretrained(tmp_path)
    init = InitConfig(
        text_weights=str(parts / "text"),
        tokenizer=str(tmp_path),
        config={**SMALL, "backbone_config": RESNET},
    )
    with pytest.raises(ValueError, match=r"the text encoder .* only 270"):
        init_model(init, TRANSFORM, None)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"predict_final": True}, "predict_final cannot be trained on pairs"),
        ({"answer_heads": [("total", 3)]}, "answer heads without a vocabulary"),
    ],
)
def test_models_without_labels_are_refused(field: dict[str, object], message: str) -> None:
    init = InitConfig(vocab_size=280, config={**SMALL, "backbone_config": RESNET, **field})
    with pytest.raises(ValueError, match=message):
        init_model(init, TRANSFORM, train_tokenizer(CAPTIONS, 280))


def test_answer_heads_keep_their_vocabulary(tmp_path: Path) -> None:
    """Otherwise its trained outputs would be interpreted as other answers."""
    init = InitConfig(vocab_size=280, config={**SMALL, "backbone_config": RESNET})
    model, processor = init_model(init, TRANSFORM, train_tokenizer(CAPTIONS, 280), CLEVR)
    assert isinstance(model, MdetrForQuestionAnswering)
    write_model(tmp_path / "model", model, processor)
    again = InitConfig(model=str(tmp_path / "model"))
    for answers in (None, CLEVR):
        loaded, _ = init_model(again, TRANSFORM, None, answers)
        assert loaded.config.answers == CLEVR.names
        assert torch.equal(loaded.answer_queries.weight, model.answer_queries.weight)
    renamed = {**CLEVR.answers, "attr": CLEVR.answers["attr"][::-1]}
    for other in (AnswerVocabulary(renamed), AnswerVocabulary({"total": ("no", "yes")})):
        with pytest.raises(ValueError, match="has other answers"):
            init_model(again, TRANSFORM, None, other)


def test_exclusive_and_missing_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="has its own weights"):
        InitConfig(model="here", tokenizer="there")
    with pytest.raises(ValueError, match="init needs model"):
        InitConfig(backbone_weights="here")
    with pytest.raises(ValueError, match="MdetrConfig has no hidden_sise"):
        InitConfig(vocab_size=300, config={"hidden_sise": 3})
    with pytest.raises(ValueError, match=r"init\.answers and"):
        InitConfig(vocab_size=300, answers="gqa", config={"answers": {}})
    assert MdetrConfig(**SMALL).hidden_size == 32
