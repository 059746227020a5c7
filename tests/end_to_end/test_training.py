"""Training: killed and resumed, on several ranks, from remote shards, and with bad input."""

import contextlib
import json
import os
import random
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoTokenizer

from mdetr_model.__main__ import _parser
from mdetr_model.training import checkpoints
from mdetr_model.training.training_log import read_log
from shards import written_files
from shards.format.manifest import file_sizes, load
from tests import forked, processes
from tests.end_to_end import small_training as small
from tests.http_server import serve


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shard sets "train" and "val", for tests that do not change them."""
    folder = tmp_path_factory.mktemp("training")
    small.write_shards(folder)
    return folder


@pytest.fixture(scope="module")
def reference_run(folder: Path) -> Path:
    """The output of a run that nothing interrupts: 4 epochs of 4 steps."""
    output = folder / "reference"
    small.train(small.write_config(folder), output)
    return output


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_stopped_and_resumed_run_equals_uninterrupted_run(
    folder: Path, reference_run: Path, tmp_path: Path, number: int
) -> None:
    """A run that receives SIGTERM exits with status 0 and a checkpoint of its last step."""
    config = small.write_config(folder)
    output = tmp_path / "run"
    arguments = small.arguments(config, output, "--resume", "auto")
    rng = random.Random(number)
    for _ in range(2):
        stop = forked.SelfSignal(number, lines=rng.randint(3, 6), delay=rng.uniform(0, 0.1))
        exit_code = forked.run(arguments, tmp_path / "stdout.txt", stop)
        stdout = (tmp_path / "stdout.txt").read_text()
        assert exit_code == (-number if number == signal.SIGKILL else 0), stdout
        assert not (output / "model").exists()
        if number != signal.SIGKILL:
            step, _ = small.losses(output)[-1]
            assert checkpoints.checkpoint_path(output / "checkpoints", step).exists()
            assert f"stopped after step {step}" in stdout
    small.train(config, output, "--resume", "auto")
    assert len(small.losses(output)) == 16
    small.assert_equal_runs(reference_run, output)


def test_trained_model_is_validated_and_evaluated(
    folder: Path, reference_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model", str(reference_run / "model"), "--shards", str(folder / "val")]
    options += ["--output", str(tmp_path), "--workers", "0", "--num-images", "3"]
    assert small.run(["evaluate", "grounding", *options]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["phrases"] == 1
    assert metrics["any-box"]["all"].keys() == metrics["merged-boxes"]["all"].keys()
    assert metrics["baselines"]["all"].keys() == {"random object"}  # without training boxes
    assert "any-box       all          recall@1" in capsys.readouterr().out
    (prediction,) = json.loads((tmp_path / "predictions.json").read_text())
    assert prediction["phrase"] == "the red"
    assert len(prediction["boxes"]) == 4
    assert (tmp_path / "000.png").stat().st_size > 100
    assert [line["step"] for line in small.log(reference_run, "validation")] == [4, 8, 12, 16]
    assert list((reference_run / "tensorboard").glob("events.*"))
    assert small.log(reference_run, "train")[0].keys() >= {
        *("loss", "grad_norm", "lr/backbone", "lr/text_encoder", "lr/rest", "samples_per_second")
    }
    tokenizer = AutoTokenizer.from_pretrained(reference_run / "model")
    lengths = [len(tokenizer(f"the {color} object, number 9").input_ids) for color in small.COLORS]
    for line in small.log(reference_run, "train"):
        tokens = line["tokens_per_second"] / line["samples_per_second"]
        assert min(lengths) <= tokens <= max(lengths) + 1  # numbers have up to two digits


def test_best_model_is_that_of_the_first_best_validation(folder: Path, tmp_path: Path) -> None:
    config = small.write_config(folder, "best", epochs=3)
    options = ["--set", "logging.best_model=true", "--set", "logging.max_checkpoints=9"]
    small.train(config, tmp_path, *options)
    scores = {line["step"]: line["val recall@1"] for line in small.log(tmp_path, "validation")}
    best_step = max(scores, key=scores.__getitem__)
    assert len(scores) == 3
    path = checkpoints.checkpoint_path(tmp_path / "checkpoints", best_step)
    averages = checkpoints.read(path)["ema"]["values"]
    written = load_file(tmp_path / "best_model" / "model.safetensors")
    assert written and all(torch.equal(averages[name], value) for name, value in written.items())
    assert (tmp_path / "best_model" / "processor_config.json").exists()


def test_report_of_a_model_that_has_not_learned(
    reference_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every image has one object, so a random object is always right."""
    small.write_full_shards(tmp_path)
    shards = ["--shards", str(tmp_path / "full"), "--split", "train"]
    evaluation, page = str(tmp_path / "evaluation"), tmp_path / "index.html"
    evaluate = ["--model", str(reference_run / "model"), *shards, "--workers", "0"]
    assert small.run(["evaluate", "grounding", *evaluate, "--output", evaluation]) == 0
    recall = json.loads((tmp_path / "evaluation/metrics.json").read_text())["any-box"]["all"]
    assert recall["recall@1"] < 1
    capsys.readouterr()
    report = ["--training", str(reference_run), "--evaluation", evaluation, "--output", str(page)]
    assert small.run(["report", *report, *shards]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("training          128 samples in ")
    assert f"recall@1          {recall['recall@1']:.3f} this model" in lines
    assert "                  1.000 random object" in lines
    assert any(
        line.startswith("warning: this model has not learned: recall@1 is") for line in lines
    )
    assert len(lines) <= 15
    assert page.read_text(encoding="utf-8").count("<figure>") == 12


def test_run_out_of_time_stops_and_can_be_resumed(
    folder: Path, reference_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, output = small.write_config(folder), tmp_path / "run"
    assert small.run(small.arguments(config, output, "--max-minutes", "1e-9")) == 0
    assert "stopped after step 1; resume with --resume auto" in capsys.readouterr().out
    assert not (output / "model").exists()
    small.train(config, output, "--resume", "auto", "--max-minutes", "60")
    small.assert_equal_runs(reference_run, output)


def test_profile_of_two_steps(folder: Path, reference_run: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    small.train(small.write_config(folder), output, "--profile", "2")
    events = json.loads((output / "profile/trace.json").read_text())["traceEvents"]
    names = [event.get("name") for event in events]
    assert sum(str(name).startswith("ProfilerStep#") for name in names) >= 2
    assert "aten::convolution" in names
    assert "aten::linear" in (output / "profile/operators.txt").read_text()
    small.assert_equal_runs(reference_run, output)


def test_trackers_get_every_step(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    output = tmp_path / "run"
    options = ['logging.trackers=["trackio"]', 'logging.tracker_project="boxes"']
    sets = [argument for option in options for argument in ("--set", option)]
    small.train(small.write_config(folder, epochs=2), output, *sets)
    with contextlib.closing(sqlite3.connect(tmp_path / "trackio/boxes.db")) as database:
        rows = database.execute("SELECT run_name, step, metrics FROM metrics").fetchall()
    losses = {
        step: json.loads(metrics)["train/loss"]
        for name, step, metrics in rows
        if name == "run" and "train/loss" in json.loads(metrics)
    }
    assert losses == dict(small.losses(output))
    assert len(losses) == 8


def test_dry_run_states_the_steps_and_writes_nothing(
    folder: Path, reference_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small.write_config(folder)
    assert small.run(small.arguments(config, tmp_path / "run", "--dry-run")) == 0
    assert not (tmp_path / "run").exists()
    rows = dict(
        re.split(r"\s{2,}", line, maxsplit=1) for line in capsys.readouterr().out.splitlines()
    )
    assert rows["recipe"] == "not stated"
    assert rows["steps"] == "16 (4 epochs of 4), 128 pairs"
    assert rows["train 1"] == f"{folder / 'train'}, split train"
    assert rows["begins"] == "with the initial model"
    resume = small.arguments(config, reference_run, "--dry-run", "--resume", "auto")
    assert small.run(resume) == 0
    assert "after " + str(reference_run / "checkpoints/step-000000016.pt") in (
        capsys.readouterr().out
    )
    assert small.run(small.arguments(config, reference_run, "--dry-run")) == 1


def test_dry_run_reads_the_size_of_a_given_tokenizer(
    folder: Path, reference_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = reference_run / "model"
    config = small.write_config(folder, "given_tokenizer", init=f'tokenizer = "{tokenizer}"')
    assert small.run(small.arguments(config, tmp_path / "run", "--dry-run")) == 0
    output = capsys.readouterr().out
    assert re.search(rf"^tokenizer +{tokenizer}$", output, re.MULTILINE)
    assert re.search(r"^parameters +\d", output, re.MULTILINE)


def test_last_step_is_logged(folder: Path, tmp_path: Path) -> None:
    config = small.write_config(folder, epochs=1)
    small.train(config, tmp_path / "run", "--set", "logging.log_steps=3")
    assert [line["step"] for line in small.log(tmp_path / "run", "train")] == [3, 4]


def test_two_ranks_evaluate_referring_expressions_as_one_does(
    folder: Path, reference_run: Path, tmp_path: Path
) -> None:
    """Each of the 36 captions names one object."""
    options = ["--model", str(reference_run / "model"), "--shards", str(folder / "train")]
    evaluate = ["evaluate", "referring", *options, "--split", "train", "--workers", "0"]
    one, two = tmp_path / "one", tmp_path / "two"
    assert small.run([*evaluate, "--output", str(one)]) == 0
    forked.run_ranks(2, [*evaluate, "--output", str(two)], tmp_path)
    assert (one / "metrics.json").read_text() == (two / "metrics.json").read_text()
    metrics = json.loads((one / "metrics.json").read_text())
    assert metrics["expressions"] == 36
    assert metrics["all"].keys() == {"GIoU >= 0.5", "IoU > 0.5"}
    assert metrics["baselines"]["all"].keys() == {"random object", "frequent box"}


def test_losses_do_not_depend_on_ranks_and_micro_batches(folder: Path, tmp_path: Path) -> None:
    """Four ranks are stopped; one rank resumes: the losses of a single rank.

    Four ranks with two workers each have more readers than there are shards, and validate on a
    single pair. The padding of a sample depends on the others of its micro batch, so nothing here
    may depend on padding: as published, image encoder and contrastive alignment do.
    """
    same = {
        "epochs": 8,
        "dropout": 0.0,
        "frozen_batch_norm": "true",
        "mask_padding": "true",
        "contrastive_align_loss": "false",
    }
    small.train(small.write_config(folder, "uninterrupted", **same), tmp_path / "uninterrupted")

    output = tmp_path / "four"
    micro_batches = {"workers": 2, "micro_batch_size": "micro_batch_size = 1"}
    four = small.write_config(folder, "four", **same, **micro_batches)
    torchrun = small.torchrun(4, small.arguments(four, output))
    with processes.started(torchrun, env=small.ENVIRONMENT) as process:
        _terminate_when(lambda: bool(small.log(output, "validation")), process)
    done = checkpoints.step_of(checkpoints.list_checkpoints(output / "checkpoints")[-1])
    assert 4 <= done < 32

    one = small.write_config(folder, "one", **same, micro_batch_size="micro_batch_size = 4")
    small.train(one, output, "--resume", "auto")
    expected = dict(small.losses(tmp_path / "uninterrupted"))
    assert dict(small.losses(output)) == pytest.approx(expected, rel=1e-4)


def test_two_ranks_train_without_warnings(folder: Path, tmp_path: Path) -> None:
    """With batch norms that are trained: their buffers differ between ranks."""
    config = small.write_config(folder, "two", epochs=1)
    forked.run_ranks(2, small.arguments(config, tmp_path / "run"), tmp_path)
    assert len(small.losses(tmp_path / "run")) == 4
    for output in tmp_path.glob("rank*.txt"):
        assert not re.search(r"warning|\[W\d", output.read_text(), re.IGNORECASE)


def _terminate_when(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Sends SIGTERM to the process group of a command, and waits for its end."""
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=300)


@pytest.mark.parametrize("log_steps", [1, 50])
def test_non_finite_loss_stops_and_names_its_step_and_samples(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], log_steps: int
) -> None:
    """Also if the next step has begun before the loss is read."""
    config = small.write_config(folder, "diverges", lr=1e30, max_grad_norm=1e30)
    options = ("--set", f"logging.log_steps={log_steps}")
    assert small.run(small.arguments(config, tmp_path, *options)) == 1
    stderr = capsys.readouterr().err
    assert "step 1 on rank 0: the loss is" in stderr
    assert stderr.count("vg/") == 8
    assert not checkpoints.list_checkpoints(tmp_path / "checkpoints")
    assert [line["step"] for line in read_log(tmp_path)] == ([1] if log_steps == 1 else [])


def test_run_that_seldom_logs_has_the_same_state_and_means(
    folder: Path, reference_run: Path, tmp_path: Path
) -> None:
    """Its steps are read after the next one has begun, and before a checkpoint."""
    config = small.write_config(folder)
    small.train(config, tmp_path, "--set", "logging.log_steps=3")
    state, expected = small.final_state(tmp_path), small.final_state(reference_run)
    assert all(torch.equal(state[name], value) for name, value in expected.items())
    each = dict(small.losses(reference_run))
    means = {step: fmean(each[i] for i in range(step - 2, step + 1)) for step in range(3, 16, 3)}
    assert dict(small.losses(tmp_path)) == pytest.approx(means | {16: each[16]})


@contextmanager
def _max_file_size(size: int) -> Iterator[None]:
    """Makes writes beyond a size fail, as those to a full disk do."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk_leaves_the_earlier_checkpoint(
    folder: Path, reference_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(reference_run, run)
    earlier, last = checkpoints.list_checkpoints(run / "checkpoints")
    last.unlink()
    with _max_file_size(earlier.stat().st_size // 2):
        status = small.run(small.arguments(small.write_config(folder), run, "--resume", "auto"))
    assert status == 1
    assert "cannot write the checkpoint" in capsys.readouterr().err
    assert checkpoints.list_checkpoints(run / "checkpoints") == [earlier]
    assert [path.name for path in (run / "checkpoints").glob(".*")] == [written_files.NAME]
    checkpoints.read(earlier)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_damaged_shard_stops_the_run_and_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str, workers: int
) -> None:
    for name in ("train", "val"):
        shutil.copytree(folder / name, tmp_path / name)
    shard = tmp_path / "train" / load(tmp_path / "train").shards[2].file
    content = bytearray(shard.read_bytes())
    if damage == "truncated":
        shard.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)
    else:
        shard.unlink()
    config = small.write_config(tmp_path, workers=workers)
    assert small.run(small.arguments(config, tmp_path / "output")) == 1
    assert shard.name in capsys.readouterr().err
    assert not (tmp_path / "output" / "model").exists()


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("global_batch_size = 8", "global_batch_size = 80", "80 is more than the 36 pairs"),
        ("seed = 3", "sed = 3", "unknown field `sed`"),
        ('shards = "val"', 'shards = "other"', "is not a shard set"),
        ('split = "val"', 'split = "test"', "test"),
        ('shards = "train", split = "train"', 'shards = "val", split = "val"', "to evaluate on"),
        ("vocab_size = 300", "", "init needs"),
        ('schedule = "cosine"', 'schedule = "linear"', "schedule"),
        ("crop_min_size = 24", "crop_min_sise = 24", "unknown field `crop_min_sise`"),
        ("crop_min_size = 24", "hflip_prob = 7.0", "hflip_prob"),
        ("num_queries = 4", "num_querys = 4", "num_querys"),
        ("num_queries = 4", "predict_final = true", "predict_final"),
        ("micro_batch_size = 8", "micro_batch_size = 3", "cannot be divided"),
        ("log_steps = 1", 'trackers = ["tensorbored"]', "tensorbored"),
    ],
)
def test_wrong_config_is_refused_before_training(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    before: str,
    after: str,
    message: str,
) -> None:
    config = small.write_config(folder, "wrong", micro_batch_size="micro_batch_size = 8")
    text = config.read_text()
    assert before in text
    config.write_text(text.replace(before, after))
    assert small.run(small.arguments(config, tmp_path)) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "log.jsonl").exists()


def test_folder_with_checkpoints_is_not_overwritten(
    folder: Path, reference_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small.write_config(folder)
    assert small.run(small.arguments(config, reference_run)) == 1
    assert "--resume auto" in capsys.readouterr().err
    first = str(checkpoints.list_checkpoints(reference_run / "checkpoints")[0])
    assert small.run(small.arguments(config, reference_run, "--resume", first)) == 1
    assert "later checkpoints, step-000000016.pt" in capsys.readouterr().err


def test_resumed_run_does_not_read_captions_for_its_tokenizer(
    folder: Path, reference_run: Path, tmp_path: Path
) -> None:
    """The training shards were deleted; a finished run does not need them."""
    shutil.copytree(reference_run, tmp_path / "run")
    for name in ("train", "val"):
        shutil.copytree(folder / name, tmp_path / name)
    for shard in (tmp_path / "train").glob("*.tar"):
        shard.unlink()
    small.train(small.write_config(tmp_path), tmp_path / "run", "--resume", "auto")


def test_run_from_slow_failing_server_equals_run_from_local_shards(
    folder: Path, tmp_path: Path
) -> None:
    """Validation included, although all processes of the run are terminated once."""
    local = small.write_config(folder, "local", epochs=2)
    small.train(local, tmp_path / "local")
    with serve(folder / "train") as train, serve(folder / "val") as val:
        for server in (train, val):
            server.delay = 0.1
            for name in file_sizes(load(server.folder)):
                server.failures[name] = 1
        config = small.write_config(
            folder,
            "remote",
            epochs=2,
            workers=2,
            train=f'{{ shards = "{train.url}", split = "train" }}',
            val=val.url,
            cache=f'cache = "{tmp_path / "cache"}"',
        )
        output = tmp_path / "remote"
        command = small.command(small.arguments(config, output, "--resume", "auto"))
        with processes.started(command, env=small.ENVIRONMENT) as process:
            _terminate_when(lambda: len(small.losses(output)) >= 2, process)
        assert process.returncode == 0
        assert not (output / "model").exists()
        processes.run(command, env=small.ENVIRONMENT, check=True)
        assert {name: n for name, n in train.requests.items() if name.endswith(".tar")} == {
            entry.file: 2 for entry in load(train.folder).shards
        }
    small.assert_equal_runs(tmp_path / "local", output)


def test_each_set_of_a_mixture_has_its_own_split(folder: Path, tmp_path: Path) -> None:
    sets = [
        f'{{ shards = "{name}", split = "{name}", weight = 1 }}' for name in ("train", "train2")
    ]
    config = small.write_config(folder, "mixture", epochs=1, train=", ".join(sets))
    small.train(config, tmp_path)
    assert len(small.losses(tmp_path)) == 37 // 8


def test_compiled_run_has_the_losses_and_state_of_an_eager_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced and differentiated, but without inductor, which ``test_compile`` covers."""
    compiled_modules = []

    def compile_without_inductor(module: nn.Module, *, dynamic: bool) -> None:
        compiled_modules.append(module)
        original(module, dynamic=dynamic, backend="aot_eager")

    original = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", compile_without_inductor)
    # Otherwise torch first traces with numbers like epsilon as variables, and then again without.
    with torch._dynamo.config.patch(specialize_float=True):
        for name, value in (("eager", "false"), ("compiled", "true")):
            config = small.write_config(folder, name, epochs=1, dropout=0.0, compile=value)
            small.train(config, tmp_path / name, "--set", "logging.validation_epochs=2")
    assert len(compiled_modules) == 3
    eager, compiled = (dict(small.losses(tmp_path / name)) for name in ("eager", "compiled"))
    assert compiled == pytest.approx(eager, rel=1e-3)
    states = [small.final_state(tmp_path / name).keys() for name in ("eager", "compiled")]
    assert states[0] == states[1]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_keeps_float32_weights(folder: Path, tmp_path: Path, precision: str) -> None:
    """With captions grouped by image, and images bucketed by aspect ratio."""
    order = {"captions_per_image": 2, "aspect_window": 2}
    config = small.write_config(folder, precision, epochs=1, precision=precision, **order)
    small.train(config, tmp_path)
    assert len(small.losses(tmp_path)) == 4
    assert {
        value.dtype for value in small.final_state(tmp_path).values() if value.is_floating_point()
    } == {torch.float32}


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("seed = 3", "seed = 4", "seed = 3, this run has 4"),
        (
            "max_grad_norm = 1.0",
            "max_grad_norm = 2.0",
            "max_grad_norm = 1.0, this run has 2.0",
        ),
        ("num_queries = 4", "num_queries = 5", "init.config.num_queries = 4, this run has 5"),
        ("crop_min_size = 24", "crop_min_size = 25", "train_transform"),
        ("vocab_size = 300", "vocab_size = 290", "is from another model"),
    ],
)
def test_checkpoint_of_a_run_with_other_settings_is_refused(
    folder: Path,
    reference_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    before: str,
    after: str,
    message: str,
) -> None:
    last = str(checkpoints.list_checkpoints(reference_run / "checkpoints")[-1])
    config = small.write_config(folder, "other")
    config.write_text(config.read_text().replace(before, after))
    assert small.run(small.arguments(config, tmp_path, "--resume", last)) == 1
    assert message in capsys.readouterr().err


def test_example_for_slurm_is_a_script_whose_options_exist() -> None:
    text = (Path(__file__).parents[2] / "docs/training.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    command = script[script.index("-m mdetr_model") :].replace("\\\n", " ").split()
    arguments = _parser().parse_args(command[2:])
    assert (arguments.config, arguments.resume, arguments.max_minutes) == (
        *("pretrain_r101", "auto"),
        700,
    )
