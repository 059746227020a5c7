"""A training run that takes seconds: a few images, a model of a few thousand weights.

If only the result of a run matters, it runs in this process, because commands spend most of their
time importing libraries. It uses one thread, so that sums have the same order and the run is
bit-identical to one of ``command`` with ``ENVIRONMENT``.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from msgspec.structs import replace
from safetensors.torch import load_file

from mdetr_model.__main__ import main
from mdetr_model.training import checkpoints
from mdetr_model.training.training_log import read_log
from schemas import AbsentSpan, Caption, Provenance, Question, Region, Sample
from tests.shard_sets import write_samples
from tests.shards.inspection.shard_sets import write_full_set
from tests.tiny import drawing, encoded

ENVIRONMENT = {"OMP_NUM_THREADS": "1"}
COLORS = ("red", "green", "blue", "black")

CONFIG = """
seed = 3

[init]
{init}

[init.config]
hidden_size = 16
num_attention_heads = 2
encoder_layers = 1
decoder_layers = 2
encoder_ffn_dim = 16
decoder_ffn_dim = 16
num_queries = 4
dropout = {dropout}
resizer_dropout = {dropout}
frozen_batch_norm = {frozen_batch_norm}
frozen_first_layers = false
mask_padding = {mask_padding}
contrastive_align_loss = {contrastive_align_loss}

[init.config.backbone_config]
model_type = "resnet"
layer_type = "basic"
embedding_size = 8
hidden_sizes = [8, 8]
depths = [1, 1]

[init.config.text_config]
model_type = "roberta"
hidden_size = 16
num_hidden_layers = 1
num_attention_heads = 2
intermediate_size = 16
hidden_dropout_prob = {dropout}
attention_probs_dropout_prob = {dropout}

[data]
train = [{train}]
validation = [{{ shards = "{val}", split = "val" }}]
{cache}
workers = {workers}
block_shards = 2
captions_per_image = {captions_per_image}
aspect_window = {aspect_window}
train_transform = {{ scales = [32, 40], max_size = 64, crop_scales = [48], crop_min_size = 24 }}
eval_transform = {{ size = 32, max_size = 64 }}

[optimizer]
epochs = {epochs}
global_batch_size = 8
{micro_batch_size}
lr = {lr}
lr_backbone = {lr}
lr_text_encoder = {lr}
schedule = "cosine"
ema_decay = 0.9
max_grad_norm = {max_grad_norm}
precision = "{precision}"
compile = {compile}

[logging]
log_steps = 1
checkpoint_steps = 4
"""


def write_config(folder: Path, name: str = "config", **changes: Any) -> Path:
    """Writes a configuration whose shards are in the folder; changes are values of ``CONFIG``."""
    values = {
        "init": "vocab_size = 300",
        "dropout": 0.1,
        "workers": 0,
        "epochs": 4,
        "lr": 1e-3,
        "max_grad_norm": 1.0,
        "micro_batch_size": "",
        "train": '{ shards = "train", split = "train" }',
        "val": "val",
        "cache": "",
        "frozen_batch_norm": "false",
        "precision": "float32",
        "compile": "false",
        "captions_per_image": 1,
        "aspect_window": 0,
        "mask_padding": "false",
        "contrastive_align_loss": "true",
    }
    assert changes.keys() <= values.keys()
    path = folder / f"{name}.toml"
    path.write_text(CONFIG.format(**{**values, **changes}))
    return path


def write_shards(folder: Path, images: int = 36, validation: int = 1) -> None:
    """Writes shard sets "train", of three unequal shards, "val", and "train2", to mix with it."""
    train = [_sample(i) for i in range(images)]
    write_samples(folder / "train", [train[:5], train[5:6], train[6:]], "train")
    others = [_sample(images + i) for i in range(validation)]
    write_samples(folder / "val", [others], "val")
    write_samples(folder / "train2", [others], "train2")


def write_full_shards(folder: Path, images: int = 16) -> None:
    """Writes the shard set "full" of one split, "train", which has all tables."""
    write_full_set(folder / "full", {"train": [[_sample(i) for i in range(images)]]})


def write_questions(folder: Path, images: int = 24) -> None:
    """Writes shard sets "questions" and "questions-val": what color the object of an image has.

    "questions-train2" has the questions of "questions-val". The answer to the last one is not among
    the others.
    """
    samples = [_question(i, COLORS[i % len(COLORS)]) for i in range(images)]
    write_samples(folder / "questions", [samples[:5], samples[5:]], "train")
    validation = [_question(images + i, COLORS[i % len(COLORS)]) for i in range(7)]
    others = [*validation, _question(99, "mauve")]
    write_samples(folder / "questions-val", [others], "val")
    write_samples(folder / "questions-train2", [others], "train2")


def write_absent(folder: Path, images: int = 4) -> None:
    """Writes a shard set "absent": a sentence of each image, and a phrase that names nothing."""
    samples = []
    for number in range(images):
        sample, image = _sample(number)
        absent = AbsentSpan((0, 8), "gqa", str(number), "answered no", "proven")
        captions = [*sample.captions, Caption("red kite", [], [(0, 8)], [], absent=[absent])]
        samples.append((replace(sample, captions=captions), image))
    write_samples(folder / "absent", [samples], "val")


def write_classes(folder: Path, count: int = 5) -> Path:
    """Writes a shard set "classes" of COCO's images; returns LVIS's annotation file of them.

    The file has one image more.
    """
    samples, images, annotations = [], [], []
    for number in range(1, count + 1):
        sample, image = _sample(number)
        samples.append((replace(sample, key=f"coco/{number}"), image))
        images.append(
            {"id": number, "width": sample.width, "height": sample.height, "neg_category_ids": [2]}
        )
        annotations.append({"image_id": number, "category_id": 1, "bbox": [4, 6, 36, 44]})
    images.append({"id": 99, "width": 64, "height": 64})
    write_samples(folder / "classes", [samples[:2], samples[2:]], "val")
    categories = [
        {"id": 1, "name": "object", "frequency": "f"},
        {"id": 2, "name": "green_object_(number)", "frequency": "r"},
        {"id": 3, "name": "number", "frequency": "c"},
    ]
    path = folder / "lvis.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return path


def _question(number: int, answer: str) -> tuple[Sample, bytes]:
    sample, image = _sample(number)
    text = f"What color is object number {number}?"
    region = Region([(14, 19)], (4.0, 6.0, 40.0, 50.0))
    question = Question(f"q{number}", answer, "attr", "query")
    caption = Caption(text, [region], [], [Provenance("gqa", f"{number}", (0, len(text)))])
    return replace(sample, captions=[replace(caption, question=question)]), image


def _sample(number: int) -> tuple[Sample, bytes]:
    width, height = (96, 64) if number % 3 else (64, 80)
    color = COLORS[number % len(COLORS)]
    text = f"the {color} object, number {number}"
    region = Region([(0, 4 + len(color))], (4.0 + number % 9, 6.0, 40.0, 50.0))
    caption = Caption(text, [region], [], [Provenance("vg", str(number), (0, len(text)))])
    image = encoded(drawing(width, height, hue=number))
    key = f"vg/{number}"
    return Sample(key, width, height, f"{number}.jpg", [caption]), image


def arguments(config: Path, output: Path, *options: str) -> list[str]:
    """Returns the arguments of ``mdetr`` for a training run."""
    return ["train", str(config), "--root", str(config.parent), "--output", str(output), *options]


def command(mdetr_arguments: Sequence[str]) -> list[str]:
    """Returns the command line of ``mdetr`` with these arguments."""
    return [sys.executable, "-m", "mdetr_model", *mdetr_arguments]


def torchrun(ranks: int, mdetr_arguments: Sequence[str]) -> list[str]:
    """Returns the command line of ``mdetr`` on several ranks."""
    options = ["--standalone", f"--nproc-per-node={ranks}", "-m", "mdetr_model"]
    return [sys.executable, "-m", "torch.distributed.run", *options, *mdetr_arguments]


def run(mdetr_arguments: Sequence[str]) -> int:
    """Runs ``mdetr`` in this process, on one thread; returns the exit status."""
    with _one_thread():
        return main(mdetr_arguments)


def train(config: Path, output: Path, *options: str) -> None:
    """Trains in this process, to the end."""
    assert run(arguments(config, output, *options)) == 0
    assert (output / "model").exists()


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def log(output: Path, kind: str) -> list[dict[str, Any]]:
    """Returns the lines of a kind in a run's log."""
    return [line for line in read_log(output) if line["kind"] == kind]


def losses(output: Path) -> list[tuple[int, float]]:
    """Returns step and loss of every step."""
    return [(line["step"], line["loss"]) for line in log(output, "train")]


def final_state(output: Path) -> dict[str, torch.Tensor]:
    """Returns the tensors of the last checkpoint, and those of the model that was written.

    They are the weights, their moving averages and the optimizer's moments.
    """
    state = checkpoints.read(checkpoints.list_checkpoints(output / "checkpoints")[-1])
    averages = {f"ema {name}": value for name, value in state["ema"]["values"].items()}
    moments = {
        f"{name} {number}": value
        for number, values in state["optimizer"]["state"].items()
        for name, value in values.items()
    }
    written = load_file(output / "model" / "model.safetensors")
    return {**state["model"], **averages, **moments, **written}


def assert_equal_runs(one: Path, other: Path) -> None:
    """Checks that two runs have the same logs and weights, bit for bit."""
    assert losses(one) == losses(other)
    assert log(one, "validation") == log(other, "validation")
    assert_equal_states(one, other)


def assert_equal_states(one: Path, other: Path) -> None:
    """Checks that two runs have the same final checkpoint and model, bit for bit."""
    first, second = final_state(one), final_state(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
