"""What a training run is: a TOML file, read strictly."""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec.structs import replace

from mdetr_model.data.transforms import Augmentation
from mdetr_model.modeling.configuration_mdetr import MdetrConfig

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Positive = Annotated[float, msgspec.Meta(gt=0)]


class Start(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The model that training begins with: one that is there, or one of parts.

    Attributes:
        folder: a model folder: a converted published checkpoint, or one of ours; beginning at the
            same folder as shards.
        image_weights: folder or hub name of a ResNet or EfficientNet; default: random weights.
        text_weights: folder or hub name of a text encoder with its tokenizer; default: random.
        tokenizer: folder or hub name of a fast tokenizer; default: that of ``text_weights``.
        vocabulary: train a tokenizer of at most so many tokens on the captions instead.
        answers: have the model answer questions: "gqa" with all right answers of the questions of
            the training data, "clevr" with CLEVR's, or those of a published JSON file, placed as
            ``folder``. Default: those that the model of ``folder`` gives, if any.
        config: fields of ``MdetrConfig``; ``image_config`` and ``text_config`` are names that it
            knows or tables of a configuration, ``model_type`` included.
    """

    folder: str | None = None
    image_weights: str | None = None
    text_weights: str | None = None
    tokenizer: str | None = None
    vocabulary: Count | None = None
    answers: str | None = None
    config: dict[str, Any] = {}

    def __post_init__(self) -> None:
        parts = (self.image_weights, self.text_weights, self.tokenizer, self.vocabulary)
        if self.folder is not None and any(parts):
            raise ValueError("start has a folder: weights and tokenizer are those of that model")
        if self.folder is None and not (self.tokenizer or self.text_weights or self.vocabulary):
            raise ValueError("start needs a folder, or text_weights, a tokenizer or a vocabulary")
        if self.answers is not None and self.config.keys() & {"answers", "answer_heads"}:
            raise ValueError("start has answers: start.config cannot have them, too")
        unknown = sorted(self.config.keys() - MdetrConfig.__dataclass_fields__.keys())
        if unknown:
            raise ValueError(f"start.config: MdetrConfig has no {', '.join(unknown)}")


class Shards(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A split of a shard set.

    Attributes:
        shards: folder or URL.
        weight: its share of the pairs that are seen, relative to the other sets of the list; as
            many pairs as it has where no set states one.
    """

    shards: str
    split: str
    weight: Positive | None = None


class View(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The size at which whole images are seen: sides in pixels, as of ``Augmentation``."""

    shortest: Count = 800
    longest: Count = 1333


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is trained and validated on.

    Attributes:
        train, validation: splits of shard sets.
        augmentation: how images are seen in training.
        view: how they are seen in validation, and by the processor of the model that is written.
        block_shards: of so many shards at a time the pairs are shuffled.
        captions_per_image: so many captions of an image follow one another. Those of a batch that
            see it alike have it encoded once: less work, and less chance, where nothing is cropped.
        aspect_window: batches of like shapes out of so many global batches; 0: as they come.
        workers: processes of each rank that read and decode.
        cache, cache_gigabytes: where shards from elsewhere are kept, and how much of them.
    """

    train: Annotated[list[Shards], msgspec.Meta(min_length=1)]
    validation: list[Shards] = []
    augmentation: Augmentation = Augmentation()
    view: View = View()
    block_shards: Count = 16
    captions_per_image: Count = 1
    aspect_window: Annotated[int, msgspec.Meta(ge=0)] = 0
    workers: Annotated[int, msgspec.Meta(ge=0)] = 4
    cache: str | None = None
    cache_gigabytes: Positive = 100.0

    def __post_init__(self) -> None:
        stated = [of.weight is not None for of in self.train]
        if any(stated) and not all(stated):
            raise ValueError("either all sets of train have a weight, or none has")


class Optimization(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How weights are changed; the defaults are the paper's (appendix A).

    Attributes:
        epochs: over the pairs of the training data.
        batch: pairs of a step, over all ranks.
        micro_batch: pairs that a rank has in memory at once; default: all that it has of a step.
        lr, lr_backbone, lr_text_encoder: of the joint transformer with its
            heads, of the image encoder, of the text encoder.
        schedule: "published": the text encoder's rate rises over the first steps and then falls
            to nothing; the others fall to a tenth at ``lr_drop``. "cosine": all rise, and fall
            to nothing along half a cosine.
        warmup: the share of all steps in which rates rise.
        clip: the largest norm of all gradients.
        average: decay of the moving average of the weights, which is what is validated and
            written; 0: none.
        precision: of the forward pass in training; weights and losses are float32, and so is
            validation.
        compile: whether the transformers are compiled, that of the text included.
    """

    epochs: Count
    batch: Count
    micro_batch: Count | None = None
    lr: Positive = 1e-4
    lr_backbone: Positive = 1e-5
    lr_text_encoder: Positive = 5e-5
    weight_decay: Annotated[float, msgspec.Meta(ge=0)] = 1e-4
    schedule: Literal["published", "cosine"] = "published"
    warmup_fraction: Share = 0.01
    lr_drop: Count = 35
    clip: Positive = 0.1
    average: Share = 0.9998
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    compile: bool = False


class Records(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is written, and how often.

    Attributes:
        log_steps: steps between two lines of the log.
        checkpoint_steps: steps between two checkpoints; there is one at the end, too.
        checkpoints: how many of the latest are kept.
        validation_epochs: epochs between two validations.
        validation_pairs: at most so many pairs of each validation split; default: all.
    """

    log_steps: Count = 50
    checkpoint_steps: Count = 1000
    checkpoints: Count = 2
    validation_epochs: Count = 1
    validation_pairs: Count | None = None


class TrainingConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A training run."""

    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    start: Start
    data: Data
    optimization: Optimization
    records: Records = Records()

    def below(self, root: Path) -> "TrainingConfig":
        """The same with relative paths, of shards and of the model, beginning at a folder."""

        def placed(sets: list[Shards]) -> list[Shards]:
            return [
                of if "://" in of.shards else replace(of, shards=str(root / of.shards))
                for of in sets
            ]

        data = replace(
            self.data, train=placed(self.data.train), validation=placed(self.data.validation)
        )
        start = self.start
        if start.folder is not None:
            start = replace(start, folder=str(root / start.folder))
        if start.answers not in (None, "gqa", "clevr"):
            start = replace(start, answers=str(root / str(start.answers)))
        return replace(self, data=data, start=start)


def shipped() -> list[str]:
    """The names of the configurations that come with the package."""
    files = resources.files("mdetr_model.configs").iterdir()
    return sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml"))


def load(name_or_path: str) -> TrainingConfig:
    """A shipped configuration by name, or a TOML file by path.

    Raises:
        ValueError: there is none of that name, it is not TOML, or something in it is wrong.
        OSError: the file cannot be read.
    """
    if name_or_path in shipped():
        text = (resources.files("mdetr_model.configs") / f"{name_or_path}.toml").read_text()
    elif Path(name_or_path).is_file():
        text = Path(name_or_path).read_text(encoding="utf-8")
    else:
        raise ValueError(
            f"no configuration {name_or_path}: neither a file nor one of {', '.join(shipped())}"
        )
    try:
        return msgspec.convert(tomllib.loads(text), TrainingConfig)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ValueError(f"{name_or_path}: {error}") from error
