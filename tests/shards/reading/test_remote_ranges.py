"""Shards in buckets are fetched in concurrent ranges, each range once."""

import hashlib
import io
from collections import Counter
from pathlib import Path

import fsspec
import pytest

from shards.format.manifest import FileEntry, ShardError
from shards.reading import remote
from shards.reading.reader import ShardReader
from shards.reading.remote import Retries
from shards.reading.shard_set import ShardSet
from tests.s3_server import options_of, requests, serve_s3
from tests.shard_sets import write_shard_set

SHARDS = 4
SIZE = 10240
NAMES = [f"train-{i:05d}-of-{SHARDS:05d}.tar" for i in range(SHARDS)]
FEW_RETRIES = Retries(attempts=3, initial_wait=0.01)


def keys(shards: ShardSet) -> list[str]:
    reader = ShardReader(shards)
    return [reader.pair(i, 0, 0).key for i in range(len(shards.shards))]


def test_each_range_of_a_shard_is_requested_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_RANGE_BYTES", 1000)
    monkeypatch.setattr(remote, "_CONCURRENT_REQUESTS", 3)
    folder = write_shard_set(tmp_path / "set", [[1]] * SHARDS)
    with serve_s3(log=tmp_path / "log") as environment:
        options = options_of(environment)
        system = fsspec.filesystem("s3", **options)
        system.mkdir("bucket")
        system.put(str(folder), "bucket/set", recursive=True)
        system.rm(f"bucket/set/{NAMES[3]}")
        shards = ShardSet.open("s3://bucket/set", cache=tmp_path / "cache", options=options)
        with pytest.raises(ShardError, match=f"bucket/set/{NAMES[3]} is missing"):
            keys(shards)
        system.pipe_file(f"bucket/set/{NAMES[3]}", (folder / NAMES[3]).read_bytes()[:500])
        monkeypatch.setattr(remote.time, "sleep", lambda seconds: None)
        with pytest.raises(ShardError, match="it ended after 500 of 10240 bytes"):
            keys(shards)
    read = Counter(
        request.sent for request in requests(tmp_path / "log") if request.path.endswith(NAMES[0])
    )
    assert read == {0: 1, 1000: 10, 240: 1}  # the first is the upload
    for name in NAMES[:3]:
        (path,) = (tmp_path / "cache/mdetr-cache").glob(f"*-{name}")
        assert path.read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("range_bytes", [1000, SIZE // 2, SIZE - 1, SIZE, SIZE + 1])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content, None),
        (lambda content: content[:-2] + b"??", "has sha256 .* the manifest states"),
        (lambda content: content + b"?", "has more than 10240 bytes"),
        (lambda content: content[:-1], "it ended after 10239 of 10240 bytes"),
    ],
)
def test_ranges_join_to_the_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, range_bytes: int, damage, message: str | None
) -> None:
    monkeypatch.setattr(remote, "_RANGE_BYTES", range_bytes)
    monkeypatch.setattr(remote, "_CONCURRENT_REQUESTS", 3)
    content = bytes(range(256)) * (SIZE // 256)
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/of-this-test/a", damage(content))
    entry, to = FileEntry("a", SIZE, hashlib.sha256(content).hexdigest()), io.BytesIO()
    try:
        if message is None:
            remote.RemoteFolder("memory://of-this-test", {}, FEW_RETRIES).download(entry, to)
            assert to.getvalue() == content
        else:
            with pytest.raises(ShardError, match=message):
                remote.RemoteFolder("memory://of-this-test", {}, FEW_RETRIES).download(entry, to)
    finally:
        memory.rm("/of-this-test", recursive=True)
