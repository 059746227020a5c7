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
from pathlib import Path

from tests.end_to_end.leaks.outcomes import summary
from tests.end_to_end.leaks.trial import run_trial_in_process


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
        run = functools.partial(run_trial_in_process, Path(folder))
        for outcome in pool.imap_unordered(run, seeds, chunksize=4):
            outcomes.append(outcome)
            if len(outcomes) % 500 == 0:
                bad = sum(bool(outcome.errors) for outcome in outcomes)
                print(f"{len(outcomes)} recipes, {bad} with errors", file=sys.stderr, flush=True)
        pool.close()
        pool.join()
    outcomes.sort(key=lambda outcome: outcome.seed)
    print("\n".join(summary(outcomes, arguments.show)))
    print(f"{time.monotonic() - started:.0f} s")
    return 1 if any(outcome.errors for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
