"""Files are complete or absent."""

import errno
import os
from pathlib import Path

import pytest

from shards.atomic import atomic_write


def test_file_is_replaced_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    (tmp_path / ".file.mdetr-tmp").write_bytes(b"of a killed process")
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


def test_error_has_the_name_of_the_file_and_not_the_temporary_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file/report.html"
    with pytest.raises(NotADirectoryError) as raised, atomic_write(path):
        pass
    assert raised.value.filename == str(path)


def test_file_is_written_by_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_write(path) as file:
        file.write(b"first")
        with pytest.raises(FileExistsError, match="another process is writing"), atomic_write(path):
            pass
    assert path.read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".file.mdetr-lock").touch()
    with atomic_write(tmp_path / "file") as file:
        file.write(b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_file_of_others_with_a_common_temporary_name_survives(tmp_path: Path) -> None:
    (tmp_path / ".file.tmp").write_bytes(b"of another program")
    with atomic_write(tmp_path / "file") as file:
        file.write(b"new")
    assert (tmp_path / ".file.tmp").read_bytes() == b"of another program"


def test_error_of_a_full_disk_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError) as raised, atomic_write(tmp_path / "file"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert raised.value.filename == str(tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_message_of_an_error_is_kept(tmp_path: Path) -> None:
    message = "^there is no model$"
    with pytest.raises(OSError, match=message), atomic_write(tmp_path / "file"):
        raise FileNotFoundError("there is no model")
