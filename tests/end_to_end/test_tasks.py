"""The paper's tasks through the real commands: trained, evaluated, and what is refused."""

import json
import shutil
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch

from mdetr_model.__main__ import main
from mdetr_model.training import checkpoints
from mdetr_model.training.config import load_config
from mdetr_model.training.trainer import train
from pipelines.synthetic.clevr import generate_clevr
from tests.end_to_end import small_training as small


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    small.write_shards(folder, images=16)
    small.write_questions(folder)
    return folder


@pytest.fixture(scope="module")
def grounding(folder: Path) -> Path:
    """A model that does not answer."""
    output = folder / "grounding"
    result = small.run(small.command(small.write_config(folder, epochs=1), output))
    assert result.returncode == 0, result.stderr
    return output / "model"


@pytest.fixture(scope="module")
def answering(folder: Path, grounding: Path) -> Path:
    """The output of a run that goes on from the model, with answers, on two ranks."""
    config = small.write_config(
        folder,
        "asked",
        init=f'model = "{grounding}"\nanswers = "gqa"',
        train='{ shards = "asked", split = "train" }',
        val="asked-val",
        aligned="false",
        epochs=12,
        lr=3e-3,
    )
    output = folder / "answering"
    result = small.run(small.torchrun(2, config, output))
    assert result.returncode == 0, result.stderr
    return output


def _evaluate(task: str, model: Path, shards: Path, split: str, output: Path) -> list[str]:
    options = ["--model", str(model), "--shards", str(shards), "--split", split]
    return ["evaluate", task, *options, "--output", str(output), "--workers", "0"]


def test_answers_are_learned(answering: Path) -> None:
    log = small.log(answering, "train")
    for name in ("loss_answer_attr", "loss_answer_type"):
        assert log[-1][name] < log[0][name]
    assert {line["unknown_answers"] for line in log} == {0}
    validation = small.log(answering, "validation")
    assert len(validation) == 12
    assert all(line.keys() >= {"val accuracy"} for line in validation)
    config = json.loads((answering / "model" / "config.json").read_text())
    assert config["answers"]["attr"] == ["black", "blue", "green", "red", "unknown"]


def test_questions_are_answered_by_any_number_of_ranks(
    folder: Path, answering: Path, tmp_path: Path
) -> None:
    """The same answers; one is wrong for sure, because the model does not have the right one."""
    one, two = tmp_path / "one", tmp_path / "two"
    arguments = answering / "model", folder / "asked-val", "val"
    assert main(_evaluate("answering", *arguments, one)) == 0
    launch = small.torchrun(2, folder, folder)
    launch = launch[: launch.index("mdetr_model") + 1]
    result = small.run([*launch, *_evaluate("answering", *arguments, two)])
    assert result.returncode == 0, result.stderr
    for name in ("metrics.json", "predictions.json"):
        assert (one / name).read_text() == (two / name).read_text()
    metrics = json.loads((one / "metrics.json").read_text())
    assert metrics["questions"] == 8
    assert metrics["answers"].keys() == {"all", "attr", "query"}
    assert metrics["unknown answers"] == 1
    assert metrics["answers"]["all"]["accuracy"] < 1
    assert metrics["baselines"] == {}  # without questions of train
    predictions = json.loads((one / "predictions.json").read_text())
    assert [of["questionId"] for of in predictions] == [*(f"q{i}" for i in range(24, 31)), "q99"]
    assert all(of.keys() == {"questionId", "prediction"} for of in predictions)


def test_a_second_stage_keeps_the_answers(folder: Path, answering: Path, tmp_path: Path) -> None:
    """On other questions, of which one's answer it cannot give; and stopped and resumed."""
    settings: dict[str, Any] = {
        "init": f'model = "{answering / "model"}"',
        "train": '{ shards = "asked-val", split = "val" }',
        "val": "asked-val",
        "aligned": "false",
        "epochs": 3,
    }
    config = small.write_config(folder, "second", **settings)
    assert main(small.command(config, tmp_path / "whole")[3:]) == 0
    first, second = (
        json.loads((of / "model" / "config.json").read_text())["answers"]
        for of in (answering, tmp_path / "whole")
    )
    assert first == second
    log = small.log(tmp_path / "whole", "train")
    assert [line["unknown_answers"] for line in log] == [1, 1, 1]

    earlier, last = checkpoints.list_checkpoints(tmp_path / "whole" / "checkpoints")
    again = tmp_path / "again" / "checkpoints"
    again.mkdir(parents=True)
    shutil.copy(earlier, again)
    assert main(small.command(config, again.parent, "--resume", "auto")[3:]) == 0
    one, other = small.final_state(tmp_path / "whole"), small.final_state(again.parent)
    assert all(torch.equal(one[name], other[name]) for name in one)

    state = checkpoints.read(last)
    state["settings"]["answers"] = {**first, "attr": first["attr"][::-1]}
    checkpoints.write(tmp_path / "other", 3, {k: v for k, v in state.items() if k != "step"}, 2)
    course = load_config(str(config)).resolve_paths(folder)
    with pytest.raises(ValueError, match="is from a run with answers"):
        train(course, tmp_path / "others", str(checkpoints.checkpoint_path(tmp_path / "other", 3)))


def test_clevr_from_raw_files_to_accuracy(tmp_path: Path) -> None:
    """Through the shipped recipe, with its three heads."""
    generate_clevr(tmp_path / "raw", num_images=40, seed=1)
    places = [f"--root={tmp_path / 'raw'}", f"--output={tmp_path / 'shards'}"]
    result = small.run([sys.executable, "-m", "pipelines.build", "clevr", *places])
    assert result.returncode == 0, result.stderr
    config = small.write_config(
        tmp_path,
        init='vocab_size = 300\nanswers = "clevr"',
        train='{ shards = "shards", split = "train" }',
        val="shards",
        epochs=3,
        lr=3e-3,
        workers=1,
    )
    result = small.run(small.command(config, tmp_path / "run"))
    assert result.returncode == 0, result.stderr
    log = small.log(tmp_path / "run", "train")
    quarter = len(log) // 4
    for head in ("type", "attr", "reg"):
        losses = [line[f"loss_answer_{head}"] for line in log]
        assert fmean(losses[-quarter:]) < 0.95 * fmean(losses[:quarter]), head
    # A batch may have no question of yes or no.
    assert fmean(line["loss_answer_binary"] > 0 for line in log) > 0.5
    model, shards = tmp_path / "run" / "model", tmp_path / "shards"
    assert main(_evaluate("answering", model, shards, "val", tmp_path / "out")) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    kinds = {"count", "exist", "compare number", "compare attribute", "query attribute"}
    assert metrics["answers"].keys() == {"all", *kinds}
    assert metrics["unknown answers"] == 0
    assert metrics["baselines"].keys() == metrics["answers"].keys()
    assert 0.2 < metrics["baselines"]["all"]["text only"] < 1


def test_boxes_of_all_captions_have_an_average_precision(
    folder: Path, grounding: Path, tmp_path: Path
) -> None:
    assert main(_evaluate("detection", grounding, folder / "train", "train", tmp_path)) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["captions"] == 16
    assert metrics["boxes"]["all"].keys() == {"AP", "AP50", "AP75", "AR@100"}
    assert 0 <= metrics["boxes"]["all"]["AP"] <= metrics["boxes"]["all"]["AR@100"] <= 1
    assert metrics["baselines"]["all"].keys() > {"same boxes AP"}
    predictions = json.loads((tmp_path / "predictions.json").read_text())
    assert len(predictions) == 16
    assert all(len(of["boxes"]) == len(of["scores"]) == 4 for of in predictions)
    assert all(of["scores"] == sorted(of["scores"], reverse=True) for of in predictions)


def test_a_model_without_answers_is_not_asked(
    folder: Path, grounding: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_evaluate("answering", grounding, folder / "asked-val", "val", tmp_path)) == 1
    assert "no answer vocabulary; see 'mdetr convert --answers'" in capsys.readouterr().err


def test_what_is_no_question_is_not_answered(
    folder: Path, answering: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = answering / "model"
    assert main(_evaluate("answering", model, folder / "train", "train", tmp_path)) == 1
    assert "a caption is no question" in capsys.readouterr().err


def test_questions_are_needed_for_answers(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small.write_config(folder, "none", init='vocab_size = 300\nanswers = "gqa"')
    assert main(small.command(config, tmp_path)[3:]) == 1
    assert "no questions with answers" in capsys.readouterr().err


def test_classes_are_found_by_any_number_of_ranks(
    folder: Path, grounding: Path, tmp_path: Path
) -> None:
    truth = small.write_classes(folder)
    one, two = tmp_path / "one", tmp_path / "two"
    arguments = "lvis", grounding, folder / "classes", "val"
    more = ["--annotations", str(truth), "--batch-size", "2"]
    assert main([*_evaluate(*arguments, one), *more]) == 0
    launch = small.torchrun(2, folder, folder)
    launch = launch[: launch.index("mdetr_model") + 1]
    result = small.run([*launch, *_evaluate(*arguments, two), *more])
    assert result.returncode == 0, result.stderr
    for name in ("metrics.json", "predictions.json"):
        assert (one / name).read_text() == (two / name).read_text()
    metrics = json.loads((one / "metrics.json").read_text())
    assert metrics["classes"]["all"].keys() == {"AP", "AP50", "AP75", "APf"}
    assert (metrics["images"], metrics["missing images"]) == (5, 1)
    assert metrics["baselines"]["all"]["random object AP"] == 1  # there is but one in each image
    predictions = json.loads((one / "predictions.json").read_text())
    assert len(predictions) == 5 * 3 * 4  # images, classes, queries
    assert {of["category_id"] for of in predictions} == {1, 2, 3}
    assert predictions[0].keys() == {"image_id", "category_id", "bbox", "score"}


@pytest.mark.parametrize(
    ("shards", "more", "message"),
    [
        ("classes", [], "--annotations is required for lvis"),
        ("classes", ["--annotations", "no.json"], "no.json"),
        (
            "classes",
            ["--annotations", "{truth}", "--num-images", "1"],
            "--num-images draws captions",
        ),
        ("classes", ["--annotations", "{other}"], "have no image coco/1: are they of val?"),
        ("val", ["--annotations", "{truth}"], "vg/16 is no image of COCO"),
    ],
)
def test_what_lvis_is_not_evaluated_on(
    folder: Path,
    grounding: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    shards: str,
    more: list[str],
    message: str,
) -> None:
    truth = small.write_classes(folder)
    content = json.loads(truth.read_text()) | {"images": [], "annotations": []}
    (tmp_path / "other.json").write_text(json.dumps(content))
    more = [of.format(truth=truth, other=tmp_path / "other.json") for of in more]
    arguments = "lvis", grounding, folder / shards, "val", tmp_path / "out"
    assert main([*_evaluate(*arguments), *more]) == 1
    assert message in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_annotations_are_for_lvis_alone(
    folder: Path, grounding: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = "grounding", grounding, folder / "val", "val", tmp_path / "out"
    assert main([*_evaluate(*arguments), "--annotations", "lvis.json"]) == 1
    assert "for no other task" in capfd.readouterr().err
