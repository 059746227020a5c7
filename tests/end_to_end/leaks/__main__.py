"""Builds many random recipes, and prints how they ended.

    python -m tests.end_to_end.leaks --recipes 10000 --seed 0 --processes 2

Exit status 1 if any build leaked, merged or lost anything without a word.
"""

import argparse
import functools
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.end_to_end.leaks.trial import Outcome, run_trial


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.end_to_end.leaks", description=__doc__)
    parser.add_argument("--recipes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the first recipe; others follow it")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--show", type=int, default=2, help="errors to print of each kind")
    arguments = parser.parse_args()
    seeds = range(arguments.seed, arguments.seed + arguments.recipes)
    started = time.monotonic()
    outcomes = []
    with (
        tempfile.TemporaryDirectory(prefix="leaks-") as folder,
        multiprocessing.get_context("spawn").Pool(arguments.processes) as pool,
    ):
        run = functools.partial(_run, Path(folder))
        for outcome in pool.imap_unordered(run, seeds, chunksize=4):
            outcomes.append(outcome)
            if len(outcomes) % 500 == 0:
                bad = sum(bool(outcome.errors) for outcome in outcomes)
                print(f"{len(outcomes)} recipes, {bad} with errors", file=sys.stderr, flush=True)
    outcomes.sort(key=lambda outcome: outcome.seed)
    print("\n".join(summary(outcomes, arguments.show)))
    print(f"{time.monotonic() - started:.0f} s")
    return 1 if any(outcome.errors for outcome in outcomes) else 0


def _run(folder: Path, seed: int) -> Outcome:
    return run_trial(seed, folder / multiprocessing.current_process().name)


def summary(outcomes: list[Outcome], show: int) -> list[str]:
    """Returns lines with the number of each result, and the first errors of each kind."""
    lines = [f"{len(outcomes)} recipes from seed {outcomes[0].seed}"]
    results = Counter(outcome.result for outcome in outcomes)
    lines += [f"{count:7} {result}" for result, count in sorted(results.items())]
    excluded = sum(outcome.excluded for outcome in outcomes)
    unknowable = sum(outcome.unknowable for outcome in outcomes)
    lines += [
        f"{excluded:7} captions of held-out images, excluded from train",
        f"{unknowable:7} held-out images in train that no published file links",
        "",
    ]
    kinds = Counter(kind for outcome in outcomes for kind, _ in dict(outcome.errors).items())
    lines.append(f"{kinds.total():7} recipes with errors, by kind")
    for kind, count in kinds.most_common():
        lines.append(f"{count:7} {kind}")
        examples = [
            (outcome.seed, detail)
            for outcome in outcomes
            for kind_of_error, detail in outcome.errors
            if kind_of_error == kind
        ]
        lines += [f"          seed {seed}: {detail}" for seed, detail in examples[:show]]
    return lines


if __name__ == "__main__":
    sys.exit(main())
