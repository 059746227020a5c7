"""The configuration of a training run: a TOML file, checked strictly when it is read."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec.structs import replace

from mdetr_model.data.transforms import EvalTransform, TrainTransform
from mdetr_model.modeling.configuration_mdetr import MdetrConfig
from mdetr_model.precision import Precision
from schemas.decodable import decodable
from schemas.toml_config import Override, read_config

PUBLISHED = "published"  # the recipe of the published training, see docs/reproduce.md

Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
PositiveInt = Annotated[int, msgspec.Meta(ge=1)]
NonNegativeInt = Annotated[int, msgspec.Meta(ge=0)]
PositiveFloat = Annotated[float, msgspec.Meta(gt=0)]
NonNegativeFloat = Annotated[float, msgspec.Meta(ge=0)]


HUB = "hf://"


class InitConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The initial model: an existing model folder, or a new model assembled from parts.

    Attributes:
        model: a model folder (a converted published checkpoint or a trained model), whose path is
            relative like those of shards; or ``hf://OWNER/NAME``, a model of the Hugging Face Hub.
        backbone_weights: folder or hub name of a ResNet or EfficientNet; default: random weights.
        text_weights: folder or hub name of a text encoder with its tokenizer; default: random
            weights.
        tokenizer: folder or hub name of a fast tokenizer; default: that of ``text_weights``.
        vocab_size: train a tokenizer of at most this many tokens on the captions instead.
        answers: the answer vocabulary for question answering: "gqa" collects all answers of the
            training questions, "clevr" takes CLEVR's, anything else is the path of a published
            JSON file. Default: that of ``model``, if it has one.
        config: fields of ``MdetrConfig``; ``backbone_config`` and ``text_config`` are names that
            ``MdetrConfig`` accepts or tables with a ``model_type``.
    """

    model: str | None = None
    backbone_weights: str | None = None
    text_weights: str | None = None
    tokenizer: str | None = None
    vocab_size: PositiveInt | None = None
    answers: str | None = None
    config: dict[str, Any] = {}

    def __post_init__(self) -> None:
        parts = (self.backbone_weights, self.text_weights, self.tokenizer, self.vocab_size)
        if self.model is not None and any(parts):
            raise ValueError("init.model has its own weights and tokenizer: do not set others")
        if self.model is None and not (self.tokenizer or self.text_weights or self.vocab_size):
            raise ValueError("init needs model, or one of text_weights, tokenizer and vocab_size")
        if self.tokenizer is not None and self.vocab_size is not None:
            raise ValueError("init.tokenizer and init.vocab_size are mutually exclusive")
        if self.answers is not None and self.config.keys() & {"answers", "answer_heads"}:
            raise ValueError("init.answers and the answers of init.config are mutually exclusive")
        unknown = sorted(self.config.keys() - MdetrConfig.__dataclass_fields__.keys())
        if unknown:
            raise ValueError(f"init.config: MdetrConfig has no {', '.join(unknown)}")


class SplitConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One split of a shard set.

    Attributes:
        shards: folder or URL.
        weight: its share of the training pairs, relative to the other sets of the list; by default,
            sets are weighted by their numbers of pairs.
        replay: whether the set only fills its share: an epoch is as long as the sets that are not
            replayed need for as many pairs as they have. For fine-tuning that does not forget.
    """

    shards: str
    split: str
    weight: PositiveFloat | None = None
    replay: bool = False


class DataConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Training and validation data.

    Attributes:
        train, validation: splits of shard sets.
        train_transform: random resize, crop and flip of training images.
        eval_transform: the resize of validation images, and of the processor that is saved with
            the model.
        block_shards: pairs are shuffled within blocks of this many shards.
        captions_per_image: this many captions of an image are consecutive. For captions with the
            same batch and geometry, the image is encoded once: less computation, and less
            randomness if nothing is cropped.
        aspect_window: images are bucketed by aspect ratio within this many global batches; 0: none.
        workers: data loader processes of each rank.
        cache, cache_gigabytes: folder and size limit of the cache of remote shards.
    """

    train: Annotated[list[SplitConfig], msgspec.Meta(min_length=1)]
    validation: list[SplitConfig] = []
    train_transform: TrainTransform = TrainTransform()
    eval_transform: EvalTransform = EvalTransform()
    block_shards: PositiveInt = 16
    captions_per_image: PositiveInt = 1
    aspect_window: NonNegativeInt = 0
    workers: NonNegativeInt = 4
    cache: str | None = None
    cache_gigabytes: PositiveFloat = 100.0

    def __post_init__(self) -> None:
        weighted = [entry.weight is not None for entry in self.train]
        if any(weighted) and not all(weighted):
            raise ValueError("either all sets of data.train have a weight, or none has")
        replayed = [entry.replay for entry in self.train]
        if any(replayed) and (all(replayed) or not all(weighted)):
            raise ValueError(
                "replay needs a weight of each set of data.train, and one that is not replayed"
            )
        if any(entry.replay for entry in self.validation):
            raise ValueError("replay is for sets of data.train")


class OptimizerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Optimizer and schedule; the defaults are those of the paper (appendix A).

    Attributes:
        epochs: over the pairs of the training data.
        global_batch_size: pairs per step, over all ranks.
        micro_batch_size: pairs per forward pass of a rank, whose gradients are accumulated;
            default: the rank's whole share of the global batch.
        lr, lr_backbone, lr_text_encoder: peak learning rates of the joint transformer with its
            heads, of the image encoder, and of the text encoder.
        schedule: "published": the text encoder's rate warms up and then decays linearly to zero;
            the others drop to a tenth every ``lr_drop`` epochs. "cosine": all warm up and decay
            to zero along half a cosine.
        warmup_fraction: the fraction of all steps in which learning rates warm up.
        max_grad_norm: gradients are clipped to this total norm.
        ema_decay: decay of the exponential moving average of the weights, which is validated and
            saved; 0: none.
        ema_warmup: whether the average forgets the initial weights sooner, see ``EMA``; for
            training from random weights. Published training has none.
        precision: of matrix products and convolutions in training, on a GPU. Weights and losses are
            float32, and so is the forward pass of the head of boxes, whatever the precision; under
            "tf32", two products of the losses and the matching have it: of queries and tokens, and
            of the tokens of boxes and predictions. It holds for validation, too, which is float32
            otherwise.
        compile: compile the text encoder and the joint transformer.
    """

    epochs: PositiveInt
    global_batch_size: PositiveInt
    micro_batch_size: PositiveInt | None = None
    lr: PositiveFloat = 1e-4
    lr_backbone: PositiveFloat = 1e-5
    lr_text_encoder: PositiveFloat = 5e-5
    weight_decay: NonNegativeFloat = 1e-4
    schedule: Literal["published", "cosine"] = "published"
    warmup_fraction: Fraction = 0.01
    lr_drop: PositiveInt = 35
    max_grad_norm: PositiveFloat = 0.1
    ema_decay: Fraction = 0.9998
    ema_warmup: bool = False
    precision: Precision = "float32"
    compile: bool = False


class LoggingConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Logs, checkpoints and validation: how often, and how much.

    Attributes:
        log_steps: steps between two lines of the log; the last step has one, too.
        checkpoint_steps: steps between two checkpoints; every epoch ends with one, too.
        max_checkpoints: this many of the latest checkpoints are kept.
        validation_epochs: epochs between two validations.
        max_validation_pairs: limit for each validation split; default: none.
        best_model: whether the model with the best mean over the validation splits, of recall@1 or
            of accuracy, is kept in ``best_model/``, beside the last one in ``model/``.
        trackers: experiment trackers that get every line of the log, besides TensorBoard; their
            packages are installed separately, and read their environment variables.
        tracker_project: the name under which trackers list the run.
    """

    log_steps: PositiveInt = 50
    checkpoint_steps: PositiveInt = 1000
    max_checkpoints: PositiveInt = 2
    validation_epochs: PositiveInt = 1
    max_validation_pairs: PositiveInt | None = None
    best_model: bool = False
    trackers: list[Literal["wandb", "trackio"]] = []
    tracker_project: str = "mdetr"


class TrainingConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A training run.

    Attributes:
        recipe: ``PUBLISHED``, or what the run does otherwise, and why; for people.
    """

    recipe: str = "not stated"
    seed: NonNegativeInt = 0
    init: InitConfig
    data: DataConfig
    optimizer: OptimizerConfig
    logging: LoggingConfig = LoggingConfig()

    def resolve_paths(self, root: Path) -> "TrainingConfig":
        """Returns the configuration with relative paths of shards and model resolved."""

        def resolve(sets: list[SplitConfig]) -> list[SplitConfig]:
            return [
                entry if "://" in entry.shards else replace(entry, shards=str(root / entry.shards))
                for entry in sets
            ]

        data = replace(
            self.data, train=resolve(self.data.train), validation=resolve(self.data.validation)
        )
        init = self.init
        if init.model is not None:
            is_on_hub = init.model.startswith(HUB)
            path = init.model.removeprefix(HUB) if is_on_hub else str(root / init.model)
            init = replace(init, model=path)
        if init.answers not in (None, "gqa", "clevr"):
            init = replace(init, answers=str(root / str(init.answers)))
        return replace(self, data=data, init=init)


def load_config(name_or_path: str, overrides: Iterable[Override] = ()) -> TrainingConfig:
    """Reads a shipped configuration by name, or a TOML file by path, and applies ``--set`` to it.

    Raises:
        ValueError: there is no such configuration, it is not TOML, or a value in it is wrong.
    """
    overrides = tuple(overrides)
    table = read_config(name_or_path, "mdetr_model.configs", overrides, kind="configuration")
    changes = [f"{override.dotted}={override.value}" for override in overrides]
    if table.get("recipe") == PUBLISHED and changes:
        table["recipe"] = f"{PUBLISHED}, with {', '.join(changes)}"
    try:
        return msgspec.convert(table, decodable(TrainingConfig))
    except msgspec.ValidationError as error:
        raise ValueError(f"{name_or_path}: {error}") from error
