"""The curves of a run as coordinates."""

import pytest

from mdetr_model.report.curve_chart import MAX_POINTS, loss_chart, recall_chart
from mdetr_model.training.learning_curve import LearningCurve, LossPoint, ValidationPoint
from shards.inspection.report.charts import BOTTOM, LEFT, RIGHT, TOP


def losses(count: int) -> list[LossPoint]:
    return [LossPoint(i, 10 * i, i / 10, 8.0 if i % 2 else 4.0) for i in range(1, count + 1)]


def test_curve_of_the_loss_begins_at_0_and_ends_with_the_run() -> None:
    chart = loss_chart(LearningCurve(1, losses(10), []))
    assert [tick.label for tick in chart.x_ticks] == ["0", "20", "40", "60", "80", "100"]
    assert (chart.x_ticks[0].position, chart.x_ticks[-1].position) == (LEFT, RIGHT)
    assert [tick.label for tick in chart.y_ticks] == ["0", "2", "4", "6", "8"]
    assert (chart.points[0].y, chart.points[1].y) == (TOP, (TOP + BOTTOM) / 2)
    assert chart.points[-1].x == RIGHT
    assert chart.points[1].label == "20 samples, 0.2 min: 4"
    assert chart.baseline is None


def test_long_curve_has_the_means_of_several_lines() -> None:
    chart = loss_chart(LearningCurve(1, losses(4 * MAX_POINTS), []))
    assert len(chart.points) == MAX_POINTS
    assert chart.points[0].label == "40 samples, 0.4 min: 6"
    assert len({point.y for point in chart.points}) == 1
    assert chart.points[-1].x == RIGHT


def test_loss_that_is_not_a_number_has_no_point() -> None:
    points = [LossPoint(1, 10, 0.1, None), LossPoint(2, 20, 0.2, 3.0)]
    assert len(loss_chart(LearningCurve(1, points, [])).points) == 1
    assert loss_chart(LearningCurve(1, points[:1], [])).points == []


@pytest.mark.parametrize(
    ("loss", "labels"), [(0.0, ["0", "1"]), (0.3, ["0", "1"]), (7e13, ["0", "2e+13", "4e+13"])]
)
def test_axis_of_losses_of_any_size(loss: float, labels: list[str]) -> None:
    chart = loss_chart(LearningCurve(1, [LossPoint(1, 10, 0.1, loss)], []))
    assert [tick.label for tick in chart.y_ticks][: len(labels)] == labels
    assert TOP <= chart.points[0].y <= BOTTOM


def test_recall_is_that_of_the_first_split_beside_the_baseline() -> None:
    metrics = {"val 0 recall@1": 0.5, "val 0 recall@10": 0.9, "val 1 recall@1": 0.1}
    curve = LearningCurve(1, losses(10), [ValidationPoint(5, 50, 0.5, metrics)])
    chart = recall_chart(curve, ("random object", 0.25))
    assert chart is not None
    [point] = chart.points
    assert (point.x, point.y) == ((LEFT + RIGHT) / 2, (TOP + BOTTOM) / 2)
    assert chart.baseline is not None
    assert chart.baseline.label == "random object 0.250"
    assert chart.baseline.position == pytest.approx(BOTTOM - (BOTTOM - TOP) / 4)


def test_run_without_validations_has_no_curve_of_recall() -> None:
    accuracy = [ValidationPoint(5, 50, 0.5, {"val accuracy": 0.5})]
    assert recall_chart(LearningCurve(1, losses(10), accuracy), ("random object", 0.2)) is None
    assert recall_chart(LearningCurve(1, losses(10), []), ("random object", 0.2)) is None
