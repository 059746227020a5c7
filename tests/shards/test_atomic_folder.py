"""Folders are complete or absent, and replace nothing but what an earlier call wrote."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards import written_files
from shards.atomic_folder import atomic_folder
from tests import foreign_files
from tests.killed import run_until_change


def test_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "far" / "folder"
    with atomic_folder(path) as folder:
        (folder / "file").write_text("new")
        assert not path.exists()
    assert (path / "file").read_text() == "new"
    assert [path.name for path in path.parent.iterdir()] == ["folder"]


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_failure_leaves_no_folder(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), atomic_folder(tmp_path / "folder") as folder:
        (folder / "file").write_text("new")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_folder_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".folder.mdetr-tmp").mkdir()
    (tmp_path / ".folder.mdetr-tmp" / "old").write_text("old")
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "new").write_text("new")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "new"]


def test_folder_with_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(FileExistsError, match="exists already"), atomic_folder(path):
            pass
    assert [path.name for path in tmp_path.rglob("*")] == ["file"]


def test_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "new").write_text("new")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["new"]


def write(path: Path, files: dict[str, str], *, replace: bool = True) -> None:
    """Writes a folder of these files."""
    with atomic_folder(path, replace=replace) as folder:
        for name, content in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(content)


OLD, NEW = {"model": "old", "a/b": "old", "c": "old"}, {"model": "new", "a/b": "new", "d/e": "new"}


def read(path: Path) -> dict[str, str]:
    """Returns the files of a folder, without the record."""
    return {
        name: content.decode()
        for name, content in foreign_files.contents(path, but=[written_files.NAME]).items()
    }


def test_folder_of_an_earlier_call_is_replaced(tmp_path: Path) -> None:
    write(tmp_path / "folder", OLD)
    write(tmp_path / "folder", NEW)
    assert read(tmp_path / "folder") == NEW
    assert not (tmp_path / "folder" / "c").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@given(names=st.lists(foreign_files.names(), min_size=1, max_size=3))
@settings(max_examples=30)
def test_files_of_others_are_never_replaced(names: list[str]) -> None:
    """Whether they were there before, or were added to a folder of an earlier call."""
    with tempfile.TemporaryDirectory() as name:
        for folder, written in ((Path(name) / "new", False), (Path(name) / "old", True)):
            if written:
                write(folder, OLD)
            before = foreign_files.plant(folder, [n for n in names if n not in OLD])
            if before.keys() <= {*OLD, written_files.NAME}:
                continue
            for replace in (False, True):
                with pytest.raises(FileExistsError):
                    write(folder, NEW, replace=replace)
            assert foreign_files.contents(folder) == before
        assert {path.name for path in Path(name).iterdir()} <= {"new", "old"}


def test_file_that_was_added_during_the_block_survives(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write(folder, OLD)
    with pytest.raises(FileExistsError, match="thesis"), atomic_folder(folder, replace=True):
        (folder / "thesis").write_text("precious")
    assert read(folder) == OLD | {"thesis": "precious"}


@pytest.mark.parametrize("added", ["thesis", "a/thesis", "empty/"])
def test_additions_to_a_replaced_folder_are_named(tmp_path: Path, added: str) -> None:
    folder = tmp_path / "folder"
    write(folder, OLD)
    (folder / added).mkdir() if added.endswith("/") else (folder / added).touch()
    with pytest.raises(FileExistsError, match=f"are not listed in .*: {added.rstrip('/')}; they"):
        write(folder, NEW)
    assert (folder / added).exists() and (folder / "model").read_text() == "old"


def test_files_behind_a_link_are_not_deleted(tmp_path: Path) -> None:
    write(tmp_path / "folder", OLD)
    (tmp_path / "folder" / "a").rename(tmp_path / "moved")
    (tmp_path / "folder" / "a").symlink_to(tmp_path / "moved")
    with pytest.raises(FileExistsError, match="are not listed in"):
        write(tmp_path / "folder", NEW)
    assert (tmp_path / "moved" / "b").read_text() == "old"


@pytest.mark.parametrize("name", ["../precious", "/precious", "a/../../precious"])
def test_record_claims_nothing_outside_its_folder(tmp_path: Path, name: str) -> None:
    write(tmp_path / "folder", OLD)
    (tmp_path / "precious").touch()
    record = json.dumps({"files": [name, "model", "c"]})
    (tmp_path / "folder" / written_files.NAME).write_text(record)
    with pytest.raises(ValueError, match="is not a record of written files"):
        write(tmp_path / "folder", NEW)
    assert (tmp_path / "precious").exists() and read(tmp_path / "folder") == OLD


def test_killed_call_leaves_the_old_or_the_new_folder(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for number in range(100):
        shutil.rmtree(tmp_path)
        write(folder, OLD)
        killed = run_until_change(number, tmp_path, write, folder, NEW)
        if not killed:
            break
        if folder.exists():
            assert read(folder) in (OLD, NEW)
        else:
            assert read(tmp_path / ".folder.mdetr-old") == OLD
        write(folder, NEW)
        assert read(folder) == NEW
        assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert 10 < number < 99


def test_folder_is_written_by_one_process_at_a_time(tmp_path: Path) -> None:
    for replace in (False, True):
        folder = tmp_path / str(replace)
        with atomic_folder(folder, replace=replace) as temporary:
            (temporary / "file").write_text("first")
            with pytest.raises(FileExistsError, match="another process is writing"):
                write(folder, NEW, replace=replace)
        assert read(folder) == {"file": "first"}


def test_failed_rename_keeps_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "folder", OLD)
    replace = Path.replace

    def fail_for_temporary(self: Path, target: Path) -> Path:
        if self.name == ".folder.mdetr-tmp":
            raise OSError("no rename")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail_for_temporary)
    with pytest.raises(OSError, match="no rename"):
        write(tmp_path / "folder", NEW)
    assert read(tmp_path / "folder") == OLD
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("path", ["loop", "/"])
def test_path_that_is_no_folder_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for replace in (False, True):
        with pytest.raises(OSError), atomic_folder(tmp_path / path, replace=replace):
            pass


def test_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    with atomic_folder(tmp_path / "link") as folder:
        (folder / "new").write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "new").exists()


def test_file_is_not_replaced_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with (
        pytest.raises(FileExistsError, match="not a folder"),
        atomic_folder(tmp_path / "file", replace=True),
    ):
        pass
    assert (tmp_path / "file").read_text() == "precious"
