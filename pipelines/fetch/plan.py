"""What of the published files that a recipe reads is missing below a root folder."""

import shlex
import shutil
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import msgspec

from pipelines.fetch.catalog import Catalog, PublishedFile, bytes_text
from pipelines.fetch.partial_file import partial_bytes


class PlanError(Exception):
    """A recipe's files cannot be fetched as asked; the message says why."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The published files of a recipe, by what is to be done.

    Attributes:
        present: they are there, packed or unpacked.
        missing: a program can download them.
        packed: they are there, and their files are to be extracted.
        by_hand: they are missing, and only a person can get them.
        other_size: paths that have a file of another size than the published one.
        unknown: missing paths of the recipe that no file of the catalog provides.
    """

    present: list[PublishedFile]
    missing: list[PublishedFile]
    packed: list[PublishedFile]
    by_hand: list[PublishedFile]
    other_size: list[PublishedFile]
    unknown: list[str]


def make_plan(
    catalog: Catalog,
    root: Path,
    paths: Iterable[str],
    missing_paths: Collection[str],
    only: Sequence[str] = (),
) -> Plan:
    """Sorts the published files that have the paths of a recipe.

    Args:
        catalog: all published files.
        root: the folder of relative paths.
        paths: all files and folders that the recipe reads, as it states them.
        missing_paths: those that a build would not find.
        only: names of datasets; all if empty.

    Raises:
        PlanError: The recipe reads nothing of one of these datasets.
    """
    paths = list(dict.fromkeys(paths))
    files = catalog.files_for(paths)
    datasets = list(dict.fromkeys(file.dataset for file in files))
    if strangers := [name for name in only if name not in datasets]:
        raise PlanError(
            f"--only {','.join(strangers)}: the recipe's datasets are {', '.join(datasets)}"
        )
    plan = Plan(present=[], missing=[], packed=[], by_hand=[], other_size=[], unknown=[])
    for file in files:
        if not only or file.dataset in only:
            _list_for(plan, file, root, paths, missing_paths).append(file)
    if not only:
        plan.unknown.extend(path for path in catalog.unknown(paths) if path in missing_paths)
    return plan


def _list_for(
    plan: Plan,
    file: PublishedFile,
    root: Path,
    paths: Collection[str],
    missing_paths: Collection[str],
) -> list[PublishedFile]:
    provided = [path for path in file.provides if path in paths]
    target = root / file.path
    if all((root / path).exists() for path in [*provided, *file.present_if]):
        return plan.present
    if target.is_file():
        if file.bytes not in (None, target.stat().st_size):
            return plan.other_size
        return plan.packed if file.unpack else plan.present
    if not file.present_if and not any(path in missing_paths for path in provided):
        return plan.present
    return plan.by_hand if file.by_hand else plan.missing


def check_space(root: Path, files: Iterable[PublishedFile]) -> None:
    """Checks that the disks of a root folder have space for files.

    Raises:
        PlanError: A disk clearly has too little.
    """
    needed: dict[int, int] = defaultdict(int)
    folders: dict[int, Path] = {}
    for file in files:
        target = root / file.path
        folder = _existing(target.parent)
        device = folder.stat().st_dev
        folders[device] = folder
        needed[device] += max(file.estimated_bytes - partial_bytes(target), 0)
    for device, folder in folders.items():
        free = shutil.disk_usage(folder).free
        if needed[device] > free:
            raise PlanError(
                f"the downloads need {bytes_text(needed[device])}, and {folder} has "
                f"{bytes_text(free)} free"
            )


def fetch_hint(
    catalog: Catalog, name: str, recipe_argument: str, root: str, missing_paths: Collection[str]
) -> str:
    """Returns what gets the missing files of a recipe; empty if the catalog does not know them.

    Args:
        catalog: all published files.
        name: of the recipe.
        recipe_argument: name or path of the recipe on the command line.
        root: the folder of relative paths, local or a URL.
        missing_paths: what a build did not find, as the recipe states it.
    """
    folder = shlex.quote(root or ".")
    known = len(missing_paths) - len(catalog.unknown(missing_paths))
    if not known:
        return ""
    if name in catalog.synthetic_recipes:
        return f"mdetr-synthetic --output {folder} writes the files of {name}"
    what = f"{known} of them" if known < len(missing_paths) else "them"
    if "://" in root:
        return f"mdetr-build fetch {shlex.quote(recipe_argument)} gets {what} into a local folder"
    return f"mdetr-build fetch {shlex.quote(recipe_argument)} --root {folder} gets {what}"


def free_space(root: Path) -> int:
    """Returns the free bytes of the disk that has a folder, or will have it."""
    return shutil.disk_usage(_existing(root)).free


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder
