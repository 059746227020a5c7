"""Whether a model has learned, and the summary that says so."""

import json
from pathlib import Path

import pytest

from mdetr_model.report.model_report import ModelReport, Verdict, read_report
from mdetr_model.report.summary import LINE_WIDTH, summary_text
from schemas import Box, Caption, Phrase
from tests.mdetr_model.report import evaluations
from tests.mdetr_model.report.evaluations import ELSEWHERE, nothing, write_files


def read(paths: evaluations.Paths) -> ModelReport:
    return read_report(paths.training, str(paths.shards), "val", paths.evaluation)


def with_recalls(report: ModelReport, recall: float, **baselines: float) -> ModelReport:
    metrics = report.results.metrics
    metrics.any_box["all"]["recall@1"] = recall
    metrics.baselines = {"all": {name.replace("_", " "): v for name, v in baselines.items()}}
    return report


@pytest.fixture
def report(tmp_path: Path) -> ModelReport:
    return read(write_files(tmp_path, evaluations.images(1)))


@pytest.mark.parametrize(
    ("recall", "baseline", "verdict"),
    [
        (0.0, 0.0, Verdict.NOT_LEARNED),
        (0.24, 0.24, Verdict.NOT_LEARNED),
        (0.25, 0.24, Verdict.HARDLY_LEARNED),
        (0.47, 0.24, Verdict.HARDLY_LEARNED),
        (0.48, 0.24, Verdict.LEARNED),
        (0.74, 0.5, Verdict.HARDLY_LEARNED),  # twice 0.5 could not be reached
        (0.75, 0.5, Verdict.LEARNED),
        (1.0, 1.0, Verdict.NOT_LEARNED),
    ],
)
def test_verdict_compares_with_the_best_baseline(
    report: ModelReport, recall: float, baseline: float, verdict: Verdict
) -> None:
    assert with_recalls(report, recall, random_object=baseline).verdict is verdict
    frequent = with_recalls(report, recall, random_object=0.0, frequent_box=baseline)
    assert frequent.verdict is verdict
    assert (frequent.advice is None) == (verdict is Verdict.LEARNED)


def test_summary_of_a_model_that_has_learned(tmp_path: Path) -> None:
    """In each of 7 images, it is wrong about one of the four phrases."""

    def predict(text: Caption, phrase: Phrase) -> Box:
        return ELSEWHERE if text.text == "blue circle" else phrase.boxes[0]

    paths = write_files(tmp_path, evaluations.images(7), predict)
    assert summary_text(read(paths), Path("build/index.html")).splitlines() == [
        "images            7 train, 7 val",
        "training          240 samples in 2.0 minutes",
        "evaluation        28 phrases in 7 images of val",
        "recall@1          0.750 this model",
        "                  0.250 random object",
        "                  0.250 frequent box",
        "one word changed  0 of 7 pairs with both boxes right",
        "page              build/index.html",
    ]


def test_summary_warns_of_a_model_that_has_not_learned(tmp_path: Path) -> None:
    paths = write_files(tmp_path, evaluations.images(2), nothing)
    lines = summary_text(read(paths), paths.page).splitlines()
    assert len(lines) <= 15
    assert max(map(len, lines)) <= max(LINE_WIDTH, len(str(paths.page)) + 18)
    warning = " ".join(lines[lines.index("") + 1 :])
    assert warning.startswith(
        "warning: this model has not learned: recall@1 is 0.000; a random object has 0.250, a "
        "model that has learned at least 0.500. Train longer: 'mdetr train' with --set "
        "optimizer.epochs=6 (it was 3)"
    )
    assert (Path(__file__).parents[3] / "benchmarks/README.md").read_text().count(
        "## Learning to ground from scratch\n"
    ) == 1


def test_names_of_a_shard_set_cannot_control_the_terminal(tmp_path: Path) -> None:
    paths = write_files(tmp_path, evaluations.images(1))
    metrics = paths.evaluation / "metrics.json"
    content = json.loads(metrics.read_text())
    content["baselines"]["all"]["\x1b[2J\n"] = 0.1
    metrics.write_text(json.dumps(content))
    text = summary_text(read(paths), paths.page)
    assert "0.100 \\x1b[2J\\n" in text
    assert "\x1b" not in text
