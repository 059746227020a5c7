"""Remote shard sets: fetched once, verified, retried, into a cache of bounded size."""

import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import aiohttp
import botocore.exceptions
import fsspec
import pytest

from shards.format.manifest import FileEntry, NotAShardSetError, ShardError
from shards.reading.cache import Cache
from shards.reading.reader import ShardReader
from shards.reading.remote import Retries, is_transient
from shards.reading.shard_set import ShardSet
from shards.sampling.prefetch import Prefetcher
from shards.sampling.sample_order import PairOrder
from tests.http_server import Server, serve
from tests.shard_sets import image, write_shard_set

SHARDS = 4
SIZE = 10240
NAMES = [f"train-{i:05d}-of-{SHARDS:05d}.tar" for i in range(SHARDS)]
FEW_RETRIES = Retries(attempts=3, initial_wait=0.01)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serve(write_shard_set(tmp_path / "set", [[1]] * SHARDS)) as running:
        yield running


def open_set(server: Server, cache: Path, cache_bytes: int = 1 << 30) -> ShardSet:
    return ShardSet.open(server.url, cache=cache, cache_bytes=cache_bytes, retries=FEW_RETRIES)


def keys(shards: ShardSet) -> list[str]:
    reader = ShardReader(shards)
    return [reader.pair(i, 0, 0).key for i in range(len(shards.shards))]


def cached(cache: Path) -> set[str]:
    return {path.name[17:] for path in cache.iterdir() if path.is_file()}


ALL_KEYS = [f"vg/{i}" for i in range(SHARDS)]


def test_set_over_http_is_fetched_once(server: Server, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    shards = open_set(server, cache)
    assert keys(shards) == ALL_KEYS
    assert bytes(ShardReader(shards).pair(2, 0, 0).image) == image("vg/2")
    assert keys(open_set(server, cache)) == ALL_KEYS
    assert server.requests == {"manifest.json": 2, "index.parquet": 1} | dict.fromkeys(NAMES, 1)
    assert cached(cache) == {"index.parquet", *NAMES}


def test_set_in_another_fsspec_file_system(tmp_path: Path) -> None:
    folder = write_shard_set(tmp_path / "set", [[1]] * SHARDS)
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/of-this-test", recursive=True)
    try:
        shards = ShardSet.open("memory://of-this-test", cache=tmp_path / "cache")
        assert keys(shards) == ALL_KEYS
    finally:
        memory.rm("/of-this-test", recursive=True)


def test_url_without_a_manifest_is_refused(server: Server, tmp_path: Path) -> None:
    (server.folder / "manifest.json").unlink()
    with pytest.raises(NotAShardSetError, match=r"http://.* is not a shard set"):
        open_set(server, tmp_path / "cache")


# --- network errors -------------------------------------------------------------------------------


def test_transient_errors_are_retried(server: Server, tmp_path: Path) -> None:
    for name in ("manifest.json", "index.parquet", NAMES[1]):
        server.failures[name] = 2
    server.truncated[NAMES[2]] = 2
    assert keys(open_set(server, tmp_path / "cache")) == ALL_KEYS
    assert [server.requests[name] for name in NAMES] == [1, 3, 3, 1]


def test_lasting_errors_name_the_file(server: Server, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    shards = open_set(server, cache)
    server.failures[NAMES[1]] = 1_000_000
    with pytest.raises(ShardError, match=rf"{NAMES[1]} could not be read in 3 attempts: .*503"):
        keys(shards)
    server.truncated[NAMES[0]] = 1_000_000
    with pytest.raises(ShardError, match=rf"{NAMES[0]} could not be read in 3 attempts"):
        keys(open_set(server, tmp_path / "other"))
    server.failures["manifest.json"] = 1_000_000
    with pytest.raises(ShardError, match=r"manifest\.json could not be read in 3 attempts"):
        open_set(server, cache)
    assert not [path for path in cache.iterdir() if path.suffix == ".part"]


def test_silent_server_times_out(server: Server, tmp_path: Path) -> None:
    shards = ShardSet.open(
        server.url,
        cache=tmp_path / "cache",
        options={"client_kwargs": {"timeout": aiohttp.ClientTimeout(sock_read=0.2)}},
        retries=FEW_RETRIES,
    )
    server.delay = 1.0
    with pytest.raises(ShardError, match="could not be read in 3 attempts: FSTimeoutError"):
        keys(shards)
    server.delay = 0.0
    assert keys(shards) == ALL_KEYS


def test_stopped_server_is_retried(tmp_path: Path) -> None:
    with serve(write_shard_set(tmp_path / "set", [[1]] * SHARDS)) as server:
        shards = open_set(server, tmp_path / "cache")
    with pytest.raises(ShardError, match="could not be read in 3 attempts: ClientConnector"):
        keys(shards)


def test_permanent_errors_are_not_retried(server: Server, tmp_path: Path) -> None:
    shards = open_set(server, tmp_path / "cache")
    (server.folder / NAMES[0]).unlink()
    with pytest.raises(ShardError, match=f"{server.url}/{NAMES[0]} is missing"):
        keys(shards)
    server.status, server.failures[NAMES[0]] = 403, 9
    with pytest.raises(ShardError, match=rf"{NAMES[0]} cannot be read: .*403"):
        keys(shards)
    assert server.requests[NAMES[0]] == 2


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:600] + b"?" + content[601:], "has sha256 .* the manifest states"),
        (lambda content: content + b"?", "has more than 10240 bytes"),
        (lambda content: content[:-1], "it ended after 10239 of 10240 bytes"),
    ],
)
def test_damaged_shard_is_not_cached(server, tmp_path: Path, damage, message: str) -> None:
    path = server.folder / NAMES[0]
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    shards = open_set(server, tmp_path / "cache")
    with pytest.raises(ShardError, match=rf"{NAMES[0]} .*{message}"):
        keys(shards)
    assert NAMES[0] not in cached(tmp_path / "cache")
    path.write_bytes(whole)
    assert keys(shards) == ALL_KEYS


class StatusError(Exception):
    def __init__(self, code: int) -> None:
        self.code = code


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        *((TimeoutError(), True), (ConnectionResetError(), True), (OSError("?"), True)),
        *((StatusError(503), True), (StatusError(429), True), (StatusError(404), False)),
        *((PermissionError(), False), (IsADirectoryError(), False), (ValueError(), False)),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="?", error="?"), True),
        (botocore.exceptions.ReadTimeoutError(endpoint_url="?"), True),
        (botocore.exceptions.NoCredentialsError(), False),
    ],
)
def test_transient_and_permanent_errors(error: Exception, transient: bool) -> None:
    assert is_transient(error) == transient


# --- a full disk ----------------------------------------------------------------------------------

FETCH = """
import resource, sys
from pathlib import Path
from shards.reading.cache import Cache
from shards.format.manifest import ShardError
from shards.reading.remote import RemoteFolder, Retries
from shards.reading.shard_set import ShardSet

url, folder, limited = sys.argv[1:]
entry = ShardSet.open(url).shards[0]

def limit_if(now):
    if limited == now:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))

def download(to):
    limit_if("while it comes")
    RemoteFolder(url, {}, Retries(attempts=3, initial_wait=0.01)).download(entry, to)

limit_if("before")
try:
    Cache(Path(folder), 1 << 30).open(entry, download)
except ShardError as error:
    print(error)
"""


def printed(*command: object) -> str:
    return subprocess.run(
        [*map(str, command)], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


@pytest.mark.parametrize("limited", ["before", "while it comes"])
def test_file_size_limit_is_no_network_error(server: Server, tmp_path: Path, limited: str) -> None:
    cache = tmp_path / "cache"
    message = printed(sys.executable, "-c", FETCH, server.url, cache, limited)
    assert (
        message == f"{NAMES[0]} cannot be written to the cache {cache}: [Errno 27] File too large"
    )
    assert server.requests[NAMES[0]] == (limited != "before")
    assert cached(cache) == set()


def test_full_disk_is_no_network_error(server: Server, tmp_path: Path) -> None:
    tmpfs = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs -o size=8k none {tmp_path}"
    if subprocess.run([*tmpfs, mount], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("a file system cannot be mounted here")
    fetch = shlex.join([sys.executable, "-c", FETCH, server.url, str(tmp_path), "never"])
    assert printed(*tmpfs, f"{mount} && {fetch}") == (
        f"{NAMES[0]} cannot be written to the cache {tmp_path}: [Errno 28] No space left on device"
    )
    assert server.requests[NAMES[0]] == 1


# --- the cache ------------------------------------------------------------------------------------


def entry(name: str, size: int) -> FileEntry:
    return FileEntry(name, size, f"{name:0>64}")


def put(cache: Cache, name: str, size: int = 100) -> None:
    cache.open(entry(name, size), lambda to: [to.write(b"x" * size)][0] and None).close()


def test_least_recently_used_files_are_evicted(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 350)
    for name in ("a", "b", "c", "a", "d"):
        put(cache, name)
        time.sleep(0.01)  # more than a tick of the file system's clock
    assert cached(tmp_path) == {"a", "c", "d"}
    put(cache, "e", 300)
    assert cached(tmp_path) == {"e"}


def test_open_file_outlives_its_eviction(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 150)
    file = cache.open(entry("a", 100), lambda to: to.write(b"a" * 100) and None)
    put(cache, "b")
    assert cached(tmp_path) == {"b"}
    assert file.read() == b"a" * 100


def test_file_larger_than_the_cache_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="of 99 bytes is too small for a of 100"):
        put(Cache(tmp_path, 99), "a")


def test_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 150)
    for name in ("a", "b"):
        (tmp_path / f"{'0' * 16}-{name}.part").write_bytes(b"x" * 100)
    put(cache, "a")
    assert cached(tmp_path) == {"a"}


def test_failed_download_leaves_no_file_and_no_lock(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 150)

    def fail(to: object) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        cache.open(entry("a", 100), fail)
    assert cached(tmp_path) == set()
    put(cache, "a")


def test_fetch_waits_for_room(tmp_path: Path) -> None:
    """A file being fetched is not evicted: another that needs its space is fetched later."""
    cache = Cache(tmp_path, 150)
    seen = []

    def slowly(to) -> None:
        time.sleep(0.3)
        seen.append(cached(tmp_path))
        to.write(b"x" * 100)

    threads = [
        threading.Thread(target=lambda name=name: cache.open(entry(name, 100), slowly).close())
        for name in ("a", "b", "c")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(map(sorted, seen)) == [["a.part"], ["b.part"], ["c.part"]]


def test_cache_stays_below_its_bound(server: Server, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    index = (server.folder / "index.parquet").stat().st_size
    shards = open_set(server, cache, index + 2 * SIZE)
    for _ in range(2):
        for i in range(SHARDS):
            shards.open_shard(i).close()
            shards.rows(i, ["key"])
            sizes = [path.stat().st_size for path in cache.iterdir() if path.is_file()]
            assert sum(sizes) <= index + 2 * SIZE
    assert all(server.requests[name] == 2 for name in NAMES)


def read_all(url: str, cache: Path, ready, results) -> None:  # type: ignore[no-untyped-def]
    shards = ShardSet.open(url, cache=cache, retries=FEW_RETRIES)
    ready.wait()
    results.put(keys(shards))


def test_processes_share_fetched_files(server: Server, tmp_path: Path) -> None:
    server.delay = 0.1
    context = get_context("spawn")
    ready, results = context.Barrier(3), context.Queue()
    processes = [
        context.Process(target=read_all, args=(server.url, tmp_path / "cache", ready, results))
        for _ in range(3)
    ]
    for process in processes:
        process.start()
    assert [results.get(timeout=30) for _ in processes] == [ALL_KEYS] * 3
    for process in processes:
        process.join(10)
    assert all(server.requests[name] == 1 for name in [*NAMES, "index.parquet"])


# --- the prefetcher -------------------------------------------------------------------------------


def wait_for(condition, seconds: float = 10) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_prefetcher_fetches_the_next_shards(server: Server, tmp_path: Path) -> None:
    shards = open_set(server, tmp_path / "cache", 5 * SIZE)  # room for two ahead
    order = PairOrder(shards, "train", seed=0, block_shards=1)
    upcoming = [NAMES[index["shard"]] for index in order.indices(0, 0, 4)]
    prefetcher = Prefetcher(order, [shards])
    prefetcher.advance(0, 0)
    wait_for(lambda: {*upcoming[:2]} <= cached(tmp_path / "cache"))
    time.sleep(0.05)
    assert not {*upcoming[2:]} & cached(tmp_path / "cache")
    prefetcher.advance(0, 1)
    wait_for(lambda: upcoming[2] in cached(tmp_path / "cache"))
    prefetcher.close()
    assert server.requests[upcoming[3]] == 0


def test_error_of_the_prefetcher_stops_the_stream(server: Server, tmp_path: Path) -> None:
    shards = open_set(server, tmp_path / "cache")
    order = PairOrder(shards, "train", seed=0)
    order.indices(0, 0, 1)
    server.failures[NAMES[3]] = 1_000_000
    prefetcher = Prefetcher(order, [shards])
    prefetcher.advance(0, 0)
    wait_for(lambda: server.requests[NAMES[3]] == 3)

    def raised() -> bool:
        try:
            prefetcher.advance(0, 0)
        except ShardError as error:
            assert NAMES[3] in str(error)
            return True
        return False

    wait_for(raised)
    prefetcher.close()


def test_prefetcher_of_a_local_set_starts_no_thread(tmp_path: Path) -> None:
    shards = ShardSet.open(write_shard_set(tmp_path, [[1]]))
    prefetcher = Prefetcher(PairOrder(shards, "train", seed=0), [shards])
    before = threading.active_count()
    prefetcher.advance(0, 0)
    assert threading.active_count() == before
    prefetcher.close()
