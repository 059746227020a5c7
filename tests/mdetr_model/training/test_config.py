"""Training configurations: the shipped ones, and errors."""

from pathlib import Path

import msgspec
import pytest

from mdetr_model.training.config import DataConfig, OptimizerConfig, SplitConfig, load_config
from mdetr_model.training.init_model import init_model
from mdetr_model.training.tokenizer import train_tokenizer
from schemas.toml_config import parse_override, shipped_names

SHIPPED = shipped_names("mdetr_model.configs")
FOLDER = Path(__file__).parents[3] / "mdetr_model" / "configs"


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_config_loads_and_begins_with_its_command(name: str) -> None:
    assert load_config(name).data.train
    text = (FOLDER / f"{name}.toml").read_text()
    comment = text[: text.index("\n\n")]
    assert f" train {name} " in comment
    assert all(line.startswith("#") for line in comment.splitlines())


@pytest.mark.parametrize(("name", "side"), [("demo", 128), ("demo_long", 160)])
def test_demo_model_can_be_built(name: str, side: int) -> None:
    config = load_config(name)
    assert config.init.vocab_size is not None
    tokenizer = train_tokenizer(["a red circle"], config.init.vocab_size)
    model, processor = init_model(config.init, config.data.eval_transform, tokenizer)
    assert 1e6 < sum(p.numel() for p in model.parameters() if p.requires_grad) < 3e6
    assert processor.image_processor.size == {"shortest_edge": side, "longest_edge": side}


def test_relative_paths_are_resolved_from_the_root() -> None:
    config = load_config("demo").resolve_paths(Path("/data"))
    assert [entry.shards for entry in config.data.train] == ["/data/shards"]
    remote = msgspec.structs.replace(config.data, train=[SplitConfig("s3://bucket/set", "train")])
    resolved = msgspec.structs.replace(config, data=remote).resolve_paths(Path("/data"))
    assert resolved.data.train[0].shards == "s3://bucket/set"
    assert load_config("demo_gqa").resolve_paths(Path("/data")).init.model == "/data/init_model"


def test_overrides_are_applied_and_checked() -> None:
    overrides = [parse_override("optimizer.lr=5e-5"), parse_override("seed=7")]
    config = load_config("demo", overrides)
    assert (config.optimizer.lr, config.seed) == (5e-5, 7)
    with pytest.raises(ValueError, match="unknown field `learning_rate`"):
        load_config("demo", [parse_override("optimizer.learning_rate=1")])


def test_unknown_and_malformed_configs_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no config nothing: .* demo, demo_clevr"):
        load_config("nothing")
    (tmp_path / "bad.toml").write_text("seed = ")
    with pytest.raises(ValueError, match=r"bad\.toml is not TOML"):
        load_config(str(tmp_path / "bad.toml"))


def test_weights_are_stated_for_all_sets_or_none() -> None:
    sets = [SplitConfig("a", "train", weight=1.0), SplitConfig("b", "train")]
    with pytest.raises(ValueError, match=r"all sets of data\.train have a weight, or none"):
        DataConfig(train=sets)
    DataConfig(train=[SplitConfig("a", "train"), SplitConfig("b", "train")])


@pytest.mark.parametrize(
    ("field", "value"),
    [("ema_decay", 1.5), ("max_grad_norm", 0), ("epochs", 0), ("precision", "int8")],
)
def test_values_out_of_range_are_refused(field: str, value: object) -> None:
    table = {"epochs": 1, "global_batch_size": 1, field: value}
    with pytest.raises(msgspec.ValidationError, match=field):
        msgspec.convert(table, OptimizerConfig)
