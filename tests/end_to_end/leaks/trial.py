"""One random recipe: written, built in this process and judged."""

import contextlib
import io
import multiprocessing
import shutil
import traceback
from pathlib import Path
from random import Random

from pipelines import launch
from tests import tiny
from tests.end_to_end.leaks.oracle import judge, may_be_refused
from tests.end_to_end.leaks.outcomes import Outcome
from tests.end_to_end.leaks.raw_data import RawData
from tests.end_to_end.leaks.recipes import RandomRecipe, random_recipe
from tests.end_to_end.leaks.truth import random_truth

EAGER = ["--runner=tests.eager_runner.EagerRunner"]
REFERENCE = ["--direct_running_mode=in_memory"]  # Beam's own runner


def prepare(seed: int, root: Path) -> RandomRecipe:
    """Writes the raw files and the recipe of a seed to an empty folder."""
    rng = Random(seed)
    recipe = None
    while recipe is None:
        shutil.rmtree(root, ignore_errors=True)
        recipe = random_recipe(RawData(root, random_truth(rng), rng))
    tiny.write_recipe(root / "recipe.toml", name="leaks", **recipe.tables)
    return recipe


def build(root: Path, runner: list[str] = EAGER) -> str:
    """Builds the recipe of a folder; returns why it was refused, empty if it was not."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # warnings, which the manifest has, too
            launch.run(
                str(root / "recipe.toml"), str(root / "shards"), str(root), runner, quiet=True
            )
    except launch.BuildFailedError as error:
        return str(error) or "no message"
    return ""


def run_trial(seed: int, root: Path) -> Outcome:
    recipe = prepare(seed, root)
    try:
        refusal = build(root)
        if refusal:
            reason = may_be_refused(recipe, refusal)
            if reason is not None:
                return Outcome(seed, f"refused: {reason}")
            return Outcome(seed, "refused wrongly", [("refused wrongly", refusal)])
        verdict = judge(recipe, root / "shards")
    except Exception:
        return Outcome(seed, "crash", [("crash", traceback.format_exc())])
    result = "errors" if verdict.errors else "warned" if verdict.warned else "clean"
    return Outcome(seed, result, verdict.errors, verdict.excluded, verdict.unknowable)


def run_trial_in_process(folder: Path, seed: int) -> Outcome:
    """Runs a trial in a folder that no other process has."""
    return run_trial(seed, folder / multiprocessing.current_process().name)
