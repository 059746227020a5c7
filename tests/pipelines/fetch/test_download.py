"""One file from mirrors that fail in many ways: it comes whole, or not at all."""

import gzip
import hashlib
import io
import random
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.fetch.download import Fetched, FetchError, Patience, Wanted, download
from pipelines.fetch.partial_file import (
    DiskError,
    PartialFile,
    partial_bytes,
    remove_leftovers,
)
from tests.pipelines.fetch.mirror import Answer, Mirror, serve
from tests.processes import run

HASTY = Patience(tries=3, pause=0.01, timeout=20, min_rate=2048)
HTML = b"<!DOCTYPE html><html><body>This domain is for sale</body></html>" * 20


def packed(content: bytes, name: str = "a.json") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), content)  # with a fixed time
    return buffer.getvalue()


ZIP = packed(random.Random(1).randbytes(300_000))
OTHER_ZIP = packed(random.Random(2).randbytes(300_000))
SHA256 = hashlib.sha256(ZIP).hexdigest()


def fetch(
    folder: Path,
    addresses: Sequence[str],
    name: str = "a.zip",
    *,
    size: int | None = None,
    sha256: str = "",
    md5: str = "",
    patience: Patience = HASTY,
) -> Fetched:
    """Downloads to a folder; checks that progress adds up, and that nothing else stays there."""
    progress: list[int] = []
    wanted = Wanted(name=name, addresses=addresses, bytes=size, sha256=sha256, md5=md5)
    fetched = download(
        wanted, folder / name, progress.append, before_rename=lambda _: None, patience=patience
    )
    assert sum(progress) == fetched.bytes == (folder / name).stat().st_size
    assert [path.name for path in folder.iterdir()] == [name]
    return fetched


def test_file_comes_with_its_checksums_and_address(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["a.zip"] = ZIP
    address = mirror.address("a.zip")
    md5 = hashlib.md5(ZIP).hexdigest()
    fetched = fetch(tmp_path, [address], size=len(ZIP), sha256=SHA256, md5=md5)
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    assert fetched == Fetched(bytes=len(ZIP), sha256=SHA256, md5=md5, address=address)


def test_server_errors_are_tried_again(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["a.zip"] = ZIP
    mirror.answers["a.zip"] = [Answer(status=503), Answer(status=429)]
    fetch(tmp_path, [mirror.address("a.zip")])
    assert len(mirror.requests) == 3


def test_a_server_may_state_when_to_come_again(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["a.zip"] = ZIP
    mirror.answers["a.zip"] = [Answer(status=503, headers={"Retry-After": "1"})]
    begin = time.monotonic()
    fetch(tmp_path, [mirror.address("a.zip")])
    assert time.monotonic() - begin > 0.9


def refused(folder: Path, addresses: Sequence[str], name: str = "a.zip", **wanted: Any) -> str:
    """Returns the error of a download; no file may have the final name."""
    with pytest.raises(FetchError) as error:
        fetch(folder, addresses, name, **wanted)
    assert not (folder / name).exists()
    return str(error.value)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(status=404), "404 Not Found"),
        (Answer(status=403), "403 Forbidden"),
        (Answer(status=503), "503 Service Unavailable (tried 3 times)"),
        (Answer(content=HTML), "HTML where a zip file was expected"),
        (Answer(content=b"<html>"), "HTML where a zip file was expected"),
        (Answer(content=b"version https://git-lfs"), "b'version '... where a zip"),
        (Answer(content=b""), "an empty answer"),
        (
            Answer(close_after=100_000, ranges=False),
            f"ended after 100000 of {len(ZIP)} bytes (tried 3",
        ),
        (Answer(close_after=0), "the connection ended after 0 bytes (tried 3"),
        (Answer(stall=1000, ranges=False), "no byte for 1 s (tried 3 times)"),
        (Answer(rate=500), "bytes in"),
        (Answer(content=OTHER_ZIP), f"expected {SHA256}"),
        (Answer(content=ZIP[:-1]), f"a file of {len(ZIP) - 1} bytes, expected {len(ZIP)}"),
        (Answer(content=ZIP + b"0"), f"a file of {len(ZIP) + 1} bytes, expected {len(ZIP)}"),
        (Answer(content=ZIP[:-1], chunked=True), f"{len(ZIP) - 1} bytes, expected {len(ZIP)}"),
        (Answer(headers={"Content-Encoding": "br"}), "answers in the encoding br"),
        (Answer(status=302, headers={"Location": "/a.zip"}), "redirect"),
        (Answer(status=204), "204 No Content"),
    ],
)
def test_next_mirror_is_asked_and_the_error_states_what_each_did(
    answer: Answer, message: str, mirror: Mirror, other_mirror: Mirror, tmp_path: Path
) -> None:
    mirror.files["a.zip"] = other_mirror.files["a.zip"] = ZIP
    mirror.usual["a.zip"] = answer
    bad, good = mirror.address("a.zip"), other_mirror.address("a.zip")
    missing = other_mirror.address("b.zip")
    wanted: dict[str, Any] = {"size": len(ZIP), "sha256": SHA256}
    if answer.stall or answer.rate:
        wanted["patience"] = HASTY._replace(timeout=1)
    error = refused(tmp_path, [bad, missing], **wanted)
    assert f"  {bad}: " in error and message in error
    assert error.endswith(f"  {missing}: 404 Not Found")
    fetched = fetch(tmp_path, [bad, good], **wanted)
    assert fetched.address == good and (tmp_path / "a.zip").read_bytes() == ZIP


def test_unreachable_server_and_unknown_host(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["a.zip"] = ZIP
    nothing = ["http://127.0.0.1:9/a.zip", "http://mirror.invalid/a.zip"]
    error = refused(tmp_path, nothing)
    assert "http://127.0.0.1:9/a.zip: Connection refused (tried 3 times)" in error
    assert list(tmp_path.iterdir()) == []
    assert fetch(tmp_path, [*nothing, mirror.address("a.zip")]).bytes == len(ZIP)


# --- resuming -------------------------------------------------------------------------------------


def test_cut_connections_are_resumed_with_ranges(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["a.zip"] = ZIP
    mirror.answers["a.zip"] = [
        Answer(close_after=70_000)
    ] * 4  # more than the tries without progress
    fetch(tmp_path, [mirror.address("a.zip")])
    starts = [70_000, 140_000, 210_000, 280_000]
    assert mirror.ranges("a.zip") == [None, *(f"bytes={start}-" for start in starts)]
    assert mirror.sent == len(ZIP)


@given(ends=st.lists(st.integers(0, len(ZIP)), max_size=4), keep=st.data())
@settings(max_examples=25)
def test_any_ends_and_answers_give_the_file(
    ends: list[int], keep: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("ends")
    with serve() as mirror:
        mirror.files["a.zip"] = ZIP
        for end in ends:
            kind = keep.draw(
                st.sampled_from(["length", "chunked", "no ranges", "packed", "status"])
            )
            mirror.answers["a.zip"].append(
                Answer(
                    close_after=end,
                    status=500 if kind == "status" else 200,
                    chunked=kind == "chunked",
                    ranges=kind != "no ranges",
                    packed=kind == "packed",
                )
            )
        fetch(folder, [mirror.address("a.zip")], patience=HASTY._replace(tries=6, pause=0))
        assert (folder / "a.zip").read_bytes() == ZIP


ANSWERS = st.builds(
    Answer,
    status=st.sampled_from([200] * 6 + [404, 416, 500]),
    content=st.sampled_from([None, None, ZIP, OTHER_ZIP, HTML, ZIP[:-1], b""]),
    close_after=st.none() | st.integers(0, len(ZIP)),
    ranges=st.booleans(),
    if_range=st.booleans(),
    etag=st.sampled_from([None, None, "", '"other"', 'W/"1"']),
    length=st.booleans(),
    chunked=st.booleans(),
    packed=st.booleans(),
    headers=st.just({}),
    stall=st.none(),
    rate=st.just(0),
)


@given(
    answers=st.lists(st.lists(ANSWERS, max_size=5), min_size=1, max_size=3),
    sha256=st.sampled_from(["", SHA256]),
    size=st.sampled_from([None, len(ZIP)]),
)
@settings(max_examples=40)
def test_bad_mirrors_never_give_a_mixed_or_partial_file(
    answers: list[list[Answer]],
    sha256: str,
    size: int | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("mirrors")
    with serve() as mirror:
        names = [f"{number}.zip" for number in range(len(answers))]
        mirror.files |= dict.fromkeys(names, ZIP)
        mirror.answers |= dict(zip(names, answers, strict=True))
        addresses = [mirror.address(name) for name in names]
        try:
            fetch(folder, addresses, size=size, sha256=sha256, patience=HASTY._replace(pause=0.0))
        except FetchError as error:
            assert not (folder / "a.zip").exists()
            assert str(error).count("\n") == len(addresses)
        else:
            allowed = [ZIP] if sha256 else [ZIP, OTHER_ZIP]
            assert (folder / "a.zip").read_bytes() in allowed


def leave_part(folder: Path, mirror: Mirror, answer: Answer, **wanted: object) -> None:
    """Leaves the partial file of a download that failed."""
    mirror.answers["a.zip"] = [answer] + [Answer(status=404)] * 3
    with pytest.raises(FetchError):
        fetch(folder, [mirror.address("a.zip")], **wanted)
    mirror.answers["a.zip"] = []
    mirror.requests.clear()
    assert sorted(path.name for path in folder.iterdir()) == [
        ".a.zip.mdetr-part",
        ".a.zip.mdetr-part.json",
    ]


@pytest.mark.parametrize("wanted", [{}, {"sha256": SHA256}])
def test_later_run_resumes(wanted: dict[str, str], mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["a.zip"] = ZIP
    leave_part(tmp_path, mirror, Answer(close_after=70_000), **wanted)
    fetch(tmp_path, [mirror.address("a.zip")], **wanted)
    assert mirror.ranges("a.zip") == ["bytes=70000-"]


def test_html_does_not_replace_what_is_there(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["a.zip"] = ZIP
    leave_part(tmp_path, mirror, Answer(close_after=70_000))
    mirror.answers["a.zip"] = [Answer(content=HTML, ranges=False)]
    refused(tmp_path, [mirror.address("a.zip")])
    fetch(tmp_path, [mirror.address("a.zip")])
    assert mirror.ranges("a.zip") == ["bytes=70000-", "bytes=70000-"]


@pytest.mark.parametrize("if_range", [True, False])
@pytest.mark.parametrize("wanted", [{}, {"sha256": hashlib.sha256(OTHER_ZIP).hexdigest()}])
def test_changed_remote_file_is_downloaded_anew(
    if_range: bool, wanted: dict[str, str], mirror: Mirror, tmp_path: Path
) -> None:
    mirror.files["a.zip"] = ZIP
    leave_part(tmp_path, mirror, Answer(close_after=70_000), **wanted)
    mirror.files["a.zip"] = OTHER_ZIP
    mirror.usual["a.zip"] = Answer(if_range=if_range)
    fetch(tmp_path, [mirror.address("a.zip")], **wanted)
    assert (tmp_path / "a.zip").read_bytes() == OTHER_ZIP
    assert mirror.ranges("a.zip") == (["bytes=70000-"] if if_range else ["bytes=70000-", None])


def test_changed_text_is_noticed_by_its_etag(mirror: Mirror, tmp_path: Path) -> None:
    """Text shows neither its end nor a mixture."""
    mirror.files["a.txt"] = b"1\n" * 50_000
    mirror.answers["a.txt"] = [Answer(close_after=70_000)]
    mirror.usual["a.txt"] = Answer(content=b"2\n" * 50_000, if_range=False)
    fetch(tmp_path, [mirror.address("a.txt")], "a.txt")
    assert (tmp_path / "a.txt").read_bytes() == b"2\n" * 50_000


@pytest.mark.parametrize("etag", ["", 'W/"1"'])
def test_without_validator_only_a_checksum_allows_to_resume(
    etag: str, mirror: Mirror, tmp_path: Path
) -> None:
    mirror.files["a.zip"] = ZIP
    mirror.usual["a.zip"] = Answer(etag=etag)
    leave_part(tmp_path, mirror, Answer(close_after=70_000, etag=etag))
    fetch(tmp_path, [mirror.address("a.zip")])
    assert mirror.ranges("a.zip") == [None]
    (tmp_path / "a.zip").unlink()
    leave_part(tmp_path, mirror, Answer(close_after=70_000, etag=etag), sha256=SHA256)
    fetch(tmp_path, [mirror.address("a.zip")], sha256=SHA256)
    assert mirror.ranges("a.zip") == ["bytes=70000-"]


def test_mixed_bytes_of_two_files_are_noticed_and_replaced(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["a.zip"] = OTHER_ZIP
    mirror.usual["a.zip"] = Answer(etag="")
    leave_part(tmp_path, mirror, Answer(close_after=70_000, etag=""), sha256=SHA256)
    mirror.files["a.zip"] = ZIP
    fetch(tmp_path, [mirror.address("a.zip")], sha256=SHA256)
    assert mirror.ranges("a.zip") == ["bytes=70000-", None]


def test_another_mirror_continues_only_where_a_checksum_is_known(
    mirror: Mirror, other_mirror: Mirror, tmp_path: Path
) -> None:
    mirror.files["a.zip"] = other_mirror.files["a.zip"] = ZIP
    for wanted, expected in (({"sha256": SHA256}, "bytes=70000-"), ({}, None)):
        mirror.answers["a.zip"] = [Answer(close_after=70_000)] + [Answer(status=404)] * 3
        other_mirror.requests.clear()
        fetch(tmp_path, [mirror.address("a.zip"), other_mirror.address("a.zip")], **wanted)
        assert other_mirror.ranges("a.zip") == [expected]
        (tmp_path / "a.zip").unlink()


def test_partial_file_longer_than_the_remote_one(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["a.zip"] = ZIP
    leave_part(tmp_path, mirror, Answer(close_after=70_000, etag='"same"'))
    mirror.files["a.zip"] = short = packed(b"short")
    mirror.usual["a.zip"] = Answer(etag='"same"')
    fetch(tmp_path, [mirror.address("a.zip")])
    assert (tmp_path / "a.zip").read_bytes() == short


def test_bytes_that_a_crash_left_unwritten_are_downloaded_again(
    mirror: Mirror, tmp_path: Path
) -> None:
    mirror.files["a.zip"] = ZIP
    leave_part(tmp_path, mirror, Answer(close_after=70_000))
    with (tmp_path / ".a.zip.mdetr-part").open("ab") as part:
        part.write(bytes(5000))  # allocated, never written
    fetch(tmp_path, [mirror.address("a.zip")])
    assert (tmp_path / "a.zip").read_bytes() == ZIP
    assert mirror.ranges("a.zip") == ["bytes=70000-"]


FOREIGN = {
    "bytes alone": {".a.zip.mdetr-part": b"mine"},
    "another JSON": {".a.zip.mdetr-part": b"mine", ".a.zip.mdetr-part.json": b'{"synced": "many"}'},
    "no JSON": {".a.zip.mdetr-part": b"mine", ".a.zip.mdetr-part.json": b"mine, too"},
    "empty JSON": {".a.zip.mdetr-part": b"mine", ".a.zip.mdetr-part.json": b"{}"},
    "JSON alone": {".a.zip.mdetr-part.json": b""},
}


@pytest.mark.parametrize("name", FOREIGN)
def test_files_that_no_download_made_are_refused_and_stay(
    name: str, mirror: Mirror, tmp_path: Path
) -> None:
    mirror.files["a.zip"] = ZIP
    for path, content in FOREIGN[name].items():
        (tmp_path / path).write_bytes(content)
    with pytest.raises(DiskError, match=r"mdetr-part(\.json)? is not a file of a download: move"):
        fetch(tmp_path, [mirror.address("a.zip")])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == FOREIGN[name]
    assert partial_bytes(tmp_path / "a.zip") == 0
    assert not mirror.requests


def test_link_under_the_name_of_a_partial_file_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["a.zip"] = ZIP
    (tmp_path / "mine").write_bytes(b"mine")
    for name in (".a.zip.mdetr-part", ".a.zip.mdetr-part.json"):
        (tmp_path / name).symlink_to("mine")
        with pytest.raises(DiskError, match="is not a file of a download"):
            fetch(tmp_path, [mirror.address("a.zip")])
        (tmp_path / name).unlink()
    assert (tmp_path / "mine").read_bytes() == b"mine"


# --- lengths and encodings ------------------------------------------------------------------------

JSON = b'{"questions": [' + b"1, " * 50_000 + b"2]}"


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_archives_without_a_stated_length_show_their_end(
    name: str, mirror: Mirror, tmp_path: Path
) -> None:
    content = ZIP if name == "a.zip" else gzip.compress(JSON)
    mirror.files[name] = content
    mirror.usual[name] = Answer(length=False, close_after=len(content) - 30)
    assert f"not a readable {Path(name).suffix} file" in refused(
        tmp_path, [mirror.address(name)], name
    )
    mirror.usual[name] = Answer(length=False)
    fetch(tmp_path, [mirror.address(name)], name)
    assert (tmp_path / name).read_bytes() == content


def test_text_needs_a_length_from_anywhere(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["a.json"] = JSON
    mirror.usual["a.json"] = Answer(length=False, close_after=len(JSON) // 2)
    address = mirror.address("a.json")
    assert "states no length" in refused(tmp_path, [address], "a.json")
    mirror.usual["a.json"] = Answer(length=False)
    fetch(tmp_path, [address], "a.json", size=len(JSON))
    (tmp_path / "a.json").unlink()
    mirror.usual["a.json"] = Answer(chunked=True)
    fetch(tmp_path, [address], "a.json")


def test_damaged_zip_without_checksum_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    damaged = bytearray(ZIP)
    damaged[150_000] ^= 1
    mirror.files["a.zip"] = bytes(damaged)
    assert "a.zip: damaged in a.json" in refused(tmp_path, [mirror.address("a.zip")]).replace(
        f"{mirror.url}/", ""
    )


def test_server_that_packs_the_file_on_the_way(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["a.json"] = JSON
    mirror.usual["a.json"] = Answer(packed=True)
    mirror.answers["a.json"] = [Answer(packed=True, close_after=60)]
    fetch(tmp_path, [mirror.address("a.json")], "a.json", size=len(JSON))
    assert (tmp_path / "a.json").read_bytes() == JSON


def test_packed_file_is_not_unpacked_by_a_wrong_header(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["a.tar.gz"] = content = gzip.compress(JSON)
    mirror.usual["a.tar.gz"] = Answer(headers={"Content-Encoding": "x-gzip"})
    fetch(tmp_path, [mirror.address("a.tar.gz")], "a.tar.gz")
    assert (tmp_path / "a.tar.gz").read_bytes() == content


def test_redirects_are_followed_and_ranges_go_with_them(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["a.zip"] = mirror.files["b"] = ZIP
    mirror.usual["b"] = Answer(status=302, headers={"Location": "/a.zip"})
    mirror.answers["a.zip"] = [Answer(close_after=70_000)]
    fetched = fetch(tmp_path, [mirror.address("b")])
    assert fetched.address == mirror.address("b")
    assert mirror.ranges("a.zip") == [None, "bytes=70000-"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", HTML),
        ("a.json", b"404: Not Found"),
        ("a.txt", b"\n <html lang=en>"),
        ("a.tar.gz", ZIP),
        ("a.tar.gz", HTML),
    ],
)
def test_content_of_another_kind_is_refused(
    name: str, content: bytes, mirror: Mirror, tmp_path: Path
) -> None:
    mirror.files[name] = content
    kind = name.rpartition(".")[2]
    error = refused(tmp_path, [mirror.address(name)], name)
    assert f"where a {kind} file was expected" in error


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf\n[1]", b"{}", b"  [\n1]"])
def test_json_may_begin_with_a_mark_or_spaces(
    content: bytes, mirror: Mirror, tmp_path: Path
) -> None:
    mirror.files["a.json"] = content
    fetch(tmp_path, [mirror.address("a.json")], "a.json")


# --- the disk and other processes -----------------------------------------------------------------


def test_file_that_appeared_meanwhile_is_not_replaced(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["a.zip"] = ZIP
    wanted = Wanted(name="a.zip", addresses=[mirror.address("a.zip")])
    target = tmp_path / "a.zip"
    with pytest.raises(Exception, match="was written by another program meanwhile"):
        download(
            wanted,
            target,
            lambda _: None,
            before_rename=lambda _: target.write_bytes(b"mine"),
            patience=HASTY,
        )
    assert target.read_bytes() == b"mine"


def test_only_our_own_leftovers_are_removed(tmp_path: Path) -> None:
    with PartialFile(tmp_path / "a.zip"):
        pass
    (tmp_path / ".a.zip.mdetr-part").rename(tmp_path / "a.zip")  # and killed
    others = [".b.zip.mdetr-part", ".b.zip.mdetr-part.json", "a.zip.mdetr-part"]
    others += [".a.zip.mdetr-part.json.mine", ".c.zip.mdetr-part.json", "c.zip"]
    for name in others:
        (tmp_path / name).touch()
    for name in ("a.zip", "b.zip", "c.zip"):
        remove_leftovers(tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip", *others}


def command(folder: Path, mirror: Mirror, limit: int = 0) -> list[object]:
    module = "tests.pipelines.fetch.download_process"
    address = mirror.address("a.zip")
    return [sys.executable, "-m", module, folder / "a.zip", address, limit]


def test_killed_process_continues(mirror: Mirror, tmp_path: Path) -> None:
    """Killed at ten random moments: each next process continues, and the last one ends whole."""
    content = packed(random.Random(3).randbytes(12_000_000))
    mirror.files["a.zip"] = content
    mirror.usual["a.zip"] = Answer(rate=1_000_000)
    result = run(command(tmp_path, mirror, limit=-2))
    assert (result.returncode, result.stderr) == (0, "")
    mirror.usual["a.zip"] = Answer()
    result = run(command(tmp_path, mirror))
    assert result.returncode == 0, result.stdout
    assert (tmp_path / "a.zip").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]
    starts = [int(text[6:-1]) for text in mirror.ranges("a.zip") if text]
    assert starts == sorted(starts) and len(starts) >= 3


def test_process_killed_before_any_of_its_file_operations_continues(
    mirror: Mirror, tmp_path: Path
) -> None:
    mirror.files["a.zip"] = ZIP
    result = run(command(tmp_path, mirror, limit=-1))
    assert (result.returncode, result.stderr) == (0, "")
    assert int(result.stdout) > 10  # times that it was killed


def test_full_disk_leaves_what_is_there(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["a.zip"] = ZIP
    result = run(command(tmp_path, mirror, limit=100_000))
    assert (result.returncode, result.stdout) == (1, f"{tmp_path / 'a.zip'}: File too large\n")
    assert not (tmp_path / "a.zip").exists()
    assert len(mirror.requests) == 1
    assert run(command(tmp_path, mirror)).returncode == 0
    assert (tmp_path / "a.zip").read_bytes() == ZIP
