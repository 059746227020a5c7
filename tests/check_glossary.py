"""Checks that the repository uses the field's words: `python tests/check_glossary.py [PATH ...]`.

`docs/glossary.md` lists the words that are replaced. Names (files, functions, classes, variables,
fields, options, TOML keys, columns) and prose (comments, docstrings, messages, documents) have
separate lists, since a word may fit one of them: "learning rate" is prose, `lr` is the name.
"""

import argparse
import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent

# Parts of names, as divided by underscores and capitals: `PictureStore` has the part "picture".
PARTS_OF_NAMES = {
    "picture": "image",
    "pictures": "images",
    "thing": "object",
    "things": "objects",
    "delivery": "slice_output",
    "deliveries": "slice_outputs",
    "catalogue": "image_registry",
    "colour": "color",
    "colours": "colors",
    "colouring": "graph_coloring",
    "brevity": "caption_length_bias",
    "fault": "error",
    "faults": "errors",
    "defect": "corrupted record",
    "defects": "corrupted records",
    "habit": "text_only_baseline",
    "unseen": "text-only sample",
    "alone": "unique_images",
    "piece": "slice",
    "pieces": "slices",
    "told": "a name that says what it holds",
    "composer": "pipeline, build",
    "federated": "lvis",
    "cell": "grid location",
    "cells": "grid locations",
    "centre": "center",
    "optimisation": "optimizer",
    "optimiser": "optimizer",
    "normalise": "normalize",
    "normalised": "normalized",
    "analyser": "parser",
}

# Whole names.
NAMES = {
    "found": "a name that says what it holds",
    "kept": "a name that says what it holds",
    "measured": "a name that says what it holds",
    "of": "a name that says what it holds",
    "own": "a name that says what it holds",
    "compose": "pipeline, build",
    "cut": "slice",
    "cuts": "slices",
    "world": "synthetic dataset (world_size alone stays)",
    "worlds": "synthetic datasets",
    "token_map": "positive_map",
    "token_maps": "positive_maps",
    "picture_of": "image_index",
    "Place": "SampleIndex",
    "together": "captions_per_image",
    "Example": "TrainingSample",
    "Reference": "GroundTruth",
    "Ranks": "DistributedContext, hit ranks",
    "Average": "EMA",
    "averaged": "ema",
    "learning_rate": "lr",
    "image_learning_rate": "lr_backbone",
    "text_learning_rate": "lr_text_encoder",
    "micro_batch": "micro_batch_size",
    "drop_epoch": "lr_drop",
    "no_object_weight": "eos_coef",
    "box_weight": "bbox_loss_coef",
    "giou_weight": "giou_loss_coef",
    "feedforward_size": "encoder_ffn_dim, decoder_ffn_dim",
    "whole_cells": "pad_to_stride",
    "cell_weight": "grid_loss_coef",
    "View": "Resize, EvalTransform",
    "Start": "InitConfig",
    "Records": "LoggingConfig, SourceCounts",
    "starting_model": "init_model",
    "published_names": "key_mapping",
    "rate_rest": "lr/rest",
    "own_pictures": "unique_images",
}

# Patterns of prose, in lower case.
PROSE = {
    r"\bpictures?\b": "image",
    r"\bthings?\b": "object",
    r"\bcatalogue\b": "image registry",
    r"\bcolou?ring\b(?<!coloring)": "graph coloring",
    r"colour": "color",
    r"\bcomposer\b": "pipeline, build",
    r"\bbrevity\b": "caption length bias",
    r"\bfaults?\b": "error",
    r"\bdefects?\b": "corrupted record",
    r"\btoken maps?\b": "positive map",
    r"(?<!yolo-)\bworlds?\b": "synthetic dataset",
    r"\bhabits?\b": "text-only baseline",
    r"\bwords alone\b": "text-only baseline",
    r"\bdeliver(y|ies)\b": "slice output",
    r"\btold\b": "reported, stated",
    r"\bspeaks? of\b": "refers to",
    r"\bsays? of\b": "states about",
    r"\bsaid of\b": "stated about",
    r"\blook(s|ed|ing)? at\b": "checked, read",
    r"\bfrom afar\b": "remote",
    r"\bmade-up\b": "synthetic",
    r"\bat hand\b": "available",
    r"\bnobody('s)?\b": "no one: name who or what",
    r"\b(normal|optim|recogn|serial|organ|initial|summar|general|minim|maxim|parallel)"
    r"is(e|ed|es|ing|ation|er)\b": "US spelling",
    r"\b(neighbour|behaviour|favour|honour|centre|metre|grey|licence)": "US spelling",
    r"\blabelled(?!by)": "US spelling",  # aria-labelledby is an attribute of HTML
}

ALLOWED = {
    # (path or folder, word): why it stays
    ("docs/glossary.md", "*"): "the table itself",
    ("docs/data.md", "world"): "title of a paper",
    ("docs/runners.md", "composer"): "Google's product, which is Airflow",
    ("CHANGELOG.md", "*"): "names of earlier versions",
    ("tests/check_glossary.py", "*"): "the table itself",
    ("pipelines/recipes", "of"): "dataset of an exclusion's ids, as in existing recipes",
    ("pipelines/sources/clevr/phrases.py", "thing"): "a word of CLEVR's questions",
    ("tests/pipelines/sources/test_clevr.py", "thing"): "a word of CLEVR's questions",
    ("tests/pipelines/sources/test_clevr.py", "things"): "a word of CLEVR's questions",
    ("tests/mdetr_model/golden.py", "normalised"): "a key of the golden files",
    ("pipelines/captions/negatives.py", "grey"): "a color in captions, as annotators spell it",
    ("pipelines/synthetic/phrases.py", "grey"): "a synonym in captions, as annotators spell it",
    ("pipelines/synthetic/clevr/questions.py", "thing"): "a word of CLEVR's questions",
}

FOLDERS_OF_CODE = ("schemas", "shards", "pipelines", "mdetr_model", "tests", "benchmarks", "docs")
DOCUMENTS = (".md", ".html", ".css", ".js", ".cff", ".yml", ".yaml", ".svg")
PLAIN = ("Makefile", "Dockerfile", ".ci/run", "pyproject.toml")


class Violation(NamedTuple):
    """A word that the glossary replaces, its location and its replacement."""

    path: str
    line: int
    word: str
    replacement: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.word!r}: use {self.replacement}"


def parts(name: str) -> list[str]:
    """Returns the parts of a name in lower case.

    >>> parts("NoPictureError"), parts("_held_out")
    (['no', 'picture', 'error'], ['held', 'out'])
    """
    return [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def check_name(name: str) -> Iterator[tuple[str, str]]:
    """Yields the replaced words of one name, each with its replacement."""
    if name.strip("_") in NAMES:
        yield name, NAMES[name.strip("_")]
    for part in parts(name):
        if part in PARTS_OF_NAMES:
            yield part, PARTS_OF_NAMES[part]


def check_prose(text: str) -> Iterator[tuple[int, str, str]]:
    """Yields the line, the word and the replacement of every replaced word of a text."""
    for number, line in enumerate(text.splitlines()):
        for pattern, replacement in PROSE.items():
            for match in re.finditer(pattern, line.lower()):
                yield number, match.group(), replacement


def defined_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yields the line and the name of everything that a module defines; not what it only uses."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.alias) and node.asname:
            yield node.lineno, node.asname


def check_python(text: str) -> Iterator[tuple[int, str, str]]:
    """Yields the violations of a module: its names, comments and strings."""
    for line, name in defined_names(ast.parse(text)):
        for word, replacement in check_name(name):
            yield line, word, replacement
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT or token.type == tokenize.STRING:
            for offset, word, replacement in check_prose(token.string):
                yield token.start[0] + offset, word, replacement
        if token.type == tokenize.STRING and re.fullmatch(r"""["'][\w./-]+["']""", token.string):
            for name in re.findall(r"\w+", token.string):  # an option, a key, a column
                for word, replacement in check_name(name):
                    if not (name in NAMES and "_" not in name):  # "of" as data is no name
                        yield token.start[0], word, replacement


def check_toml(text: str) -> Iterator[tuple[int, str, str]]:
    """Yields the violations of a TOML file: its keys, comments and strings of several lines."""
    is_string = False
    for number, line in enumerate(text.splitlines(), start=1):
        code, _, comment = line.partition("#")
        if is_string:
            code, comment = "", line
        is_string ^= line.count('"""') % 2 == 1
        for name in re.findall(r"[\w-]+", re.sub(r'"[^"]*"', "", code.partition("=")[0])):
            for word, replacement in check_name(name.replace("-", "_")):
                yield number, word, replacement
        for _, word, replacement in check_prose(comment):
            yield number, word, replacement


def check_file(path: Path) -> Iterator[Violation]:
    """Yields the violations of one file of the repository, its name included."""
    relative = path.relative_to(REPOSITORY).as_posix()
    for name in re.findall(r"\w+", relative):
        for word, replacement in check_name(name):
            yield Violation(relative, 0, word, replacement)
    if path.suffix not in (".py", ".toml", *DOCUMENTS) and not relative.endswith(PLAIN):
        return
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        words = check_python(text)
    elif path.suffix == ".toml":
        words = check_toml(text)
    else:
        words = ((n + 1, word, new) for n, word, new in check_prose(text))
    for line, word, replacement in words:
        yield Violation(relative, line, word, replacement)


def is_allowed(violation: Violation) -> bool:
    """Returns whether the allow-list has the word for this file or a folder above it."""
    return any(
        (violation.path == place or violation.path.startswith(place + "/"))
        and word in ("*", violation.word)
        for place, word in ALLOWED
    )


def tracked_files(paths: list[str]) -> list[Path]:
    """Returns the files that git knows or would add, below ``paths`` (default: all)."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *paths]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    files = [REPOSITORY / name for name in listed.stdout.splitlines()]
    return [path for path in files if path.is_file() and not path.is_symlink()]


def main() -> int:
    """Prints the violations; returns 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", help="files or folders (default: the repository)")
    arguments = parser.parse_args()
    violations = [
        violation
        for path in tracked_files(arguments.paths)
        for violation in check_file(path)
        if not is_allowed(violation)
    ]
    for violation in violations:
        print(violation)
    print(f"{len(violations)} words that docs/glossary.md replaces", file=sys.stderr)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
