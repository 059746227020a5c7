"""Files below a root: the same file by the same path in a folder, a zip and a tar."""

import bz2
import gzip
import lzma
import os
import shutil
import subprocess
import tempfile
import unicodedata
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.io.file_roots import (
    UnreadableFileError,
    UnsafeNameError,
    check_name,
    check_root,
    open_root,
    read_from,
)
from pipelines.io.members import AmbiguousNameError
from pipelines.io.raw_files import RawFileError
from tests import tiny

reuses_files = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
SIZE = 1000


def read(path: Path | str, name: str) -> bytes | None:
    return read_from([open_root(str(path))], name, SIZE)


@pytest.fixture(params=[".zip", ".tar"])
def ending(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def write(path: Path, members: dict[str, bytes]) -> Path:
    return (tiny.write_zip if path.suffix == ".zip" else tiny.write_tar)(path, members)


def archive(tmp_path: Path, ending: str, *names: str) -> Path:
    """Returns a zip or tar whose members contain their own paths."""
    return write(tmp_path / f"images{ending}", {name: name.encode() for name in names})


# --- which member is meant ------------------------------------------------------------------------


def test_member_is_found_by_its_path_below_the_common_folders(tmp_path: Path, ending: str) -> None:
    path = archive(
        tmp_path, ending, "a/b/coco/7.jpg", "a/b/vg/7.jpg", "a/b/8.jpg", "__MACOSX/x/._8.jpg"
    )
    assert read(path, "coco/7.jpg") == read(path, "a/b/coco/7.jpg") == b"a/b/coco/7.jpg"
    assert read(path, "vg/7.jpg") == b"a/b/vg/7.jpg"
    assert read(path, "8.jpg") == b"a/b/8.jpg"


def test_name_without_a_folder_is_found_where_it_is_unique(tmp_path: Path, ending: str) -> None:
    path = archive(tmp_path, ending, "VG_100K/1.jpg", "VG_100K_2/2.jpg", "readme.txt")
    assert read(path, "1.jpg") == b"VG_100K/1.jpg"
    assert read(path, "2.jpg") == b"VG_100K_2/2.jpg"
    assert read(path, "3.jpg") is None


def test_file_of_another_folder_is_never_taken(tmp_path: Path, ending: str) -> None:
    path = archive(tmp_path, ending, "images/coco/7.jpg", "images/8.jpg")
    for name in ("vg/7.jpg", "images/7.jpg", "oco/7.jpg", "coco/8.jpg", "x/images/coco/7.jpg"):
        assert read(path, name) is None


def test_name_in_several_folders_is_ambiguous_unless_the_contents_are_equal(
    tmp_path: Path, ending: str
) -> None:
    path = archive(tmp_path, ending, "coco/7.jpg", "vg/7.jpg", "x/coco/7.jpg")
    with pytest.raises(
        AmbiguousNameError, match=r"7\.jpg: 3 files in the (zip|tar): coco/7\.jpg, vg/7"
    ):
        read(path, "7.jpg")
    assert read(path, "coco/7.jpg") == b"coco/7.jpg"  # the path itself, not the end of one
    same = write(tmp_path / f"same{ending}", {"a/7.jpg": b"1", "b/7.jpg": b"1"})
    assert read(same, "7.jpg") == b"1"


def test_names_that_differ_in_case_only_are_ambiguous(tmp_path: Path, ending: str) -> None:
    path = archive(tmp_path, ending, "a/7.jpg", "a/7.JPG", "A/8.jpg", "b/9.JPG")
    for name in ("7.jpg", "a/7.JPG"):
        with pytest.raises(AmbiguousNameError, match="2 files"):
            read(path, name)
    assert read(path, "9.jpg") is None  # as in a folder
    assert read(path, "a/8.jpg") is None
    assert read(path, "b/9.JPG") == b"b/9.JPG"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_member_that_is_twice_in_the_archive_is_ambiguous(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"images{ending}", {"7.jpg": b"one", "8.jpg": b"same"})
    if ending == ".zip":
        with zipfile.ZipFile(path, "a") as opened:
            opened.writestr("7.jpg", b"two")
            opened.writestr("8.jpg", b"same")
    else:
        more = write(tmp_path / "more.tar", {"7.jpg": b"two", "8.jpg": b"same"})
        path.write_bytes(path.read_bytes()[:2048] + more.read_bytes())
    with pytest.raises(AmbiguousNameError, match="2 files"):
        read(path, "7.jpg")
    assert read(path, "8.jpg") == b"same"


def test_path_in_any_root_precedes_the_end_of_a_path(tmp_path: Path, ending: str) -> None:
    first = write(tmp_path / f"first{ending}", {"coco/7.jpg": b"coco", "8.jpg": b""})
    second = tiny.write(tmp_path / "second/7.jpg", b"itself")
    roots = [open_root(str(first)), open_root(str(second.parent))]
    assert read_from(roots, "7.jpg", SIZE) == b"itself"
    third = tiny.write_zip(tmp_path / "third.zip", {"vg/7.jpg": b"vg", "8.jpg": b""})
    with pytest.raises(AmbiguousNameError):
        read_from([roots[0], open_root(str(third))], "7.jpg", SIZE)


def test_folder_in_an_archive_is_a_root(tmp_path: Path, ending: str) -> None:
    path = archive(
        tmp_path, ending, "v1/images/train/7.jpg", "v1/images/val/7.jpg", "v1/readme.txt"
    )
    assert read(f"{path}/v1/images/val", "7.jpg") == b"v1/images/val/7.jpg"
    assert read(f"{path}/v1/images/", "train/7.jpg") == b"v1/images/train/7.jpg"
    check_root(f"{path}/v1/images/val")
    with pytest.raises(RawFileError, match=r"images\.(zip|tar) has no files in a folder v1/test"):
        check_root(f"{path}/v1/test")


def test_folder_whose_name_ends_in_zip_is_a_folder(tmp_path: Path) -> None:
    tiny.write(tmp_path / "images.zip/a/7.jpg", b"7")
    assert read(tmp_path / "images.zip", "a/7.jpg") == b"7"
    assert read(tmp_path / "images.zip/a", "7.jpg") == b"7"


# --- names ----------------------------------------------------------------------------------------

parts = st.text(
    st.sampled_from("aB7()[]{}*?%#&;:' !~\u00e9\u0301\u4e2d+@=,$-_"), min_size=1
).filter(lambda part: part.strip(".") and not part.startswith("._"))


@given(st.lists(parts, min_size=1, max_size=3).map("/".join).map(lambda name: f"{name}.jpg"))
@reuses_files
def test_folder_and_archives_hold_the_same_file_under_any_name(tmp_path: Path, name: str) -> None:
    check_name(name)
    target = tmp_path / "folder" / name
    try:
        tiny.write(target, name.encode())
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        return  # an earlier name is a folder of this one
    assert read(tmp_path / "folder", name) == name.encode()
    for packed in (tmp_path / "one.zip", tmp_path / "one.tar"):
        write(packed, {name: name.encode(), "other/x.txt": b""})
        assert read(packed, name) == name.encode()


few_parts = st.sampled_from(["a", "A", "b", "7.jpg", "7.JPG", "ü.jpg", "u\u0308.jpg", "._7.jpg"])
few_paths = st.lists(few_parts, min_size=1, max_size=3).map("/".join)


@given(
    members=st.lists(st.tuples(few_paths, st.binary(max_size=1)), max_size=6),
    wanted=few_paths,
    below=st.sampled_from(["", "/a", "/a/b"]),
)
@reuses_files
def test_zip_and_tar_have_the_same_file_or_error_for_any_members(
    tmp_path: Path, members: list[tuple[str, bytes]], wanted: str, below: str
) -> None:
    outcomes = []
    for name in ("one.zip", "one.tar"):
        path = write(tmp_path / name, dict(members))
        try:
            outcomes.append(read(f"{path}{below}", wanted))
        except AmbiguousNameError as error:
            outcomes.append(str(error).replace("in the tar", "in the zip"))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_are_found_in_either_form(tmp_path: Path, form: str) -> None:
    stored = unicodedata.normalize(form, "fünf.jpg")  # type: ignore[arg-type]
    tiny.write(tmp_path / "folder" / stored, b"5")
    zipped = tiny.write_zip(tmp_path / "one.zip", {stored: b"5"})
    tarred = tiny.write_tar(tmp_path / "one.tar", {stored: b"5"})
    for wanted in ("NFC", "NFD"):
        name = unicodedata.normalize(wanted, "fünf.jpg")  # type: ignore[arg-type]
        assert read(tmp_path / "folder", name) == b"5"
        assert read(zipped, name) == read(tarred, name) == b"5"


def test_utf8_name_that_the_zip_does_not_mark_is_found(tmp_path: Path) -> None:
    """As macOS writes them."""
    path = tiny.write_zip(tmp_path / "one.zip", {"fünf.jpg": b"5"})
    content = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(signature) + flags + 1] &= ~8
    path.write_bytes(content)
    with zipfile.ZipFile(path) as opened:
        assert opened.namelist() != ["fünf.jpg"]
    assert read(path, "fünf.jpg") == b"5"


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../x", "a/../x", "/x", "a//x", "./x", "a\\x", "a\0x", "a\nx"),
        *("é" * 128, "a/" * 600 + "x", "\ud800.jpg", "s3://bucket/x", "C:\\x"),
    ],
)
def test_name_that_leaves_its_root_is_unsafe(name: str) -> None:
    with pytest.raises(UnsafeNameError):
        check_name(name)


def test_name_is_never_part_of_a_url(tmp_path: Path) -> None:
    """fsspec would read "::file:" as a file of another system, and "?" as a pattern."""
    secret = tiny.write(tmp_path / "secret.jpg", b"secret")
    (tmp_path / "root").mkdir()
    root = open_root(f"file://{tmp_path}/root")
    for name in (f"x::file:{secret}", "::secret.jpg", "?.jpg", "*"):
        assert read_from([root], name, SIZE) is None
    tiny.write(tmp_path / "root/a?[1]::%41.jpg", b"1")
    assert read_from([root], "a?[1]::%41.jpg", SIZE) == b"1"


# --- what is no root, and what is no file ---------------------------------------------------------


@pytest.mark.parametrize("name", ["images.tar.gz", "images.rar", "images", "images.jpg"])
def test_other_file_is_no_root(tmp_path: Path, name: str) -> None:
    path = tiny.write(tmp_path / name, b"\x1f\x8b" + bytes(100))
    with pytest.raises(RawFileError, match="is neither a folder nor a zip"):
        open_root(str(path))


def test_archive_of_any_name_is_a_root(tmp_path: Path, ending: str) -> None:
    path = archive(tmp_path, ending, "7.jpg").rename(tmp_path / "images.cbz")
    assert read(path, "7.jpg") == b"7.jpg"


def test_broken_archive_is_no_root(tmp_path: Path) -> None:
    broken = tiny.write(tmp_path / "broken.zip", b"PK\3\4" + bytes(99))
    with pytest.raises(RawFileError, match=r"broken\.zip: not a readable zip file"):
        check_root(str(broken))
    with pytest.raises(RawFileError, match="there is no"):
        check_root(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("flickr30k-images.tar.gz", "gunzip -k {path}"),
        ("images of flickr.tgz", "gunzip -k '{path}'"),
        ("images.tar.bz2", "bunzip2 -k {path}"),
        ("images.txz", "unxz -k {path}"),
        ("images.tar", "gunzip -c < {path} > NAME.tar"),
        ("images", "gunzip -c < {path} > NAME.tar"),
    ],
)
def test_packed_tar_is_refused_with_the_command_that_unpacks_it(
    tmp_path: Path, name: str, command: str
) -> None:
    content = write(tmp_path / "plain.tar", {"7.jpg": b"7"}).read_bytes()
    path = tmp_path / name
    packers = {".bz2": bz2.compress, ".txz": lzma.compress}
    path.write_bytes(packers.get(path.suffix, gzip.compress)(content))
    with pytest.raises(RawFileError) as error:
        open_root(str(path))
    message = str(error.value)
    assert message.startswith(f"{path} is neither a folder nor a zip nor a plain tar: packed by ")
    assert f"; {command.format(path=path)} makes a plain " in message
    assert "\n" not in message
    if shutil.which(command.split()[0]):
        command = command.format(path=path).replace("NAME.tar", str(tmp_path / "NAME.tar"))
        subprocess.run(command, shell=True, check=True)
        [plain] = set(tmp_path.iterdir()) - {path, tmp_path / "plain.tar"}
        assert plain.read_bytes() == content


def test_file_that_cannot_be_read_is_an_error_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "folder.jpg").mkdir()
    tiny.write(tmp_path / "file", b"")
    os.mkfifo(tmp_path / "pipe.jpg")
    reasons = {}
    for name in ("loop.jpg", "folder.jpg", "file/x.jpg", "pipe.jpg"):
        with pytest.raises(UnreadableFileError) as error:
            read(tmp_path, name)
        reasons[name] = str(error.value)
    assert reasons == {
        "loop.jpg": "Too many levels of symbolic links",
        "folder.jpg": "Is a directory",
        "file/x.jpg": "Not a directory",
        "pipe.jpg": "not a file",
    }
    (tmp_path / "dangling.jpg").symlink_to("nowhere.jpg")
    assert read(tmp_path, "dangling.jpg") is None


def test_folder_or_file_without_permission_is_an_error(tmp_path: Path) -> None:
    user = os.geteuid()
    nobody = 65534 if user == 0 else user  # root may read everything
    with tempfile.TemporaryDirectory() as name:  # the folders of pytest are closed to others
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "closed").mkdir(mode=0)
        tiny.write(folder / "7.jpg", b"7").chmod(0)
        os.seteuid(nobody)
        try:
            with pytest.raises(RawFileError, match="closed is a folder that cannot be read"):
                check_root(f"{folder}/closed")
            with pytest.raises(UnreadableFileError, match="Permission denied"):
                read(folder, "7.jpg")
        finally:
            os.seteuid(user)
