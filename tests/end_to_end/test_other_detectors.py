"""``mdetr evaluate`` of other detectors, and of files of predictions."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end import small_training as small
from tests.mdetr_model.tiny_detectors import write_grounding_dino, write_owl


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detectors")
    small.write_shards(folder, images=8, validation=5)
    write_grounding_dino(folder / "grounding_dino")
    write_owl(folder / "owlv2")
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    """A model of MDETR."""
    small.train(small.write_config(folder, epochs=1), folder / "run")
    return folder / "run" / "model"


def command(task: str, folder: Path, output: Path, *options: object) -> list[str]:
    shards = ["--shards", str(folder / "val"), "--split", "val", "--workers", "0"]
    return ["evaluate", task, *shards, "--output", str(output), *map(str, options)]


def metrics(output: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((output / "metrics.json").read_text())
    return content


@pytest.mark.parametrize("model", ["grounding_dino", "owlv2"])
@pytest.mark.parametrize("task", ["grounding", "referring"])
def test_predictions_of_a_detector_give_its_metrics_again(
    folder: Path, tmp_path: Path, model: str, task: str
) -> None:
    options = ["--model", folder / model, "--batch-size", 2]
    assert small.run(command(task, folder, tmp_path / "one", *options)) == 0
    predictions = tmp_path / "one" / "predictions.json"
    entries = json.loads(predictions.read_text())
    assert len(entries) == 5
    assert all(len(entry["boxes"]) == (6 if model == "grounding_dino" else 10) for entry in entries)
    text = "the red" if task == "grounding" else "the red object, number 8"
    assert text in {entry["phrase"] for entry in entries}
    again = command(task, folder, tmp_path / "two", "--predictions", predictions)
    assert small.run(again) == 0
    first, second = metrics(tmp_path / "one"), metrics(tmp_path / "two")
    assert second.pop("missing phrases") == 0
    for results in (first, second):  # the file has the best ten boxes
        for protocol in ("any-box", "merged-boxes") if task == "grounding" else ():
            del results[protocol]["all"]["recall@all"]
    assert first == second
    assert first["baselines"]["all"]["random object"] == 1  # of one object in each image


@pytest.mark.parametrize("model", ["grounding_dino", "owlv2"])
def test_detector_is_evaluated_on_lvis(folder: Path, tmp_path: Path, model: str) -> None:
    truth = small.write_classes(folder)
    more = ["--annotations", truth, "--shards", folder / "classes"]
    options = ["--model", folder / model, *more]
    assert small.run(command("lvis", folder, tmp_path / "one", *options)) == 0
    result = metrics(tmp_path / "one")
    assert (result["images"], result["missing images"]) == (5, 1)
    entries = json.loads((tmp_path / "one" / "predictions.json").read_text())
    assert len(entries) == 5 * 3 * (6 if model == "grounding_dino" else 16)
    assert {entry["category_id"] for entry in entries} == {1, 2, 3}
    predictions = tmp_path / "one" / "predictions.json"
    arguments = ["evaluate", "lvis", "--predictions", predictions, "--annotations", truth]
    assert small.run([*map(str, arguments), "--output", str(tmp_path / "two")]) == 0
    again = metrics(tmp_path / "two")
    assert again.keys() == result.keys()
    assert again["images"] == 5
    assert again["fixed AP"]["all"] == pytest.approx(result["fixed AP"]["all"], abs=1e-3)


def test_predictions_of_mdetr_are_read(folder: Path, trained: Path, tmp_path: Path) -> None:
    options = ["--model", trained]
    assert small.run(command("grounding", folder, tmp_path / "one", *options)) == 0
    predictions = tmp_path / "one" / "predictions.json"
    again = command("grounding", folder, tmp_path / "two", "--predictions", predictions)
    assert small.run(again) == 0
    assert metrics(tmp_path / "two") == metrics(tmp_path / "one") | {"missing phrases": 0}


def test_benchmarks_of_expressions_score_detectors_and_mdetr(
    folder: Path, trained: Path, tmp_path: Path
) -> None:
    for model in (folder / "owlv2", trained):
        out = tmp_path / model.name
        assert small.run(command("grefcoco", folder, out / "grefcoco", "--model", model)) == 0
        result = metrics(out / "grefcoco")
        assert (result["expressions"], result["expressions without objects"]) == (5, 0)
        assert result["all"]["accuracy"].keys() == {"T-acc"}
        assert result["baselines"] == {"all": {"no box": 0}}
        assert small.run(command("ref-l4", folder, out / "ref-l4", "--model", model)) == 0
        result = metrics(out / "ref-l4")
        assert result["sizes"].keys() == {"all", "small"}
        assert 0 <= result["sizes"]["small"]["mAcc"] <= result["sizes"]["all"]["acc@0.5"] <= 1


def test_predictions_are_scored_by_grefcoco_and_ref_l4(folder: Path, tmp_path: Path) -> None:
    """Four expressions have their box, and the last one has none."""
    arguments = command("referring", folder, tmp_path / "any", "--model", folder / "owlv2")
    assert small.run(arguments) == 0
    entries = json.loads((tmp_path / "any" / "predictions.json").read_text())
    predictions = tmp_path / "right.jsonl"
    with predictions.open("w") as file:
        for entry in entries[:4]:
            number = int(entry["key"].removeprefix("vg/"))
            box = [4.0 + number % 9, 6.0, 40.0, 50.0]
            entry = {name: entry[name] for name in ("key", "caption_index")}
            file.write(json.dumps(entry | {"boxes": [box], "scores": [0.9]}) + "\n")
    for task in ("grefcoco", "ref-l4"):
        assert small.run(command(task, folder, tmp_path / task, "--predictions", predictions)) == 0
    generalized, precise = metrics(tmp_path / "grefcoco"), metrics(tmp_path / "ref-l4")
    assert generalized["all"]["IoU >= 0.5"]["Pr@(F1=1)"] == 0.8
    assert generalized["all"]["accuracy"]["T-acc"] == 0.8
    assert precise["sizes"]["all"] == pytest.approx(
        {"acc@0.5": 0.8, "acc@0.75": 0.8, "acc@0.9": 0.8, "mAcc": 0.8}
    )
    assert generalized["missing phrases"] == precise["missing phrases"] == 1


@pytest.mark.parametrize(
    ("task", "options", "status", "message"),
    [
        ("grounding", ["--predictions", "no.jsonl"], 1, "no.jsonl"),
        ("grounding", [], 2, "one of the arguments --model --predictions is required"),
        ("detection", ["--predictions", "no.jsonl"], 2, "detection evaluates MDETR only"),
        ("answering", ["--model", "{folder}/owlv2"], 2, "answering evaluates MDETR only"),
        ("grounding", ["--model", "{folder}/owlv2", "--num-images", "1"], 2, "what MDETR predicts"),
        ("grounding", ["--predictions", "{folder}/empty.jsonl"], 1, "no predictions for the split"),
    ],
)
def test_wrong_options_are_errors(
    folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    task: str,
    options: list[str],
    status: int,
    message: str,
) -> None:
    (folder / "empty.jsonl").write_text("")
    arguments = command(task, folder, tmp_path / "out", *(o.format(folder=folder) for o in options))
    try:
        assert small.run(arguments) == status
    except SystemExit as error:
        assert error.code == status
    assert message in capfd.readouterr().err
    assert not (tmp_path / "out" / "metrics.json").exists()
