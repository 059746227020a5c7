"""Writes the metadata of the Flex Template from the options of the command.

python -m pipelines.templates.make_metadata
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

from pipelines.build import make_parser
from pipelines.templates.launcher import SET_SEPARATOR
from schemas.toml_config import shipped_names

PATH = Path(__file__).with_name("metadata.json")
BUCKET_URL = "^(gs|s3)://.+$"
#: Options of the command that a template has, with the patterns of their values.
PATTERNS = {
    "recipe": f"^({'|'.join(map(re.escape, shipped_names('pipelines.recipes')))})$",
    "root": BUCKET_URL,
    "output": BUCKET_URL,
    "set": "^[^=]+=.+$",
    "rebuild": "^(true|false)$",
    "overwrite": "^(true|false)$",
    "strict": "^(true|false)$",
}
#: Options of Beam that `gcloud dataflow flex-template run` has no options for.
OPTIONS_OF_BEAM = {
    "sdk_container_image": (
        "^.+$",
        "image of the workers (default: that of which the template was built)",
    ),
    "resource_hints": ("^min_ram=.+$", "memory of a worker (default: min_ram=4GB)"),
}
#: What help texts state of local files, which a template cannot read.
_OF_LOCAL_FILES = (", or path of a TOML file", "local, ")
_REQUIRED = ("recipe", "root", "output")


def metadata() -> dict[str, Any]:
    """Returns the metadata that `gcloud dataflow flex-template build` takes."""
    parser = make_parser()
    by_name = {_name(action): action for action in parser._actions}
    return {
        "name": "mdetr-build",
        "description": parser.description,
        "parameters": [
            *(_parameter(name, by_name[name].help or "", PATTERNS[name]) for name in PATTERNS),
            *(_parameter(name, text, regex) for name, (regex, text) in OPTIONS_OF_BEAM.items()),
        ],
    }


def _name(action: argparse.Action) -> str:
    return action.option_strings[-1].removeprefix("--") if action.option_strings else action.dest


def _parameter(name: str, help_text: str, regex: str) -> dict[str, Any]:
    for words in _OF_LOCAL_FILES:
        help_text = help_text.replace(words, "")
    text = help_text[0].upper() + help_text[1:]
    text = text.replace("(repeatable)", f"(several: a.b=5{SET_SEPARATOR}c=6)")
    return {
        "name": name,
        "label": name.replace("_", " ").capitalize(),
        "helpText": f"{text}.",
        "isOptional": name not in _REQUIRED,
        "regexes": [regex],
        "paramType": "TEXT",
    }


def text() -> str:
    """Returns the content of the file."""
    return json.dumps(metadata(), indent=2) + "\n"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
