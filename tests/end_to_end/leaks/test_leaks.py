"""No held-out image is trained on, whatever the datasets, ids, splits and exclusions of a recipe.

Small random recipes are built and judged by an oracle that knows which photo every image shows. The
long run: ``python -m tests.end_to_end.leaks --recipes 10000 --processes 2``.
"""

from pathlib import Path

from tests.end_to_end.leaks.outcomes import summary
from tests.end_to_end.leaks.trial import REFERENCE, build, prepare, run_trial
from tests.file_digests import file_digests

RECIPES = 40


def test_random_recipes_leak_and_merge_nothing(tmp_path: Path) -> None:
    outcomes = [run_trial(seed, tmp_path / "trial") for seed in range(RECIPES)]
    assert not any(outcome.errors for outcome in outcomes), "\n".join(summary(outcomes, show=3))
    # The recipes are of both kinds: those that give a shard set, and those that must not.
    built = [outcome for outcome in outcomes if outcome.result in ("clean", "warned")]
    assert len(built) > RECIPES / 3
    assert sum(outcome.excluded for outcome in built) > RECIPES
    assert len({outcome.result for outcome in outcomes}) > 3


def test_eager_runner_builds_the_same_sets_as_beams_own(tmp_path: Path) -> None:
    compared = 0
    for seed in range(100):
        root = tmp_path / str(seed)
        prepare(seed, root)
        if build(root):
            continue
        (root / "shards").rename(root / "eager")
        assert build(root, REFERENCE) == ""
        assert file_digests(root / "shards") == file_digests(root / "eager")
        compared += 1
        if compared == 2:
            return
    raise AssertionError("too many recipes were refused")
