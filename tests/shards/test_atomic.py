"""Files and folders are complete or absent."""

from pathlib import Path

import pytest

from shards.atomic import atomic_folder, atomic_write


def test_file_is_replaced_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    (tmp_path / ".file.tmp").write_bytes(b"of a killed process")
    with atomic_write(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_failure_keeps_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_write(path) as file:
        file.write(b"new")
        raise error
    assert path.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


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
    (tmp_path / ".folder.tmp").mkdir()
    (tmp_path / ".folder.tmp" / "old").write_text("old")
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


def test_folder_with_files_is_overwritten_on_request(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").write_text("old")
    with atomic_folder(tmp_path / "folder", overwrite=True) as folder:
        (folder / "new").write_text("new")
        assert (tmp_path / "folder" / "old").exists()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "new"]


def test_folder_of_a_process_killed_while_replacing_is_put_back(tmp_path: Path) -> None:
    (tmp_path / ".folder.old").mkdir()
    (tmp_path / ".folder.old" / "model").write_text("only copy")
    with pytest.raises(KeyError), atomic_folder(tmp_path / "folder", overwrite=True):
        raise KeyError
    assert (tmp_path / "folder" / "model").read_text() == "only copy"


def test_failed_rename_keeps_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "model").write_text("old")
    replace = Path.replace

    def fail_for_temporary(self: Path, target: Path) -> Path:
        if self.name.endswith(".tmp"):
            raise OSError("no rename")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail_for_temporary)
    with (
        pytest.raises(OSError, match="no rename"),
        atomic_folder(tmp_path / "folder", overwrite=True),
    ):
        pass
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "model"]


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
        atomic_folder(tmp_path / "file", overwrite=True),
    ):
        pass
    assert (tmp_path / "file").read_text() == "precious"


def test_error_has_the_name_of_the_file_and_not_the_temporary_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file/report.html"
    with pytest.raises(NotADirectoryError) as raised, atomic_write(path):
        pass
    assert raised.value.filename == str(path)
