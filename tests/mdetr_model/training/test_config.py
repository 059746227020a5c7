"""Configurations: those that are shipped, and what is refused."""

from pathlib import Path

import msgspec
import pytest

from mdetr_model.training.config import Data, Optimization, Shards, load, shipped
from mdetr_model.training.init_model import init_model
from mdetr_model.training.tokenizer import train_tokenizer

PAPER = {"epochs": 40, "batch": 64, "lr": 1e-4, "lr_text_encoder": 5e-5, "clip": 0.1}


def test_shipped_configurations_begin_with_their_command() -> None:
    assert shipped() == [
        *("clevr", "clevr_humans", "clevr_medium"),
        *("demo", "demo_clevr", "demo_gqa", "demo_long", "demo_lvis", "demo_referring"),
        *("finetune_gqa_all", "finetune_gqa_balanced", "finetune_lvis", "finetune_referring"),
        *("pretrain_enb3", "pretrain_enb5", "pretrain_r101"),
    ]
    folder = Path(__file__).parents[2] / "mdetr_model" / "configs"
    for name in shipped():
        text = (folder / f"{name}.toml").read_text()
        comment = text[: text.index("\n\n")]
        assert f"-m mdetr_model train {name}" in comment
        assert all(line.startswith("#") for line in comment.splitlines())


@pytest.mark.parametrize("name", ["pretrain_r101", "pretrain_enb3", "pretrain_enb5"])
def test_pretraining_is_the_papers(name: str) -> None:
    options = load(name).optimization
    assert {field: getattr(options, field) for field in PAPER} == PAPER
    assert options.lr_backbone == (1e-5 if name == "pretrain_r101" else 5e-5)
    assert (options.schedule, options.lr_drop, options.average) == ("published", 35, 0.9998)


def test_fine_tuning_is_as_published() -> None:
    referring = load("finetune_referring").optimization
    assert (referring.epochs, referring.micro_batch) == (5, 4)
    assert (referring.lr, referring.lr_text_encoder) == (5e-5, 1e-5)
    lvis = load("finetune_lvis").optimization
    assert (lvis.epochs, lvis.lr_drop, lvis.batch, lvis.micro_batch) == (150, 120, 128, 2)
    for name, epochs in (("finetune_gqa_all", 5), ("finetune_gqa_balanced", 10)):
        config = load(name)
        assert (config.optimization.epochs, config.optimization.batch) == (epochs, 128)
        assert config.start.config == {"answer_weight": 25.0, "auxiliary_outputs": False}
        assert config.optimization.lr == 1.4e-4
        assert config.optimization.lr_drop > epochs
    for name in ("clevr_medium", "clevr"):
        config = load(name)
        options = config.optimization
        assert (options.epochs, options.batch, options.lr_drop) == (30, 64, 20)
        assert config.data.augmentation.longest == 512


@pytest.mark.parametrize(("name", "side"), [("demo", 128), ("demo_long", 160)])
def test_models_of_the_demo_can_be_built(name: str, side: int) -> None:
    config = load(name)
    assert config.start.vocabulary is not None
    tokenizer = train_tokenizer(["a red circle"], config.start.vocabulary)
    model, processor = init_model(config.start, config.data.view, tokenizer)
    assert 1e6 < sum(p.numel() for p in model.parameters() if p.requires_grad) < 3e6
    assert processor.image_processor.size == {"shortest_edge": side, "longest_edge": side}


def test_relative_shards_begin_at_the_root() -> None:
    config = load("demo").below(Path("/data"))
    assert [of.shards for of in config.data.train] == ["/data/shards"]
    remote = msgspec.structs.replace(config.data, train=[Shards("s3://bucket/set", "train")])
    placed = msgspec.structs.replace(config, data=remote).below(Path("/data"))
    assert placed.data.train[0].shards == "s3://bucket/set"
    assert load("demo_gqa").below(Path("/data")).start.folder == "/data/start"


def test_what_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no configuration nothing: .* demo, demo_clevr"):
        load("nothing")
    (tmp_path / "bad.toml").write_text("seed = ")
    with pytest.raises(ValueError, match=r"bad\.toml: "):
        load(str(tmp_path / "bad.toml"))


def test_weights_are_all_or_none() -> None:
    sets = [Shards("a", "train", weight=1.0), Shards("b", "train")]
    with pytest.raises(ValueError, match="all sets of train have a weight, or none"):
        Data(train=sets)
    Data(train=[Shards("a", "train"), Shards("b", "train")])


def test_values_out_of_range() -> None:
    for field, value in {"average": 1.5, "clip": 0, "epochs": 0, "precision": "int8"}.items():
        with pytest.raises(msgspec.ValidationError, match=field):
            msgspec.convert({"epochs": 1, "batch": 1, field: value}, Optimization)
