"""Reads a TOML file that may extend another one, and applies ``--set a.b=c`` to it.

It reads recipes and training configurations. The result is a plain table, whose keys are validated
by the typed decoder of the caller.
"""

import argparse
import tomllib
from collections.abc import Callable, Iterable
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

Table = dict[str, Any]

_BASE = "base"  # the key for the file that a file extends


class ConfigError(ValueError):
    """A TOML file cannot be found, read or resolved. The message names the file."""


class Override(NamedTuple):
    """One ``--set``: the path of a key, and its new value."""

    keys: tuple[str, ...]
    value: Any

    @property
    def dotted(self) -> str:
        """The path as it is written in messages."""
        return ".".join(self.keys)


def shipped_names(package: str) -> list[str]:
    """Returns the names of the TOML files of a package, without ``.toml``, sorted.

    Files whose names begin with an underscore are only bases of others, and are not listed.
    """
    files = [file.name for file in resources.files(package).iterdir()]
    names = (name.removesuffix(".toml") for name in files if name.endswith(".toml"))
    return sorted(name for name in names if not name.startswith("_"))


def read_config(
    name_or_path: str,
    package: str,
    overrides: Iterable[Override] = (),
    *,
    kind: str = "config",
    normalize: Callable[[Table], Table] = dict,
) -> Table:
    """Reads a TOML file with all its bases, then applies overrides.

    ``base = "NAME"`` at the top of a file names the one that it extends: a shipped one by its name,
    or a file by its path from the folder of the file. Bases may have bases.

    Args:
        name_or_path: A shipped file by name, or any TOML file by path.
        package: The package with the shipped files, for example ``pipelines.recipes``.
        overrides: Applied in order, after all bases.
        kind: What such a file is called in messages.
        normalize: Applied to each file before it is merged, and after each override: writes out
            short forms, so that single keys of them can be changed.

    Raises:
        ConfigError: There is no such file, one of them cannot be read or is not TOML, a base is
            unknown or extends itself, or an override goes through a value that is not a table.
    """
    file = _find(name_or_path, package, Path())
    if file is None:
        raise ConfigError(
            f"no {kind} {name_or_path}: neither a file nor one of "
            f"{', '.join(shipped_names(package))}"
        )
    table = _read_with_bases(file, package, (), normalize)
    for override in overrides:
        table = normalize(apply_overrides(table, [override]))
    return table


def merge_tables(base: Table, changes: Table) -> Table:
    """Returns a base with changes: tables merge recursively, other values replace.

    Keys keep the order of the base; new ones follow. Neither argument is changed.

    >>> merge_tables({"a": {"b": 1, "c": [1, 2]}, "d": 2}, {"a": {"c": [3]}, "e": 4})
    {'a': {'b': 1, 'c': [3]}, 'd': 2, 'e': 4}
    """
    merged = dict(base)
    for key, value in changes.items():
        before = merged.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            value = merge_tables(before, value)
        merged[key] = value
    return merged


def apply_overrides(table: Table, overrides: Iterable[Override]) -> Table:
    """Returns a table with values set, tables on the way to them made where there are none.

    A table replaces a whole table here, in contrast to `merge_tables`.

    >>> apply_overrides({"optimizer": {"lr": 0.1}}, [Override(("optimizer", "lr"), 0.2)])
    {'optimizer': {'lr': 0.2}}

    Raises:
        ConfigError: A key on the way to the value holds something else than a table.
    """
    for override in overrides:
        table = _with_value(table, override, depth=0)
    return table


def parse_override(text: str) -> Override:
    """Parses ``KEY=VALUE``: a dotted TOML key, and a TOML value or a bare word, which is a string.

    >>> parse_override("optimizer.lr=5e-5")
    Override(keys=('optimizer', 'lr'), value=5e-05)
    >>> parse_override("init.tokenizer=roberta-base").value
    'roberta-base'

    Raises:
        argparse.ArgumentTypeError: There is no ``=``, or the key or the value is not TOML.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r}: expected KEY=VALUE")
    try:
        table = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {key!r} is not a TOML key") from error
    keys: list[str] = []
    while isinstance(table, dict):
        if len(table) != 1:  # a key with a line break in it
            raise argparse.ArgumentTypeError(f"{text!r}: expected one key")
        [(name, table)] = table.items()
        keys.append(name)
    return Override(tuple(keys), _parse_value(text, value.strip()))


def add_set_option(parser: argparse.ArgumentParser) -> None:
    """Adds ``--set KEY=VALUE``, repeatable; the namespace gets ``overrides``, a list."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        type=parse_override,
        metavar="KEY=VALUE",
        help="set a key of the TOML file, for example a.b=5 (repeatable)",
    )


def _find(name_or_path: str, package: str, folder: Path) -> Traversable | None:
    """Returns a shipped file, or else one by its path from a folder."""
    shipped = resources.files(package) / f"{name_or_path}.toml"
    if "/" not in name_or_path and shipped.is_file():
        return shipped
    path = folder / name_or_path
    return path if path.is_file() else None


def _read_with_bases(
    file: Traversable,
    package: str,
    extending: tuple[str, ...],
    normalize: Callable[[Table], Table],
) -> Table:
    """Reads a file and its bases; ``extending`` are the files that it is a base of."""
    location = str(file.resolve()) if isinstance(file, Path) else str(file)
    if location in extending:
        cycle = " -> ".join(Path(step).name for step in [*extending, location])
        raise ConfigError(f"{file}: extends itself: {cycle}")
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {file}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not TOML: {error}") from error
    base = table.pop(_BASE, None)
    table = normalize(table)
    if base is None:
        return table
    folder = file.parent if isinstance(file, Path) else Path()
    base_file = _find(base, package, folder) if isinstance(base, str) else None
    if base_file is None:
        raise ConfigError(
            f"{file}: no base {base!r}: neither a file beside it nor one of "
            f"{', '.join(shipped_names(package))}"
        )
    base_table = _read_with_bases(base_file, package, (*extending, location), normalize)
    return merge_tables(base_table, table)


def _with_value(table: Table, override: Override, depth: int) -> Table:
    key = override.keys[depth]
    if depth == len(override.keys) - 1:
        return {**table, key: override.value}
    inner = table.get(key, {})
    if not isinstance(inner, dict):
        before = ".".join(override.keys[: depth + 1])
        raise ConfigError(f"cannot set {override.dotted}: {before} is {inner!r}, not a table")
    return {**table, key: _with_value(inner, override, depth + 1)}


def _parse_value(text: str, value: str) -> Any:
    try:
        table = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError as error:
        if value.startswith(('"', "'", "[", "{")):
            raise argparse.ArgumentTypeError(f"{text!r}: {value} is not a TOML value") from error
        return value
    return table["value"] if len(table) == 1 else value
