"""Training configurations: the shipped ones, and errors."""

from pathlib import Path

import msgspec
import pytest

from mdetr_model.data.transforms import EvalTransform, TrainTransform
from mdetr_model.training.config import DataConfig, OptimizerConfig, SplitConfig, load_config
from mdetr_model.training.init_model import init_model
from mdetr_model.training.tokenizer import train_tokenizer
from schemas.toml_config import parse_override, shipped_names

SHIPPED = shipped_names("mdetr_model.configs")
# No command was published for them, or the hub lacks the weights that they start from.
UNPUBLISHED = {
    "pretrain_enb3",
    "pretrain_enb5",
    "flickr30k",
    "finetune_flickr_merged",
    "finetune_gqa_balanced",
    "finetune_gqa_answers",
    "finetune_gqa_all_enb5",
    "finetune_gqa_balanced_enb5",
    "finetune_gqa_answers_enb5",
}
FOLDER = Path(__file__).parents[3] / "mdetr_model" / "configs"


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_config_loads_and_begins_with_its_command(name: str) -> None:
    assert load_config(name).data.train
    text = (FOLDER / f"{name}.toml").read_text()
    comment = text[: text.index("\n\n")]
    assert f" train {name} " in comment
    assert all(line.startswith("#") for line in comment.splitlines())


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_config_states_its_recipe(name: str) -> None:
    """It is the published one, or what is done otherwise, and why."""
    recipe = load_config(name).recipe
    is_published = not name.startswith("demo") and name not in UNPUBLISHED
    assert (recipe == "published") == is_published
    assert is_published or len(recipe.split()) > 15


def test_changed_recipe_is_not_called_published() -> None:
    overrides = [parse_override("optimizer.lr=5e-5"), parse_override("data.workers=2")]
    assert load_config("pretrain_r101", overrides).recipe == (
        "published, with optimizer.lr=5e-05, data.workers=2"
    )
    other = [parse_override("recipe=half of the epochs")]
    assert load_config("pretrain_r101", other).recipe == "half of the epochs"


@pytest.mark.parametrize(
    ("name", "rates", "global_batch_size", "epochs", "lr_drop", "ema_decay"),
    [
        ("pretrain_r101", (1e-4, 1e-5, 5e-5), 64, 40, 35, 0.9998),
        ("pretrain_enb3", (1e-4, 5e-5, 5e-5), 64, 40, 35, 0.9998),
        ("pretrain_enb5", (1e-4, 5e-5, 5e-5), 64, 40, 35, 0.9998),
        ("flickr30k", (1e-4, 1e-5, 5e-5), 64, 40, 35, 0.9998),
        ("finetune_referring", (5e-5, 1e-5, 1e-5), 8, 5, 3, 0.9998),
        ("finetune_refcocog", (5e-5, 1e-5, 1e-5), 8, 3, 2, 0.9998),
        ("finetune_flickr_merged", (5e-5, 1e-5, 1e-5), 64, 5, 3, 0.9998),
        ("finetune_gqa_all", (1.4e-4, 1.4e-5, 7e-5), 128, 5, 6, 0.9998),
        ("finetune_gqa_balanced", (1.4e-4, 1.4e-5, 7e-5), 128, 9, 10, 0.9998),
        ("finetune_gqa_answers", (1.4e-4, 1.4e-5, 7e-5), 128, 1, 10, 0.9998),
        ("finetune_gqa_all_enb5", (1.4e-4, 7e-5, 7e-5), 128, 5, 6, 0.9998),
        ("finetune_gqa_balanced_enb5", (1.4e-4, 7e-5, 7e-5), 128, 9, 10, 0.9998),
        ("finetune_gqa_answers_enb5", (1.4e-4, 7e-5, 7e-5), 128, 1, 10, 0.9998),
        ("finetune_lvis", (1e-4, 1e-5, 5e-5), 128, 150, 120, 0.9998),
        ("clevr_medium", (1e-4, 1e-5, 5e-5), 64, 30, 20, 0.0),
        ("clevr", (1e-4, 1e-5, 5e-5), 64, 30, 20, 0.0),
        ("clevr_humans", (1e-4, 1e-5, 5e-5), 64, 60, 40, 0.0),
    ],
)
def test_shipped_schedules_are_those_of_the_paper(
    name: str,
    rates: tuple[float, ...],
    global_batch_size: int,
    epochs: int,
    lr_drop: int,
    ema_decay: float,
) -> None:
    """``base`` lets one edit change several of them."""
    optimizer = load_config(name).optimizer
    assert (optimizer.lr, optimizer.lr_backbone, optimizer.lr_text_encoder) == rates
    assert (optimizer.global_batch_size, optimizer.epochs) == (global_batch_size, epochs)
    assert (optimizer.lr_drop, optimizer.ema_decay) == (lr_drop, ema_decay)
    assert (optimizer.schedule, optimizer.warmup_fraction) == ("published", 0.01)
    assert (optimizer.weight_decay, optimizer.max_grad_norm) == (1e-4, 0.1)
    assert not optimizer.ema_warmup


def test_shipped_models_and_image_sizes_are_those_of_the_paper() -> None:
    coefs = ("ce", "bbox", "giou", "contrastive_align")
    gqa = {"qa_loss_coef": 25.0, "auxiliary_loss": False}
    answers = {f"{name}_loss_coef": 0.0 for name in coefs[:3]} | {"contrastive_align_loss": False}
    changes: dict[str, dict[str, object]] = {
        "finetune_gqa_all": gqa,
        "finetune_gqa_balanced": gqa,
        "finetune_gqa_answers": gqa | answers,
        "finetune_gqa_all_enb5": gqa,
        "finetune_gqa_balanced_enb5": gqa,
        "finetune_gqa_answers_enb5": gqa | answers,
        "clevr_medium": {"num_queries": 25},
        "clevr_humans": {f"{name}_loss_coef": 0.0 for name in coefs},
    }
    for name in SHIPPED:
        if name.startswith("demo"):
            continue
        config = load_config(name)
        assert config.init.config == {"token_targets": "binary"} | changes.get(name, {}), name
        train, evaluation = config.data.train_transform, config.data.eval_transform
        if name.startswith("clevr"):
            assert train == TrainTransform(
                scales=(256, 288, 320, 352, 384),
                max_size=512,
                crop_scales=(320, 352, 384),
                crop_min_size=256,
            )
            assert evaluation == EvalTransform(320, 512)
        else:
            assert (train, evaluation) == (TrainTransform(), EvalTransform()), name
    assert (TrainTransform().crop_prob, TrainTransform().hflip_prob) == (0.5, 0)
    assert TrainTransform().crop_scales == (400, 500, 600)
    assert TrainTransform().scales == tuple(range(480, 801, 32))
    assert (TrainTransform().max_size, EvalTransform()) == (1333, EvalTransform(800, 1333))


@pytest.mark.parametrize(("name", "side"), [("demo", 96), ("demo_long", 160)])
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


def test_tokenizer_is_not_silently_replaced_by_a_trained_one() -> None:
    with pytest.raises(ValueError, match=r"init\.tokenizer and init\.vocab_size"):
        load_config("demo", [parse_override("init.tokenizer=roberta-base")])


def test_unknown_and_malformed_configs_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no configuration nothing: .* demo, demo_clevr"):
        load_config("nothing")
    (tmp_path / "bad.toml").write_text("seed = ")
    with pytest.raises(ValueError, match=r"bad\.toml is not TOML"):
        load_config(str(tmp_path / "bad.toml"))


def test_replay_needs_weights_and_a_set_that_is_not_replayed() -> None:
    config = load_config("demo_lvis_replay")
    assert [(e.shards, e.weight, e.replay) for e in config.data.train] == [
        ("shards", 1, False),
        ("pretraining", 1, True),
    ]
    replayed = SplitConfig("b", "train", weight=1.0, replay=True)
    for sets in ([replayed], [SplitConfig("a", "train"), SplitConfig("b", "train", replay=True)]):
        with pytest.raises(ValueError, match="replay needs a weight of each set"):
            DataConfig(train=sets)
    with pytest.raises(ValueError, match=r"replay is for sets of data\.train"):
        DataConfig(train=[SplitConfig("a", "train")], validation=[replayed])


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
