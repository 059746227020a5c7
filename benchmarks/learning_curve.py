"""The learning curve of a training run, as a table: one line a validation.

    PYTHONPATH=. python benchmarks/learning_curve.py RUN > benchmarks/NAME.csv

Minutes are those of training, without validation. The loss is the mean since the line before.
"""

import argparse
import csv
import json
import sys
from pathlib import Path
from statistics import fmean

from mdetr_model.training_log import read_log

COLUMNS = ("step", "samples", "minutes", "loss", "recall@1", "recall@5", "recall@10")


def curve(run: Path) -> list[tuple[float, ...]]:
    """A row of `COLUMNS` for each validation of a run."""
    batch = json.loads((run / "config.json").read_text())["optimisation"]["batch"]
    rows: list[tuple[float, ...]] = []
    losses: list[float] = []
    seconds, before = 0.0, 0
    for line in read_log(run):
        if line["kind"] == "train":
            seconds += (line["step"] - before) * batch / line["samples_per_second"]
            before = line["step"]
            losses.append(line["loss"])
        else:
            recalls = [
                round(value, 3) for name, value in line.items() if name.split()[-1] in COLUMNS[4:]
            ]
            loss = round(fmean(losses), 2)
            rows.append(
                (line["step"], line["step"] * batch, round(seconds / 60, 1), loss, *recalls)
            )
            losses = []
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="the folder of the run")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(curve(parser.parse_args().run))


if __name__ == "__main__":
    main()
