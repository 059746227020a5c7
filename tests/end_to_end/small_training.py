"""A training run that takes seconds: a few images, a model of some thousand weights."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from msgspec.structs import replace
from safetensors.torch import load_file

from mdetr_model.training import checkpoints
from schemas import Caption, Provenance, Question, Region, Sample
from tests.shard_sets import write_samples
from tests.tiny import drawing, encoded

REPOSITORY = Path(__file__).parents[2]
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
frozen_batch_norm = {frozen}
frozen_first_layers = false
mask_padding = {invariant}
contrastive_align_loss = {aligned}

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
captions_per_image = {together}
aspect_window = {window}
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
compile = {compiled}

[logging]
log_steps = 1
checkpoint_steps = 4
"""


def write_config(folder: Path, name: str = "config", **changes: Any) -> Path:
    """A configuration; the shards are below the folder."""
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
        "frozen": "false",
        "precision": "float32",
        "compiled": "false",
        "together": 1,
        "window": 0,
        "invariant": "false",
        "aligned": "true",
    }
    path = folder / f"{name}.toml"
    path.write_text(CONFIG.format(**{**values, **changes}))
    return path


def write_shards(folder: Path, images: int = 36, validation: int = 1) -> None:
    """Shard sets "train", of unequal shards, and "val", of as many pairs as asked for."""
    train = [_sample(i) for i in range(images)]
    write_samples(folder / "train", [train[:5], train[5:6], train[6:]], "train")
    write_samples(folder / "val", [[_sample(images + i) for i in range(validation)]], "val")


def write_questions(folder: Path, images: int = 24) -> None:
    """Shard sets "asked" and "asked-val" of questions: of each image what color its object has.

    The last one's answer is not among those of the others.
    """
    samples = [_question(i, COLORS[i % len(COLORS)]) for i in range(images)]
    write_samples(folder / "asked", [samples[:5], samples[5:]], "train")
    validation = [_question(images + i, COLORS[i % len(COLORS)]) for i in range(7)]
    write_samples(folder / "asked-val", [[*validation, _question(99, "mauve")]], "val")


def write_classes(folder: Path, count: int = 5) -> Path:
    """A shard set "classes" of COCO's images, and LVIS's file about them and one image more.

    Returns:
        The file.
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


def command(config: Path, output: Path, *more: str) -> list[str]:
    arguments = ["-m", "mdetr_model", "train", str(config), "--root", str(config.parent)]
    return [sys.executable, *arguments, "--output", str(output), *more]


def torchrun(ranks: int, config: Path, output: Path, *more: str) -> list[str]:
    alone = command(config, output, *more)
    options = ["--standalone", f"--nproc-per-node={ranks}", "-m"]
    return [alone[0], "-m", "torch.distributed.run", *options, *alone[2:]]


def environment() -> dict[str, str]:
    """One thread, so that sums are always added up in the same order."""

    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}


def run(arguments: list[str], timeout: float = 180) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    return subprocess.run(
        arguments,
        env=environment(),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def start(arguments: list[str]) -> subprocess.Popen[str]:
    """Starts a command in a process group of its own."""
    return subprocess.Popen(
        arguments,
        env=environment(),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def log(output: Path, kind: str) -> list[dict[str, Any]]:
    """The lines of a kind in a run's log."""
    lines = map(json.loads, (output / "log.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == kind]


def losses(output: Path) -> list[tuple[int, float]]:
    """Step and loss of every step."""
    return [(line["step"], line["loss"]) for line in log(output, "train")]


def final_state(output: Path) -> dict[str, torch.Tensor]:
    """Weights, averaged weights and the optimizer's moments of the last checkpoint, and the model
    that was written.
    """
    state = checkpoints.read(checkpoints.list_checkpoints(output / "checkpoints")[-1])
    averaged = {f"ema {name}": value for name, value in state["ema"]["values"].items()}
    moments = {
        f"{kind} {number}": value
        for number, of in state["optimizer"]["state"].items()
        for kind, value in of.items()
    }
    written = load_file(output / "model" / "model.safetensors")
    return {**state["model"], **averaged, **moments, **written}
