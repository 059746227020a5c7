"""``mdetr-build fetch``: downloads the published files that a recipe reads and that are missing."""

import argparse
import contextlib
import datetime
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from pipelines.fetch.catalog import (
    Catalog,
    CatalogError,
    PublishedFile,
    bytes_text,
    read_catalog,
    size_text,
)
from pipelines.fetch.download import Fetched, FetchError, Wanted, download
from pipelines.fetch.partial_file import DiskError, remove_leftovers
from pipelines.fetch.plan import Plan, PlanError, check_space, free_space, make_plan
from pipelines.fetch.record import (
    NAME,
    FetchedFile,
    FetchRecord,
    RecordError,
    add_to_record,
    differences,
    read_record,
)
from pipelines.fetch.unpack import UnpackError, unpack
from pipelines.io.folder_lock import FolderLockError, folder_lock
from pipelines.recipe import Recipe, RecipeError, load, missing_paths
from schemas.toml_config import add_set_option

PROGRAM = "mdetr-build fetch"


def main(argv: Sequence[str]) -> int:
    """Downloads the missing files of a recipe, and returns the exit status.

    0: all files that a program can fetch are there. 1: some are not. 130: interrupted.

    Raises:
        SystemExit: 2 for usage errors, 0 after ``--help``.
    """
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Download the published files that a recipe reads and that are not in ROOT. "
        "An interrupted download is resumed by the same command.",
    )
    parser.add_argument("recipe", help="name of a shipped recipe, or path of a TOML file")
    parser.add_argument("--root", required=True, help="base folder of the downloads")
    parser.add_argument(
        "--only",
        default=[],
        type=lambda text: [name for name in text.split(",") if name],
        metavar="DATASET,...",
        help="only the files of these datasets, for example coco,vg",
    )
    parser.add_argument("--dry-run", action="store_true", help="list the files, write nothing")
    parser.add_argument(
        "--expect",
        type=Path,
        metavar="RECORD",
        help=f"{NAME} of another machine: fail where a file differs from it",
    )
    parser.add_argument(
        "--catalog",
        type=Path,
        metavar="FILE",
        help="a TOML file in the form of pipelines/fetch/catalog.toml, for example with addresses "
        "of mirrors",
    )
    add_set_option(parser)
    arguments = parser.parse_args(argv)
    if "://" in arguments.root:
        parser.error(f"--root {arguments.root}: expected a local folder")
    try:
        return _fetch(arguments)
    except (
        *(CatalogError, DiskError, FolderLockError),
        *(PlanError, RecipeError, RecordError),
    ) as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted; the same command continues", file=sys.stderr)
        return 130


def _fetch(arguments: argparse.Namespace) -> int:
    catalog = read_catalog(arguments.catalog)
    recipe = load(arguments.recipe, overrides=arguments.overrides)
    root = Path(arguments.root)
    if recipe.name in catalog.synthetic_recipes:
        raise PlanError(
            f"{recipe.name} reads generated data, which mdetr-synthetic "
            f"--output {shlex.quote(str(root))} writes"
        )
    expected = read_record(arguments.expect) if arguments.expect else FetchRecord()
    plan = _plan(catalog, recipe, root, arguments.only)
    print(_report(plan, catalog, root))
    check_space(root, plan.missing)
    if arguments.dry_run:
        return 0
    failures = len(plan.other_size)
    if plan.missing or plan.packed:
        with _lock(root):
            # Another process may have downloaded since.
            plan = _plan(catalog, recipe, root, arguments.only)
            failures += _download_all(plan.missing, root, expected)
            failures += _unpack_all([*plan.packed, *plan.missing], root)
    if (root / NAME).exists():
        for text in differences(read_record(root / NAME), expected):
            failures += _report_failure(text)
    if failures:
        print(f"{PROGRAM}: {failures} failed, see above", file=sys.stderr)
        return 1
    if not arguments.only:
        print(_next_step(plan, arguments.recipe, root))
    return 0


def _report_failure(text: str) -> int:
    """Prints an error above the progress bars, and returns 1: the number of failures."""
    tqdm.write(f"{PROGRAM}: error: {text}", file=sys.stderr)
    return 1


def _plan(catalog: Catalog, recipe: Recipe, root: Path, only: Sequence[str]) -> Plan:
    missing = missing_paths(recipe, str(root))
    return make_plan(catalog, root, recipe.paths(), missing, only)


# --- downloads ------------------------------------------------------------------------------------


def _lock(root: Path) -> contextlib.AbstractContextManager[None]:
    """Waits until no other process downloads to a folder."""

    def report() -> None:
        print(f"waiting for another {PROGRAM} that downloads to {root}", file=sys.stderr)

    return folder_lock(root, report)


def _download_all(files: Sequence[PublishedFile], root: Path, expected: FetchRecord) -> int:
    """Downloads files with a bar each and one for all; returns how many failed."""
    failures = 0
    total = sum(file.estimated_bytes for file in files)
    with _bar("all files", total, position=0) as overall:
        for file in files:
            target = root / file.path
            remove_leftovers(target)
            try:
                with _bar(file.path, file.estimated_bytes, position=1) as bar:
                    fetched = _download_one(file, root, expected, [overall, bar])
            except FetchError as error:
                failures += _report_failure(str(error))
            else:
                checked = "checked" if file.sha256 or file.md5 else "no published checksum"
                tqdm.write(
                    f"{file.path}: {bytes_text(fetched.bytes)} from {fetched.address}, sha256 "
                    f"{fetched.sha256} ({checked})"
                )
    return failures


def _download_one(
    file: PublishedFile, root: Path, expected: FetchRecord, bars: Sequence[tqdm]
) -> Fetched:
    other = expected.files.get(file.path)
    wanted = Wanted(
        name=file.path,
        addresses=file.addresses,
        bytes=file.bytes or (other.bytes if other else None),
        sha256=file.sha256 or (other.sha256 if other else ""),
        md5=file.md5,
    )

    def record(fetched: Fetched) -> None:
        now = datetime.datetime.now(datetime.UTC)
        date = now.isoformat(timespec="seconds")
        entry = FetchedFile(
            bytes=fetched.bytes,
            sha256=fetched.sha256,
            md5=fetched.md5,
            address=fetched.address,
            date=date,
        )
        add_to_record(root / NAME, file.path, entry)

    def advance(count: int) -> None:
        for bar in bars:
            bar.update(count)

    return download(wanted, root / file.path, advance, before_rename=record)


def _bar(name: str, total: int, position: int) -> tqdm:
    """Returns a progress bar of bytes, which is shown on a terminal only."""
    return tqdm(
        desc=name,
        total=total or None,
        unit="B",
        unit_scale=True,
        position=position,
        leave=position == 0,
        disable=None,
    )


def _unpack_all(files: Sequence[PublishedFile], root: Path) -> int:
    failures = 0
    for file in files:
        if file.unpack and (root / file.path).exists():
            try:
                for path in unpack(root, file):
                    print(f"{path}: unpacked from {file.path}")
            except UnpackError as error:
                failures += _report_failure(str(error))
    return failures


# --- texts ----------------------------------------------------------------------------------------


def _report(plan: Plan, catalog: Catalog, root: Path) -> str:
    """Returns what is there, what is missing, its size, terms and addresses."""
    lines = []
    if plan.present:
        lines += [f"in {root}:", *(f"  {file.path}" for file in plan.present)]
    if plan.packed:
        lines += ["to be unpacked:", *(f"  {file.path}" for file in plan.packed)]
    if plan.missing:
        free = bytes_text(free_space(root))
        lines.append(f"to be downloaded: {size_text(plan.missing)}; {root} has {free} free")
        for file in plan.missing:
            then = ", then unpacked" if file.unpack else ""
            lines.append(f"  {file.path}: {file.size_text}{then}")
            lines += [f"      {address}" for address in file.addresses]
    if plan.by_hand:
        lines.append("by hand, as no program can fetch it:")
        for file in plan.by_hand:
            lines += [f"  {file.path}: {file.size_text}", f"      {file.by_hand}"]
    if plan.other_size:
        lines += ["of another size than the published file:"]
        lines += [f"  {_other_size_text(root, file)}" for file in plan.other_size]
    if plan.unknown:
        lines += ["not in the catalog of published files:", *(f"  {p}" for p in plan.unknown)]
    lines += _terms([*plan.missing, *plan.by_hand], catalog)
    return "\n".join(lines)


def _terms(files: Sequence[PublishedFile], catalog: Catalog) -> list[str]:
    datasets = catalog.datasets
    names = list(dict.fromkeys(file.dataset for file in files))
    texts = [f"  {datasets[name].title}: {datasets[name].license}" for name in names]
    return ["licenses and terms:", *texts] if texts else []


def _other_size_text(root: Path, file: PublishedFile) -> str:
    size = (root / file.path).stat().st_size
    return (
        f"{file.path} has {size} bytes, the published file {file.bytes}: move it away and fetch "
        "again"
    )


def _next_step(plan: Plan, recipe_argument: str, root: Path) -> str:
    missing = [*(file.path for file in plan.by_hand), *plan.unknown]
    if missing:
        return f"still missing, see above: {', '.join(missing)}"
    return (
        f"next: mdetr-build {shlex.quote(recipe_argument)} --root={shlex.quote(str(root))} "
        "--output=SHARDS"
    )
