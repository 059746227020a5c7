"""Plain tars: what their headers may state, what is refused, and what an index costs."""

import io
import os
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.io import archives
from pipelines.io.archives import open_archive, prepared_path
from pipelines.io.file_roots import UnreadableFileError, check_root, open_root, read_from
from pipelines.io.raw_files import RawFileError
from pipelines.io.tars import TarArchive, TarIndex, index_tar
from shards.verification.raw.files import RawError, RawRoot
from tests import tiny

SIZE = 1000


def read(path: Path | str, name: str) -> bytes | None:
    return read_from([open_root(str(path))], name, SIZE)


def write_members(path: Path, *members: tuple[tarfile.TarInfo, bytes], format_: int) -> Path:
    with tarfile.open(path, "w", format=format_) as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


# --- what headers may state -----------------------------------------------------------------------


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_member_has_its_own_content_in_all_formats(tmp_path: Path, format_: int) -> None:
    names = [f"images/{n}.jpg" for n in range(30)]
    if format_ != tarfile.USTAR_FORMAT:
        names += [f"images/{'long' * 50}{n}/fünf kisten [{n}]%20.jpg" for n in range(3)]
    contents = {name: os.urandom(n * 37) for n, name in enumerate(names)}
    members = [(member(name), content) for name, content in contents.items()]
    folder = (member("images", tarfile.DIRTYPE), b"")
    path = write_members(tmp_path / "images.tar", folder, *members, format_=format_)
    for name, content in contents.items():
        assert read(path, name.removeprefix("images/")) == content[:SIZE]
        assert read(f"{path}/images", name.removeprefix("images/")) == content[:SIZE]


def test_names_as_tar_writes_them_of_the_current_folder(tmp_path: Path) -> None:
    names = {"./a/7.jpg": b"7", "./a/8.jpg": b"8", "/b/9.jpg": b"9"}
    path = tiny.write_tar(tmp_path / "images.tar", names)
    assert read(path, "a/7.jpg") == read(f"{path}/a", "7.jpg") == b"7"
    assert read(path, "b/9.jpg") == b"9"  # as tar unpacks it, below the current folder


def test_global_headers_and_old_headers_are_read(tmp_path: Path) -> None:
    """``git archive`` begins with a global header; headers of 1979 have no magic bytes."""
    plain = tiny.write_tar(tmp_path / "plain.tar", {"7.jpg": b"7"}).read_bytes()
    comment = tarfile.TarInfo.create_pax_global_header({"comment": "0123456789"})
    with_comment = tiny.write(tmp_path / "git.tar", comment + plain)
    assert read(with_comment, "7.jpg") == b"7"
    old = bytearray(plain)
    old[257:265] = bytes(8)
    old[148:156] = b" " * 8
    old[148:155] = b"%06o\0" % sum(old[:512])
    assert read(tiny.write(tmp_path / "old.tar", bytes(old)), "7.jpg") == b"7"


def test_members_that_are_not_files_are_refused_with_a_reason(tmp_path: Path) -> None:
    secret = tiny.write(tmp_path / "secret.jpg", b"secret")
    sparse = member("sparse.jpg", tarfile.GNUTYPE_SPARSE)
    path = write_members(
        tmp_path / "images.tar",
        (member("7.jpg"), b"7"),
        (member("symbolic.jpg", tarfile.SYMTYPE, str(secret)), b""),
        (member("hard.jpg", tarfile.LNKTYPE, "7.jpg"), b""),
        (member("device.jpg", tarfile.CHRTYPE), b""),
        (member("pipe.jpg", tarfile.FIFOTYPE), b""),
        (member("../outside.jpg"), b"x"),
        (member("a/../../outside2.jpg"), b"x"),
        (sparse, b"x"),
        format_=tarfile.GNU_FORMAT,
    )
    reasons = {}
    for name in ("symbolic", "hard", "device", "pipe", "outside", "outside2", "sparse"):
        with pytest.raises(UnreadableFileError) as error:
            read(path, f"{name}.jpg")
        reasons[name] = str(error.value)
    outside = 'its name leads out of the archive by ".."'
    assert reasons == {
        "symbolic": "a link in the tar",
        "hard": "a link in the tar",
        "device": "not a file",
        "pipe": "not a file",
        "outside": outside,
        "outside2": outside,
        "sparse": "a sparse file in the tar",
    }
    assert read(path, "7.jpg") == b"7"


def test_sparse_file_of_gnu_tar_is_refused(tmp_path: Path) -> None:
    for version in ("0.0", "0.1", "1.0"):
        headers = {"GNU.sparse.major": version[0], "GNU.sparse.minor": version[2]}
        headers |= {"GNU.sparse.name": "7.jpg", "GNU.sparse.realsize": "4096"}
        headers |= {"GNU.sparse.size": "4096", "GNU.sparse.numblocks": "1"}
        headers |= {"GNU.sparse.map": "0,1", "GNU.sparse.offset": "0", "GNU.sparse.numbytes": "1"}
        info = member("GNUSparseFile.0/7.jpg")
        info.pax_headers = headers
        content = b"1\n0\n1\n".ljust(512, b"\0") + b"x"
        path = write_members(tmp_path / "a.tar", (info, content), format_=tarfile.PAX_FORMAT)
        with pytest.raises(UnreadableFileError, match="a sparse file in the tar"):
            read(path, "7.jpg")


def test_name_in_another_encoding_is_found_by_no_name(tmp_path: Path) -> None:
    content = tiny.write_tar(tmp_path / "a.tar", {"fXnf.jpg": b"5"}).read_bytes()
    header = bytearray(content[:512].replace(b"fXnf", b"f\xfcnf"))
    header[148:156] = b" " * 8
    header[148:155] = b"%06o\0" % sum(header)
    path = tiny.write(tmp_path / "a.tar", bytes(header) + content[512:])
    assert read(path, "fünf.jpg") is None


# --- damaged tars ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: c[:700],  # in the first content
        lambda c: c[:1024],  # after it
        lambda c: c[:1200],  # in the second header
        lambda c: c[: c.rindex(b"ustar") - 257 + 1024],  # before the end mark
        lambda c: c[:1100] + b"\xff" * 9 + c[1109:],  # a header with a wrong checksum
        lambda c: c[:1024] + os.urandom(512) + c[1536:],
    ],
    ids=["content", "block", "header", "end mark", "checksum", "noise"],
)
def test_damaged_tar_is_an_error_before_any_work(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    members = {f"{n}.jpg": b"seven" for n in range(7)}
    whole = tiny.write_tar(tmp_path / "images.tar", members)
    path = tiny.write(tmp_path / "images.tar", damage(whole.read_bytes()))
    with pytest.raises(RawFileError, match=r"images\.tar: not a readable tar file: byte \d+: "):
        check_root(str(path))


def test_file_called_tar_that_is_none_is_an_error(tmp_path: Path) -> None:
    for content in (b"", b"no tar", os.urandom(2000)):
        path = tiny.write(tmp_path / "images.tar", content)
        with pytest.raises(RawFileError, match=r"images\.tar: not a readable tar file: "):
            check_root(str(path))


def test_header_that_leads_backwards_is_an_error(tmp_path: Path) -> None:
    """A negative size would have tarfile read one header forever."""
    info = member("7.jpg")
    info.size = -512
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    path = tiny.write(tmp_path / "images.tar", bytes(header) + bytes(1024))
    with pytest.raises(RawFileError, match=r"images\.tar: not a readable tar file"):
        check_root(str(path))


def test_header_of_any_size_takes_bounded_memory(tmp_path: Path) -> None:
    info = member("././@LongLink", tarfile.GNUTYPE_LONGNAME)
    info.size = 50 << 20
    path = tmp_path / "images.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT))
    os.truncate(path, 60 << 20)
    tracemalloc.start()
    with pytest.raises(RawFileError, match="a header of 52428800 bytes"):
        check_root(str(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 << 20


@given(st.binary(min_size=1, max_size=600), st.integers(0, 2**16))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_noise_in_a_tar_is_an_error_or_changes_what_it_hits(
    tmp_path: Path, noise: bytes, position: int
) -> None:
    contents = {f"{n}.jpg": bytes([n]) * 100 for n in range(4)}
    content = bytearray(tiny.write_tar(tmp_path / "a.tar", contents).read_bytes())
    position %= len(content)
    content[position : position + len(noise)] = noise
    path = tiny.write(tmp_path / "a.tar", bytes(content))
    archives._tar_index.cache_clear()  # the file may be written again in one tick of its clock
    try:
        root = open_root(str(path))
    except RawFileError as error:
        assert "a.tar" in str(error)
        return
    untouched = [n for n in range(4) if not n * 1024 - len(noise) < position < n * 1024 + 1024]
    for number in untouched:
        assert read_from([root], f"{number}.jpg", SIZE) == contents[f"{number}.jpg"]


# --- the index ------------------------------------------------------------------------------------


def test_index_of_many_members_takes_little_memory(tmp_path: Path) -> None:
    count = 20_000
    names = (f"open-images/train/{n % 100:02d}/{n:016d}.jpg" for n in range(count))
    path = tmp_path / "images.tar"
    with path.open("wb") as file:
        for name in names:
            file.write(member(name).tobuf(tarfile.GNU_FORMAT))
        file.write(bytes(1024))
    tracemalloc.start()
    with path.open("rb") as file:
        index = index_tar(str(path), file)
    size, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 90 * count
    assert peak < 150 * count
    assert len(index.names) == count


def test_prepared_tar_is_read_by_its_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {f"a/{name}": name.encode() for name in ("7.jpg", "fünf.jpg", "x/8 [1].jpg")}
    path = tiny.write_tar(tmp_path / "images.tar", members)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    prepared = prepared_path(f"{path}/a", str(scratch))
    assert prepared == prepared_path(f"{path}/a", str(scratch))
    assert len([*scratch.iterdir()]) == 1
    monkeypatch.setattr(archives, "index_tar", None)  # workers do not need it
    archives._tar_index.cache_clear()
    check_root(prepared)
    for name in ("7.jpg", "fünf.jpg", "x/8 [1].jpg"):
        assert read(prepared, name) == name.encode()
    assert open_root(prepared).describe("8 [1].jpg") == "images.tar has x/8 [1].jpg"
    path.write_bytes(path.read_bytes() + bytes(512))
    with pytest.raises(RawFileError, match=r"images\.tar: changed during the build"):
        open_root(prepared)


def test_encoded_index_is_the_same(tmp_path: Path) -> None:
    path = tiny.write_tar(tmp_path / "images.tar", {"a/7.jpg": b"7", "8.jpg": b"88"})
    archive = open_archive(str(path))
    assert isinstance(archive, TarArchive)
    with path.open("rb") as file:
        index = TarIndex.decode(index_tar(str(path), file).encode())
    again = TarArchive(str(path), path.open("rb"), index)
    assert [*again.names()] == [*archive.names()] == [(0, "a/7.jpg"), (1, "8.jpg")]
    assert [again.read(n, SIZE) for n in (0, 1)] == [b"7", b"88"]
    assert [again.sizes(n) for n in (0, 1)] == [(1, 1), (2, 2)]


def test_tar_that_became_shorter_is_an_error(tmp_path: Path) -> None:
    path = tiny.write_tar(tmp_path / "images.tar", {"7.jpg": bytes(10**6)})
    root = open_root(str(path))
    os.truncate(path, 512)
    with pytest.raises(UnreadableFileError, match="shorter than when it was indexed"):
        read_from([root], "7.jpg", 10**6)


@pytest.mark.parametrize("zeros", [0, 512, 10240])
def test_concatenated_tars_are_refused(tmp_path: Path, zeros: int) -> None:
    """Reading ends at the first end mark: the files of the second would be missing."""
    parts = [tiny.write_tar(tmp_path / f"{n}.tar", {f"{n}.jpg": b"7"}).read_bytes() for n in "ab"]
    path = tiny.write(tmp_path / "all.tar", bytes(zeros).join(parts))
    message = r"all\.tar: bytes follow its end mark.*`tar --concatenate`.*`tar --ignore-zeros -xf`"
    with pytest.raises(RawFileError, match=message):
        open_root(str(path))
    with pytest.raises(RawError, match=r"all\.tar: bytes follow its end mark"):
        RawRoot(tmp_path).read_in("all.tar", "a.jpg")
    padded = tiny.write(tmp_path / "padded.tar", parts[0] + bytes(zeros))
    assert read(padded, "a.jpg") == b"7"
    assert RawRoot(tmp_path).read_in("padded.tar", "a.jpg") == b"7"
