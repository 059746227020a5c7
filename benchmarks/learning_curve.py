"""Prints the learning curve of a training run as CSV, with recall after each validation.

    PYTHONPATH=. python benchmarks/learning_curve.py RUN > benchmarks/NAME.csv

Minutes are those of training, without validation. The loss is the mean since the previous row.
"""

import argparse
import csv
import sys
from itertools import pairwise
from pathlib import Path
from statistics import fmean

from mdetr_model.training.learning_curve import LearningCurve, learning_curve

COLUMNS = ("step", "samples", "minutes", "loss", "recall@1", "recall@5", "recall@10")


def rows(curve: LearningCurve, every: int) -> list[dict[str, float]]:
    """Returns a row of `COLUMNS` every ``every`` steps, and one for each validation of a run."""
    recalls = {point.step: point.metrics for point in curve.validations}
    points = {point.step: point for point in (*curve.losses, *curve.validations)}
    ends = [step for step in sorted(points) if step in recalls or step % every == 0]
    rows: list[dict[str, float]] = []
    for begin, end in pairwise([0, *ends]):
        row = {
            "step": end,
            "samples": points[end].samples,
            "minutes": round(points[end].minutes, 1),
        }
        losses = [p.loss for p in curve.losses if begin < p.step <= end and p.loss is not None]
        if losses:
            row["loss"] = round(fmean(losses), 2)
        for name, value in recalls.get(end, {}).items():
            if name.split()[-1] in COLUMNS:
                row[name.split()[-1]] = round(value, 3)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="the folder of the run")
    parser.add_argument("--every", type=int, default=1000, help="steps between two lines")
    arguments = parser.parse_args()
    writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(learning_curve(arguments.run), arguments.every))


if __name__ == "__main__":
    main()
