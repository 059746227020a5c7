"""Training through the real command: stopped and resumed, on several ranks, with bad input."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from mdetr_model.__main__ import main
from mdetr_model.training import checkpoints
from shards.format.manifest import load
from tests.end_to_end import small_training as small
from tests.http_server import serve


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    small.write_shards(folder)
    return folder


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    """The output of a run that nothing interrupts."""
    output = folder / "whole"
    result = small.run(small.command(small.write_config(folder), output))
    assert result.returncode == 0, result.stderr
    return output


def _equal(one: Path, other: Path) -> None:
    assert small.losses(one) == small.losses(other)
    assert small.log(one, "validation") == small.log(other, "validation")
    a, b = small.final_state(one), small.final_state(other)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def _command(command: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit status of a command that is run in this process, and what it says."""
    status = main(command[3:])
    return status, capsys.readouterr().err


def _steps(output: Path) -> int:
    try:
        return len((output / "log.jsonl").read_text().splitlines())
    except FileNotFoundError:
        return 0


def _interrupt(process: subprocess.Popen[str], output: Path, after: int, number: int) -> None:
    """Sends a signal once the log has so many lines, unless the run has ended before.

    A run that is asked to stop, not killed, ends well and with a checkpoint of its last step; or it
    has ended already, when the signal comes to a process that is being torn down.
    """
    while process.poll() is None and _steps(output) < after:
        time.sleep(0.002)
    if process.poll() is None:
        os.killpg(process.pid, number)
    said, _ = process.communicate(timeout=60)
    if number != signal.SIGKILL and "torch.distributed.run" not in process.args:
        assert process.returncode == 0 or (output / "model").exists(), said
        step, _ = small.losses(output)[-1]
        assert checkpoints.checkpoint_path(output / "checkpoints", step).exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_stopped_and_resumed_is_as_if_not_stopped(
    folder: Path, whole: Path, tmp_path: Path, number: int
) -> None:
    """The same losses and the same weights, bit for bit."""
    config = small.write_config(folder)
    chance = random.Random(number)
    stops = 0
    for _ in range(10):
        more = ["--resume", "auto"]
        process = small.start(small.command(config, tmp_path, *more))
        _interrupt(process, tmp_path, _steps(tmp_path) + chance.randint(3, 6), number)
        if process.returncode == 0 and (tmp_path / "model").exists():
            break
        stops += 1
    assert stops >= 1
    result = small.run(small.command(config, tmp_path, "--resume", "auto"))
    assert result.returncode == 0, result.stderr
    assert len(small.losses(tmp_path)) == 16
    _equal(whole, tmp_path)


def test_the_model_is_written_and_can_be_used(folder: Path, whole: Path, tmp_path: Path) -> None:
    evaluate = [*small.command(folder, tmp_path)[:3], "evaluate", "grounding"]
    evaluate += ["--model", str(whole / "model"), "--shards", str(folder / "val")]
    result = small.run([*evaluate, "--output", str(tmp_path), "--num-images", "3"])
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["phrases"] == 1
    assert metrics["any-box"]["all"].keys() == metrics["merged-boxes"]["all"].keys()
    assert metrics["baselines"]["all"].keys() == {"random object"}  # without boxes of train
    assert "any-box       all          recall@1" in result.stdout
    (prediction,) = json.loads((tmp_path / "predictions.json").read_text())
    assert prediction["phrase"] == "the red"
    assert len(prediction["boxes"]) == 4
    assert (tmp_path / "000.png").stat().st_size > 100
    assert [line["step"] for line in small.log(whole, "validation")] == [4, 8, 12, 16]
    assert list((whole / "tensorboard").glob("events.*"))


def test_referring_expressions_on_two_ranks(folder: Path, whole: Path, tmp_path: Path) -> None:
    """Each of the 36 sentences names one object; what two processes find is what one finds."""
    for ranks, name in ((1, "one"), (2, "two")):
        launch = (
            small.torchrun(ranks, folder, tmp_path) if ranks > 1 else small.command(folder, folder)
        )
        launch = launch[: launch.index("mdetr_model") + 1]
        options = ["--model", str(whole / "model"), "--shards", str(folder / "train")]
        options += ["--split", "train", "--output", str(tmp_path / name)]
        result = small.run([*launch, "evaluate", "referring", *options])
        assert result.returncode == 0, result.stderr
    one, two = (
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two")
    )
    assert one["expressions"] == 36
    assert one["all"].keys() == {"GIoU >= 0.5", "IoU > 0.5"}
    assert one["baselines"]["all"].keys() == {"random object", "frequent box"}
    assert one == two


def test_other_numbers_of_ranks_train_on_the_same_batches(folder: Path, tmp_path: Path) -> None:
    """Two ranks, stopped; then one that goes on in two micro batches: the losses of one rank.

    How much padding a sample has depends on the others of its micro batch, so nothing here may
    depend on padding: as published, image encoder and contrastive alignment do.
    """
    same = {"epochs": 8, "dropout": 0.0, "frozen": "true", "invariant": "true", "aligned": "false"}
    alone = small.write_config(folder, "alone", **same)
    result = small.run(small.command(alone, tmp_path / "alone"))
    assert result.returncode == 0, result.stderr

    output = tmp_path / "two"
    two = small.write_config(
        folder, "two", **same, workers=2, micro_batch_size="micro_batch_size = 2"
    )
    process = small.start(small.torchrun(2, two, output))
    _interrupt(process, output, 3, signal.SIGTERM)
    done = checkpoints.read(checkpoints.list_checkpoints(output / "checkpoints")[-1])["step"]
    assert 0 < done < 32

    one = small.write_config(folder, "one", **same, micro_batch_size="micro_batch_size = 4")
    result = small.run(small.command(one, output, "--resume", "auto"))
    assert result.returncode == 0, result.stderr
    for (step, loss), (other_step, other) in zip(
        small.losses(tmp_path / "alone"), small.losses(output), strict=True
    ):
        assert step == other_step
        assert loss == pytest.approx(other, rel=1e-4), step


def test_ranks_without_work_do_not_hang(folder: Path, tmp_path: Path) -> None:
    """Four ranks with two workers each, for three unequal shards and one pair to validate on."""
    config = small.write_config(folder, "four", epochs=1, workers=2)
    result = small.run(small.torchrun(4, config, tmp_path))
    assert result.returncode == 0, result.stderr
    assert len(small.losses(tmp_path)) == 4


def test_a_loss_that_is_no_number_stops_and_names_the_samples(folder: Path, tmp_path: Path) -> None:
    config = small.write_config(folder, "diverges", lr=1e30, max_grad_norm=1e30)
    result = small.run(small.command(config, tmp_path))
    assert result.returncode == 1
    assert "the loss is" in result.stderr
    assert result.stderr.count("vg/") == 8


def test_a_full_disk_leaves_the_checkpoint_before(folder: Path, tmp_path: Path) -> None:
    config = small.write_config(folder)
    process = small.start(small.command(config, tmp_path))
    _interrupt(process, tmp_path, 1, signal.SIGTERM)
    before = checkpoints.list_checkpoints(tmp_path / "checkpoints")
    room = before[-1].stat().st_size // 2

    result = subprocess.run(
        small.command(config, tmp_path, "--resume", "auto"),
        env=small.environment(),
        cwd=small.REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
    )
    assert result.returncode == 1
    assert "cannot write the checkpoint" in result.stderr
    assert checkpoints.list_checkpoints(tmp_path / "checkpoints") == before
    assert not list((tmp_path / "checkpoints").glob(".*"))
    checkpoints.read(before[-1])


def _damaged(folder: Path, tmp_path: Path) -> Path:
    small.write_shards(tmp_path)
    return tmp_path / "train" / load(tmp_path / "train").shards[2].file


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("fault", ["truncated", "flipped", "missing"])
def test_a_damaged_shard_stops_and_is_named(
    folder: Path, tmp_path: Path, fault: str, workers: int
) -> None:
    shard = _damaged(folder, tmp_path)
    content = bytearray(shard.read_bytes())
    if fault == "truncated":
        shard.write_bytes(content[: len(content) // 2])
    elif fault == "flipped":
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)
    else:
        shard.unlink()
    result = small.run(small.command(small.write_config(tmp_path, workers=workers), tmp_path / "o"))
    assert result.returncode == 1
    assert shard.name in result.stderr
    assert not (tmp_path / "o" / "model").exists()


@pytest.mark.parametrize(
    "change, message",
    [
        ("global_batch_size = 8 -> global_batch_size = 80", "80 is more than the 36 pairs"),
        ("seed = 3 -> sed = 3", "unknown field `sed`"),
        ('shards = "val" -> shards = "other"', "is not a shard set"),
        ('split = "val" -> split = "test"', "test"),
        ("vocab_size = 300 -> ", "init needs"),
        ('schedule = "cosine" -> schedule = "linear"', "schedule"),
        ("crop_min_size = 24 -> crop_min_sise = 24", "unknown field `crop_min_sise`"),
        ("crop_min_size = 24 -> hflip_prob = 7.0", "hflip_prob"),
        ("num_queries = 4 -> num_querys = 4", "num_querys"),
        ("num_queries = 4 -> predict_final = true", "predict_final"),
        ("micro_batch_size = 8 -> micro_batch_size = 3", "cannot be divided"),
    ],
)
def test_what_is_wrong_is_said(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, message: str
) -> None:
    config = small.write_config(folder, "wrong", micro_batch_size="micro_batch_size = 8")
    before, _, after = change.partition(" -> ")
    text = config.read_text()
    assert before in text
    config.write_text(text.replace(before, after))
    status, said = _command(small.command(config, tmp_path), capsys)
    assert status == 1
    assert message in said
    assert not (tmp_path / "log.jsonl").exists()


def test_a_folder_with_checkpoints_is_not_begun_anew(
    folder: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small.write_config(folder)
    status, said = _command(small.command(config, whole), capsys)
    assert status == 1
    assert "--resume auto" in said
    first = str(checkpoints.list_checkpoints(whole / "checkpoints")[0])
    status, said = _command(small.command(config, whole, "--resume", first), capsys)
    assert status == 1
    assert "later checkpoints, step-000000016.pt" in said


def test_the_tokenizer_of_a_run_is_trained_once(
    folder: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that goes on reads no captions: these are gone, and their shards are not needed."""
    shutil.copytree(whole, tmp_path / "run")
    shutil.copytree(folder / "train", tmp_path / "train")
    shutil.copytree(folder / "val", tmp_path / "val")
    config = small.write_config(tmp_path)
    for shard in (tmp_path / "train").glob("*.tar"):
        shard.unlink()
    command = small.command(config, tmp_path / "run", "--resume", "auto")
    status, said = _command(command, capsys)
    assert status == 0, said


def test_shards_from_a_slow_server_that_fails_for_a_while(
    folder: Path, whole: Path, tmp_path: Path
) -> None:
    """The same run as with local shards, validation included, although all of it is terminated."""
    with serve(folder / "train") as train, serve(folder / "val") as val:
        for server in (train, val):
            server.delay = 0.2
            for name in ("index.parquet", *[entry.file for entry in load(server.folder).shards]):
                server.failures[name] = 1
        config = small.write_config(
            folder,
            "remote",
            workers=2,
            train=f'{{ shards = "{train.url}", split = "train" }}',
            val=val.url,
            cache=f'cache = "{tmp_path / "cache"}"',
        )
        process = small.start(small.command(config, tmp_path / "run"))
        _interrupt(process, tmp_path / "run", 2, signal.SIGTERM)
        result = small.run(small.command(config, tmp_path / "run", "--resume", "auto"))
        assert result.returncode == 0, result.stderr
        assert {name: n for name, n in train.requests.items() if name.endswith(".tar")} == {
            entry.file: 2 for entry in load(train.folder).shards
        }
    _equal(whole, tmp_path / "run")


def test_a_mixture_of_splits(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each set has its own split."""
    sets = [f'{{ shards = "{name}", split = "{name}", weight = 1 }}' for name in ("train", "val")]
    config = small.write_config(folder, "mixture", epochs=1, train=", ".join(sets))
    status, said = _command(small.command(config, tmp_path), capsys)
    assert status == 0, said
    assert len(small.losses(tmp_path)) == 37 // 8


def test_a_compiled_run(
    folder: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The losses of one that is not compiled, but for rounding; its model is the same kind."""
    options = {"epochs": 1, "dropout": 0.0}
    for name, value in (("eager", "false"), ("compiled", "true")):
        config = small.write_config(folder, name, **options, compiled=value)
        status, said = _command(small.command(config, tmp_path / name), capsys)
        assert status == 0, said
    for (step, loss), (_, other) in zip(
        small.losses(tmp_path / "eager"), small.losses(tmp_path / "compiled"), strict=True
    ):
        assert loss == pytest.approx(other, rel=1e-3), step
    eager, compiled = (small.final_state(tmp_path / name) for name in ("eager", "compiled"))
    assert eager.keys() == compiled.keys()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_other_precisions_and_orders(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], precision: str
) -> None:
    """In half precision, with captions of an image together and images of like shapes."""
    config = small.write_config(
        folder, precision, epochs=1, precision=precision, together=2, window=2
    )
    status, said = _command(small.command(config, tmp_path), capsys)
    assert status == 0, said
    assert len(small.losses(tmp_path)) == 4
    assert {
        value.dtype for value in small.final_state(tmp_path).values() if value.is_floating_point()
    } == {torch.float32}


@pytest.mark.parametrize(
    "before, after, message",
    [
        ("seed = 3", "seed = 4", "seed = 3, this run has 4"),
        ("max_grad_norm = 1.0", "max_grad_norm = 2.0", "max_grad_norm = 1.0, this run has 2.0"),
        ("num_queries = 4", "num_queries = 5", "init.config.num_queries = 4, this run has 5"),
        ("crop_min_size = 24", "crop_min_size = 25", "train_transform"),
        ("vocab_size = 300", "vocab_size = 290", "is from another model"),
    ],
)
def test_another_course_is_not_gone_on_with(
    folder: Path,
    whole: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    before: str,
    after: str,
    message: str,
) -> None:
    last = str(checkpoints.list_checkpoints(whole / "checkpoints")[-1])
    config = small.write_config(folder, "other")
    config.write_text(config.read_text().replace(before, after))
    status, said = _command(small.command(config, tmp_path, "--resume", last), capsys)
    assert status == 1
    assert message in said
