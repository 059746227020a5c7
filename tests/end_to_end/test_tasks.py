"""The paper's tasks: training, evaluation, and errors."""

import json
import shutil
from pathlib import Path
from statistics import fmean

import pytest

from mdetr_model.training import checkpoints
from mdetr_model.training.config import load_config
from mdetr_model.training.trainer import train
from pipelines.build import main as build
from pipelines.synthetic.clevr import generate_clevr
from tests import forked
from tests.end_to_end import small_training as small


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    small.write_shards(folder, images=16)
    small.write_questions(folder)
    return folder


@pytest.fixture(scope="module")
def grounding(folder: Path) -> Path:
    """A model without answer heads."""
    small.train(small.write_config(folder, epochs=1), folder / "grounding")
    return folder / "grounding" / "model"


@pytest.fixture(scope="module")
def answering(folder: Path, grounding: Path) -> Path:
    """The output of a run on two ranks that adds answer heads to the model."""
    config = small.write_config(
        folder,
        "questions",
        init=f'model = "{grounding}"\nanswers = "gqa"',
        train='{ shards = "questions", split = "train" }',
        val="questions-val",
        contrastive_align_loss="false",
        epochs=12,
        lr=3e-3,
    )
    output = folder / "answering"
    forked.run_ranks(2, small.arguments(config, output), folder)
    return output


def _evaluate(task: str, model: Path, shards: Path, split: str, output: Path) -> list[str]:
    options = ["--model", str(model), "--shards", str(shards), "--split", split]
    return ["evaluate", task, *options, "--output", str(output), "--workers", "0"]


def test_answer_losses_fall_and_accuracy_is_validated(answering: Path) -> None:
    log = small.log(answering, "train")
    for name in ("loss_answer_attr", "loss_answer_type"):
        assert log[-1][name] < log[0][name]
    assert {line["unknown_answers"] for line in log} == {0}
    validation = small.log(answering, "validation")
    assert len(validation) == 12
    assert all(line.keys() >= {"val accuracy"} for line in validation)
    config = json.loads((answering / "model" / "config.json").read_text())
    assert config["answers"]["attr"] == ["black", "blue", "green", "red", "unknown"]


def test_two_ranks_answer_questions_as_one_does(
    folder: Path, answering: Path, tmp_path: Path
) -> None:
    """One answer is wrong for certain: the vocabulary lacks the right one."""
    one, two = tmp_path / "one", tmp_path / "two"
    arguments = answering / "model", folder / "questions-val", "val"
    assert small.run(_evaluate("answering", *arguments, one)) == 0
    forked.run_ranks(2, _evaluate("answering", *arguments, two), tmp_path)
    for name in ("metrics.json", "predictions.json"):
        assert (one / name).read_text() == (two / name).read_text()
    metrics = json.loads((one / "metrics.json").read_text())
    assert metrics["questions"] == 8
    assert metrics["answers"].keys() == {"all", "attr", "query"}
    assert metrics["unknown answers"] == 1
    assert metrics["answers"]["all"]["accuracy"] < 1
    assert metrics["baselines"] == {}  # without training questions
    predictions = json.loads((one / "predictions.json").read_text())
    assert [entry["questionId"] for entry in predictions] == [
        *(f"q{i}" for i in range(24, 31)),
        "q99",
    ]
    assert all(entry.keys() == {"questionId", "prediction"} for entry in predictions)


def test_second_stage_keeps_the_answers(folder: Path, answering: Path, tmp_path: Path) -> None:
    """On other questions, one of which has an unknown answer; stopped and resumed."""
    config = small.write_config(
        folder,
        "second",
        init=f'model = "{answering / "model"}"',
        train='{ shards = "questions-train2", split = "train2" }',
        val="questions-val",
        contrastive_align_loss="false",
        epochs=3,
    )
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    small.train(config, whole)
    first, second = (
        json.loads((run / "model" / "config.json").read_text())["answers"]
        for run in (answering, whole)
    )
    assert first == second
    assert [line["unknown_answers"] for line in small.log(whole, "train")] == [1, 1, 1]

    earlier, last = checkpoints.list_checkpoints(whole / "checkpoints")
    (resumed / "checkpoints").mkdir(parents=True)
    shutil.copy(earlier, resumed / "checkpoints")
    small.train(config, resumed, "--resume", "auto")
    small.assert_equal_states(whole, resumed)

    state = checkpoints.read(last)
    state["settings"]["answers"] = {**first, "attr": first["attr"][::-1]}
    del state["step"]
    other = checkpoints.write(tmp_path / "other", 3, state, max_checkpoints=2)
    with pytest.raises(ValueError, match="is from a run with answers"):
        train(load_config(str(config)).resolve_paths(folder), tmp_path / "others", str(other))


def test_clevr_from_raw_files_to_accuracy(tmp_path: Path) -> None:
    """With the shipped recipe and CLEVR's three heads."""
    generate_clevr(tmp_path / "raw", num_images=40, seed=1)
    paths = [f"--root={tmp_path / 'raw'}", f"--output={tmp_path / 'shards'}"]
    assert build(["clevr", *paths, "--direct_running_mode=in_memory", "--quiet"]) == 0
    config = small.write_config(
        tmp_path,
        init='vocab_size = 300\nanswers = "clevr"',
        train='{ shards = "shards", split = "train" }',
        val="shards",
        epochs=3,
        lr=3e-3,
        workers=1,
    )
    rarely = ["--set", "logging.checkpoint_steps=100", "--set", "logging.validation_epochs=3"]
    small.train(config, tmp_path / "run", *rarely)
    log = small.log(tmp_path / "run", "train")
    quarter = len(log) // 4
    for head in ("type", "attr", "reg"):
        losses = [line[f"loss_answer_{head}"] for line in log]
        assert fmean(losses[-quarter:]) < 0.95 * fmean(losses[:quarter]), head
    # A batch may have no question of yes or no.
    assert fmean(line["loss_answer_binary"] > 0 for line in log) > 0.5
    model, shards = tmp_path / "run" / "model", tmp_path / "shards"
    assert small.run(_evaluate("answering", model, shards, "val", tmp_path / "out")) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    kinds = {"count", "exist", "compare number", "compare attribute", "query attribute"}
    assert metrics["answers"].keys() == {"all", *kinds}
    assert metrics["unknown answers"] == 0
    assert metrics["baselines"].keys() == metrics["answers"].keys()
    assert 0.2 < metrics["baselines"]["all"]["text only"] < 1


def test_detection_reports_class_agnostic_ap(folder: Path, grounding: Path, tmp_path: Path) -> None:
    assert small.run(_evaluate("detection", grounding, folder / "train", "train", tmp_path)) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["captions"] == 16
    assert metrics["boxes"]["all"].keys() == {"AP", "AP50", "AP75", "AR@100"}
    assert 0 <= metrics["boxes"]["all"]["AP"] <= metrics["boxes"]["all"]["AR@100"] <= 1
    assert metrics["baselines"]["all"].keys() > {"same boxes AP"}
    predictions = json.loads((tmp_path / "predictions.json").read_text())
    assert len(predictions) == 16
    assert all(len(entry["boxes"]) == len(entry["scores"]) == 4 for entry in predictions)
    scores = [entry["scores"] for entry in predictions]
    assert all(values == sorted(values, reverse=True) for values in scores)


def test_rejection_reports_absent_and_present_phrases(
    folder: Path, grounding: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small.write_absent(folder)
    assert small.run(_evaluate("rejection", grounding, folder / "absent", "val", tmp_path)) == 0
    assert "rejection accuracy" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["present phrases"], metrics["absent phrases"]) == (4, 4)
    names = {"rejection accuracy", "acceptance", "balanced", "AUC"}
    assert metrics["rejection"]["all"].keys() == names
    predictions = json.loads((tmp_path / "predictions.json").read_text())
    absent = [entry["score"] for entry in predictions if not entry["present"]]
    assert [entry["phrase"] for entry in predictions if not entry["present"]] == ["red kite"] * 4
    rejected = sum(score < 0.5 for score in absent) / 4
    assert metrics["rejection"]["all"]["rejection accuracy"] == rejected


def test_answering_needs_a_model_with_answer_heads(
    folder: Path, grounding: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        small.run(_evaluate("answering", grounding, folder / "questions-val", "val", tmp_path)) == 1
    )
    assert "no answer vocabulary; see 'mdetr convert --answers'" in capsys.readouterr().err


def test_answering_refuses_captions_that_are_not_questions(
    folder: Path, answering: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = answering / "model"
    assert small.run(_evaluate("answering", model, folder / "train", "train", tmp_path)) == 1
    assert "a caption is not a question" in capsys.readouterr().err


def test_training_answers_needs_questions(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small.write_config(folder, "none", init='vocab_size = 300\nanswers = "gqa"')
    assert small.run(small.arguments(config, tmp_path)) == 1
    assert "no questions with answers" in capsys.readouterr().err


def test_two_ranks_detect_classes_as_one_does(
    folder: Path, grounding: Path, tmp_path: Path
) -> None:
    truth = small.write_classes(folder)
    one, two = tmp_path / "one", tmp_path / "two"
    arguments = "lvis", grounding, folder / "classes", "val"
    options = ["--annotations", str(truth), "--batch-size", "2"]
    assert small.run([*_evaluate(*arguments, one), *options]) == 0
    forked.run_ranks(2, [*_evaluate(*arguments, two), *options], tmp_path)
    for name in ("metrics.json", "predictions.json"):
        assert (one / name).read_text() == (two / name).read_text()
    metrics = json.loads((one / "metrics.json").read_text())
    assert metrics["classes"]["all"].keys() == {"AP", "AP50", "AP75", "APf"}
    assert metrics["fixed AP"] == metrics["classes"]  # fewer detections than both limits
    assert (metrics["images"], metrics["missing images"]) == (5, 1)
    assert metrics["baselines"]["all"]["random object AP"] == 1  # of one object in each image
    predictions = json.loads((one / "predictions.json").read_text())
    assert len(predictions) == 5 * 3 * 4  # images, classes, queries
    assert {entry["category_id"] for entry in predictions} == {1, 2, 3}
    assert predictions[0].keys() == {"image_id", "category_id", "bbox", "score"}


@pytest.mark.parametrize(
    ("shards", "more", "message"),
    [
        ("classes", ["--annotations", "no.json"], "no.json"),
        ("classes", ["--annotations", "{other}"], "have no image coco/1: are they of val?"),
        ("val", ["--annotations", "{truth}"], "vg/16 is not an image of COCO"),
    ],
)
def test_lvis_refuses_other_images_and_annotations(
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
    more = [option.format(truth=truth, other=tmp_path / "other.json") for option in more]
    arguments = "lvis", grounding, folder / shards, "val", tmp_path / "out"
    assert small.run([*_evaluate(*arguments), *more]) == 1
    assert message in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_options_that_do_not_fit_the_task_are_usage_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate = _evaluate("grounding", tmp_path, tmp_path, "val", tmp_path / "out")
    assert small.run([*evaluate, "--annotations", "lvis.json"]) == 2
    assert "mdetr: error: --annotations is required for lvis, and for no" in capsys.readouterr().err
    evaluate = _evaluate("lvis", tmp_path, tmp_path, "val", tmp_path / "out")
    assert small.run(evaluate) == 2
    assert small.run([*evaluate, "--annotations", "lvis.json", "--num-images", "1"]) == 2
    assert "--num-images draws captions" in capsys.readouterr().err
