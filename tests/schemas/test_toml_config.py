"""TOML files with bases, and ``--set``."""

import argparse
from pathlib import Path
from typing import Any

import pytest

from schemas.toml_config import (
    ConfigError,
    Override,
    add_set_option,
    apply_overrides,
    merge_tables,
    parse_override,
    read_config,
    shipped_names,
)

PACKAGE = "pipelines.recipes"


def write(folder: Path, **files: str) -> Path:
    """Writes TOML files, and returns the path of the first."""
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text)
    return folder / f"{next(iter(files))}.toml"


def read(path: Path, *overrides: Override) -> dict[str, Any]:
    return read_config(str(path), PACKAGE, overrides)


def test_shipped_file_is_read_by_name() -> None:
    assert "demo" in shipped_names(PACKAGE)
    assert read_config("demo", PACKAGE)["name"] == "demo"


def test_file_states_only_what_differs_from_its_base(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        child="base = 'middle.toml'\n[a]\nx = 3\nnew = 4",
        middle="base = 'root.toml'\n[a]\nitems = [9]\n[b]\ny = 'scalar'",
        root="name = 'root'\n[a]\nx = 1\nitems = [1, 2]\n[b.y]\nz = 0",
    )
    assert read(path) == {
        "name": "root",
        "a": {"x": 3, "items": [9], "new": 4},
        "b": {"y": "scalar"},
    }
    assert list(read(path)["a"]) == ["x", "items", "new"]


def test_base_of_a_file_may_be_shipped(tmp_path: Path) -> None:
    path = write(tmp_path, child="base = 'demo'\nname = 'child'")
    assert read(path) == {**read_config("demo", PACKAGE), "name": "child"}


def test_base_path_starts_at_the_folder_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    path = write(tmp_path / "inner", child="base = '../root.toml'")
    write(tmp_path, root="a = 1")
    assert read(path) == {"a": 1}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a": "base = 'a.toml'"}, r"extends itself: a\.toml -> a\.toml"),
        (
            {"a": "base = 'b.toml'", "b": "base = 'a.toml'"},
            r"extends itself: a\.toml -> b\.toml -> a\.toml",
        ),
        ({"a": "base = 'nowhere'"}, r"a\.toml: no base 'nowhere': neither a file .* demo"),
        ({"a": "base = 7"}, "no base 7"),
        ({"a": "base = 'b.toml'", "b": "a = "}, r"b\.toml is not TOML"),
    ],
)
def test_wrong_base_is_an_error_that_names_the_file(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read(write(tmp_path, **files))


def test_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(ConfigError, match=r"no recipe refcok: neither a file nor one of .*refcoco"):
        read_config("refcok", PACKAGE, kind="recipe")


def test_file_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(ConfigError, match=r"cannot read .*a\.toml"):
        read(path)


def test_merge_and_overrides_do_not_change_their_arguments() -> None:
    base = {"a": {"b": 1}}
    merge_tables(base, {"a": {"b": 2}})
    apply_overrides(base, [Override(("a", "b"), 2), Override(("a", "c", "d"), 3)])
    assert base == {"a": {"b": 1}}


def test_overrides_come_after_bases_and_the_last_one_wins(tmp_path: Path) -> None:
    path = write(tmp_path, child="base = 'root.toml'\n[a]\nx = 2", root="[a]\nx = 1")
    overrides = [Override(("a", "x"), 3), Override(("a", "x"), 4), Override(("new", "y"), 5)]
    assert read(path, *overrides) == {"a": {"x": 4}, "new": {"y": 5}}


def test_override_cannot_go_through_a_value_that_is_not_a_table() -> None:
    with pytest.raises(ConfigError, match=r"cannot set a\.b\.c: a\.b is \[1\], not a table"):
        apply_overrides({"a": {"b": [1]}}, [parse_override("a.b.c=1")])


@pytest.mark.parametrize(
    ("text", "keys", "value"),
    [
        ("splits.train.shards=64", ("splits", "train", "shards"), 64),
        ("lr=5e-5", ("lr",), 5e-5),
        ("compile=true", ("compile",), True),
        ("name = 'a b'", ("name",), "a b"),
        ("name=a b", ("name",), "a b"),
        ("salt=", ("salt",), ""),
        ("salt=a=b", ("salt",), "a=b"),
        ("name=a\nb=2", ("name",), "a\nb=2"),
        ("items=[1, 2]", ("items",), [1, 2]),
        ("rules={base = 'mdetr'}", ("rules",), {"base": "mdetr"}),
        ('exclude."refcoco+".refs=[]', ("exclude", "refcoco+", "refs"), []),
    ],
)
def test_override_is_parsed_as_toml(text: str, keys: tuple[str, ...], value: object) -> None:
    assert parse_override(text) == (keys, value)


@pytest.mark.parametrize("text", ["", "lr", "=5", "a..b=5", "a b=5", "a=[1", "a={", "a\nb=5"])
def test_malformed_set_is_a_usage_error(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser(prog="prog")
    add_set_option(parser)
    assert parser.parse_args([]).overrides == []
    with pytest.raises(SystemExit) as end:
        parser.parse_args(["--set", text])
    assert end.value.code == 2
    assert "prog: error: argument --set: " in capsys.readouterr().err
