"""Builds into one output in a bucket at random times, of which some are killed or sleep.

    python -m tests.pipelines.test_two_builds_in_a_bucket --seeds 100 --scheme s3

These builds write the files of two recipes as real ones do, of the same names and with different
contents, but run no pipeline. A reader checks meanwhile that whenever there is a manifest, all
files that it lists are there with the content that it states.
"""

import argparse
import contextlib
import hashlib
import multiprocessing
import os
import random
import signal
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from pipelines.io import lease
from pipelines.io.beam_files import atomic_write, scratch_folder
from pipelines.io.lease import LeaseHeldError, LeaseLostError, held
from pipelines.output_folder import TABLES, OutputFolder, file_names
from pipelines.recipe import Recipe, load
from schemas.toml_config import parse_override
from shards.format import manifest as mf
from shards.format.manifest import FileEntry, ShardEntry
from shards.format.placement import index_name
from tests import tiny
from tests.buckets import serve_bucket, store
from tests.shard_sets import write_shard_set

SEEDS = 3  # `main` runs more, also on Google Cloud Storage
TERM = 0.6  # seconds
BUSY, LOST = 3, 1  # exit statuses of a build
SHARDS = 3
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.pipelines.test_two_builds_in_a_bucket"])


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> list[Recipe]:
    return two_recipes(tmp_path_factory.mktemp("recipe"))


def two_recipes(folder: Path) -> list[Recipe]:
    """Returns recipes whose sets have the same names of files."""
    vg = tiny.write_vg(folder, [tiny.vg_image(1)], [])
    path = str(tiny.write_recipe(folder / "recipe.toml", sources={"vg": vg}))
    shards = parse_override(f"splits.train.shards={SHARDS}")
    return [load(path, str(folder), [shards, parse_override(f"salt={salt}")]) for salt in "ab"]


def content(recipe: Recipe, name: str) -> bytes:
    return f"{name} of the recipe {recipe.sha256()}".encode()


def manifest_of(recipe: Recipe) -> mf.Manifest:
    with tempfile.TemporaryDirectory() as folder:
        manifest = mf.load(write_shard_set(Path(folder), [[1]]))
    manifest.recipe_sha256 = recipe.sha256()
    sizes_and_hashes = {
        name: (len(content(recipe, name)), hashlib.sha256(content(recipe, name)).hexdigest())
        for name in sorted(file_names(recipe) - {mf.NAME})
    }
    manifest.shards = [
        ShardEntry(
            *(name, "train", *sizes_and_hashes[name], 0, 0),
            index=FileEntry(index, *sizes_and_hashes[index]),
            licenses=[0],
        )
        for name in sizes_and_hashes
        if (index := index_name(name)) in sizes_and_hashes
    ]
    manifest.files = [FileEntry(name, *sizes_and_hashes[name]) for name in TABLES]
    return manifest


def build(output: str, recipe: Recipe, environment: dict[str, str], pause: float) -> None:
    """Writes a set, with a pause of at most some seconds before each file; ends the process."""
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    lease.TERM = TERM
    manifest = manifest_of(recipe)
    try:
        with held(output) as holder:
            folder = OutputFolder(output, recipe, holder)
            folder.prepare(overwrite=True)
            for name in [*sorted(file_names(recipe) - {mf.NAME}), mf.NAME]:
                time.sleep(random.uniform(0, pause))
                scratch = scratch_folder(output, holder)
                with atomic_write(f"{output}/{name}", scratch, holder) as file:
                    file.write(mf.encode(manifest) if name == mf.NAME else content(recipe, name))
            folder.finish(manifest)
    except LeaseHeldError:
        os._exit(BUSY)
    except LeaseLostError:
        os._exit(LOST)
    os._exit(0)


class Output:
    """The output of several builds."""

    def __init__(self, url: str, recipes: list[Recipe]) -> None:
        self.url = url
        self.recipes = recipes
        self._store = store(url)

    def start(self, recipe: Recipe, environment: dict[str, str], pause: float) -> BaseProcess:
        process = _context.Process(target=build, args=(self.url, recipe, environment, pause))
        process.start()
        return process

    def check(self) -> bool:
        """Returns whether there is a set, which must be whole, and of one recipe."""
        before = self._read(mf.NAME)
        if before is None:
            return False
        manifest = mf.decode(before, self.url)
        entries = manifest.entries()
        wrong = []
        for entry in entries:
            stored = self._read(entry.file)
            if stored is None or hashlib.sha256(stored).hexdigest() != entry.sha256:
                wrong.append((entry.file, stored))
        # Another build may have begun to replace the set: it deletes the manifest first.
        if self._read(mf.NAME) == before:
            assert not wrong, wrong
        return True

    def names(self) -> set[str]:
        prefix = f"{self.url.partition('://')[2]}/"
        return {path.removeprefix(prefix) for path in self._store.find(self.url)}

    def _read(self, name: str) -> bytes | None:
        try:
            stored: bytes = self._store.cat_file(f"{self.url}/{name}")
            return stored
        except FileNotFoundError:
            return None


def run_randomly(output: Output, environment: dict[str, str], seed: int) -> list[str]:
    """Starts, kills, stops and wakes up builds; then checks what an undisturbed one leaves.

    Returns:
        What was done, and the exit statuses.
    """
    choices = random.Random(seed)
    builds: list[BaseProcess] = []
    sleeping: list[BaseProcess] = []
    log: list[str] = []
    try:
        for _ in range(choices.randint(3, 5)):
            builds.append(output.start(choices.choice(output.recipes), environment, 0.15))
            # Until something happens to it, and until the next one begins.
            for action in (choices.choice(["kill", "stop", "stop", "nothing"]), "nothing"):
                _check_for(output, choices.uniform(0.0, 2 * TERM))
                _act(action, builds[-1], sleeping)
                log.append(action)
            if sleeping and choices.random() < 0.5:
                _wake_up(sleeping.pop(choices.randrange(len(sleeping))))
                log.append("wake up")
        last = _build_until_not_busy(output, environment, choices.choice(output.recipes))
        for process in sleeping:  # after the last one has finished
            _wake_up(process)
        for process in builds:
            process.join(120)
            assert process.exitcode in (0, LOST, BUSY, -signal.SIGKILL), process.exitcode
            log.append(f"status {process.exitcode}")
    finally:
        for process in builds:
            process.kill()
            process.join()
    assert output.check()
    names = output.names()
    assert names >= file_names(last) and lease.NAME not in names
    # Of a build that was killed after the last one had finished, nothing but a temporary file.
    assert all(n.startswith(".mdetr-build/") for n in names - file_names(last)), names
    return log


def _act(action: str, process: BaseProcess, sleeping: list[BaseProcess]) -> None:
    if process.is_alive() and action != "nothing":
        os.kill(process.pid or 0, signal.SIGKILL if action == "kill" else signal.SIGSTOP)
        if action == "stop":
            sleeping.append(process)


def _wake_up(process: BaseProcess) -> None:
    """Continues a stopped process, unless it had ended before it could be stopped."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid or 0, signal.SIGCONT)


def _check_for(output: Output, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        output.check()
        time.sleep(0.01)


def _build_until_not_busy(output: Output, environment: dict[str, str], recipe: Recipe) -> Recipe:
    """Builds as soon as no other build holds the lease, and checks while it runs."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        process = output.start(recipe, environment, 0.0)
        while process.is_alive():
            output.check()
            time.sleep(0.01)
        if process.exitcode == 0:
            return recipe
        assert process.exitcode in (LOST, BUSY), process.exitcode
    raise TimeoutError("the lease was never free")


@pytest.mark.parametrize("bucket", ["s3"], indirect=True)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_set_is_ever_mixed_or_incomplete(bucket: str, recipes: list[Recipe], seed: int) -> None:
    run_randomly(Output(f"{bucket}/{seed}", recipes), dict(os.environ), seed)


def main() -> None:
    """Runs as many seeds as are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--scheme", choices=("s3", "gs"), default="s3")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        recipes = two_recipes(Path(folder))
        with serve_bucket(arguments.scheme, Path(folder)) as bucket:
            for seed in range(arguments.seeds):
                output = Output(f"{bucket}/{seed}", recipes)
                log = run_randomly(output, dict(os.environ), seed)
                print(f"seed {seed}: {', '.join(log)}", flush=True)


if __name__ == "__main__":
    main()
