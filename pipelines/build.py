"""The command ``mdetr-build``: raw downloads -> a shard set."""

import argparse
import logging
import sys
from collections.abc import Sequence

from pipelines.interrupts import sigterm_interrupts
from schemas.package_version import package_version
from schemas.toml_config import add_set_option


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a build and returns its exit status.

    0: the manifest was written, or is that of an equal set. 1: the build failed. 3: another build
    writes to the output. 130: interrupted, by Ctrl-C or SIGTERM.

    Raises:
        SystemExit: 2 for usage errors, 0 after ``--help`` and ``--version``.
    """
    with sigterm_interrupts():
        return _main(sys.argv[1:] if argv is None else argv)


def _main(argv: Sequence[str]) -> int:
    # Beam warns at import that BigQuery's client, which is not used here, is not installed.
    logging.getLogger().addFilter(lambda record: "apitools not found" not in record.getMessage())
    if argv[:1] == ["fetch"]:
        from pipelines.fetch.command import main as fetch  # late, as it imports Beam

        return fetch(argv[1:])
    if argv[:1] == ["job"]:
        from pipelines.job_command import main as job  # late, as it imports Beam

        return job(argv[1:])
    parser = make_parser()
    arguments, beam_arguments = parser.parse_known_args(argv)
    if arguments.list:
        from pipelines.fetch.listing import recipe_lines  # late, as it imports Beam

        print("\n".join(recipe_lines()))
        return 0
    if not arguments.recipe or not arguments.output:
        parser.error("a recipe and --output are required; --list shows the recipes")

    if (stray := _stray_argument(beam_arguments)) is not None:
        parser.error(f"unrecognized arguments: {stray}")

    try:
        return _build(parser, arguments, beam_arguments)
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return 130


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command's own options."""
    parser = argparse.ArgumentParser(
        prog="mdetr-build",
        description="Turn raw annotation files and images into a shard set, with Apache Beam.",
        epilog="All other options are passed to Beam: --runner, --direct_num_workers, ... "
        "The default is the local runner with one process per core. "
        "`mdetr-build fetch RECIPE --root ROOT` downloads the raw files of a recipe. "
        "`mdetr-build job ID --job_endpoint HOST:PORT` states how far a job is, or cancels it. "
        "Exit status: 0 done, 1 failed, 2 wrong usage, 3 another build writes to the output, "
        "130 interrupted.",
    )
    parser.add_argument(
        "recipe", nargs="?", help="name of a shipped recipe, or path of a TOML file"
    )
    parser.add_argument(
        "--list", action="store_true", help="list the shipped recipes and their downloads"
    )
    parser.add_argument("--output", help="folder of the shard set: local, gs:// or s3://")
    parser.add_argument("--root", default="", help="base folder of the recipe's relative paths")
    add_set_option(parser)
    parser.add_argument(
        "--rebuild",
        action="store_true",
        help="build a finished shard set of the same recipe again; without it, one that is whole "
        "is left as it is",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace a finished shard set, whatever its recipe",
    )
    parser.add_argument("--strict", action="store_true", help="fail at the first rejected record")
    parser.add_argument(
        "--shared-disk",
        action="store_true",
        help="workers on other machines have the same files under the same local paths",
    )
    parser.add_argument(
        "--detach",
        action="store_true",
        help="leave when the job is submitted, which goes on: on a job server or Dataflow",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars, no summary table")
    parser.add_argument("--version", action="version", version=f"%(prog)s {package_version()}")
    return parser


def _build(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, beam_arguments: Sequence[str]
) -> int:
    # Imported late, because importing Beam takes a second or two.
    from pipelines import launch
    from pipelines.beam.runners import RunnerError

    try:
        launch.run(
            arguments.recipe,
            arguments.output,
            arguments.root,
            beam_arguments,
            overrides=arguments.overrides,
            strict=arguments.strict,
            rebuild=arguments.rebuild,
            overwrite=arguments.overwrite,
            shared_disk=arguments.shared_disk,
            detach=arguments.detach,
            quiet=arguments.quiet,
        )
    except RunnerError as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")  # without the usage of all options
    except (launch.BuildFailedError, launch.BusyError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 3 if isinstance(error, launch.BusyError) else 1
    return 0


def _stray_argument(beam_arguments: Sequence[str]) -> str | None:
    """Returns an argument that is neither an option nor can be the value of one: Beam ignores it.

    >>> _stray_argument(["--runner", "DirectRunner", "--streaming", "--region=x"])
    >>> _stray_argument(["--region=x", "refcoco"])
    'refcoco'
    """
    before = ""
    for argument in beam_arguments:
        if not argument.startswith("-") and (not before.startswith("--") or "=" in before):
            return argument
        before = argument
    return None


if __name__ == "__main__":
    sys.exit(main())
