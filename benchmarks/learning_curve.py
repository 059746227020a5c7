"""Prints the learning curve of a training run as CSV, with recall after each validation.

    PYTHONPATH=. python benchmarks/learning_curve.py RUN > benchmarks/NAME.csv

Minutes are those of training, without validation. The loss is the mean since the previous row.
"""

import argparse
import csv
import json
import sys
from pathlib import Path
from statistics import fmean

from mdetr_model.training.training_log import read_log

COLUMNS = ("step", "samples", "minutes", "loss", "recall@1", "recall@5", "recall@10")


def curve(run: Path, every: int) -> list[dict[str, float]]:
    """Returns a row of `COLUMNS` every ``every`` steps, and one for each validation of a run."""
    batch = json.loads((run / "config.json").read_text())["optimizer"]["global_batch_size"]
    rows: list[dict[str, float]] = []
    losses: list[float] = []
    seconds, before = 0.0, 0
    for line in read_log(run):
        step = line["step"]
        if line["kind"] == "train":
            seconds += (step - before) * batch / line["samples_per_second"]
            before = step
            losses.append(line["loss"])
        if losses and (line["kind"] == "validation" or step % every == 0):
            row = {"step": step, "samples": step * batch, "minutes": round(seconds / 60, 1)}
            rows.append({**row, "loss": round(fmean(losses), 2)})
            losses = []
        if line["kind"] == "validation":
            recalls = {
                name.split()[-1]: round(value, 3) for name, value in line.items() if "@" in name
            }
            rows[-1] |= {name: value for name, value in recalls.items() if name in COLUMNS}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="the folder of the run")
    parser.add_argument("--every", type=int, default=1000, help="steps between two lines")
    arguments = parser.parse_args()
    writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(curve(arguments.run, arguments.every))


if __name__ == "__main__":
    main()
