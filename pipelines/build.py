"""Raw downloads -> shards: ``python -m pipelines.build RECIPE --output=FOLDER [Beam options]``."""

import argparse
import logging
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a build; the exit status is 0 if its manifest was written."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.build",
        description="Turn raw annotation files and images into a shard set, with Apache Beam.",
        epilog="Every other option goes to Beam: --runner, --direct_num_workers, ... "
        "Without any, the local runner is used with one process a core.",
    )
    parser.add_argument("recipe", nargs="?", help="a recipe's name, or the path of a TOML file")
    parser.add_argument("--list", action="store_true", help="name the recipes that are shipped")
    parser.add_argument("--output", help="folder of the shard set: a local one, gs:// or s3://")
    parser.add_argument("--root", default="", help="where the recipe's relative paths begin")
    parser.add_argument("--overwrite", action="store_true", help="replace a finished shard set")
    parser.add_argument("--strict", action="store_true", help="fail at the first rejected record")
    parser.add_argument("--quiet", action="store_true", help="no progress bars, no closing table")
    arguments, beam_arguments = parser.parse_known_args(argv)

    # Beam warns at import that BigQuery's client is not installed; nothing here asks for it.
    logging.getLogger().addFilter(lambda record: "apitools not found" not in record.getMessage())
    # Beam takes a second or two to import, which --help should not.
    from pipelines import launch, recipe

    if arguments.list:
        print("\n".join(recipe.shipped()))
        return 0
    if not arguments.recipe or not arguments.output:
        parser.error("a recipe and --output are needed; --list names the recipes")
    try:
        launch.run(
            arguments.recipe,
            arguments.output,
            arguments.root,
            beam_arguments,
            strict=arguments.strict,
            overwrite=arguments.overwrite,
            quiet=arguments.quiet,
        )
    except launch.BuildFailedError as error:
        print(f"mdetr-build: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
