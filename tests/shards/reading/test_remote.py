"""Remote shard sets: fetched once, verified, retried, into a cache of bounded size."""

import hashlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path

import aiohttp
import botocore.exceptions
import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.format import manifest as mf
from shards.format.manifest import FileEntry, NotAShardSetError, ShardError
from shards.format.placement import index_name
from shards.reading.cache import MARKER, SUBFOLDER, Cache
from shards.reading.reader import ShardReader
from shards.reading.remote import Retries, is_transient
from shards.reading.shard_set import ShardSet
from shards.sampling.prefetch import Prefetcher
from shards.sampling.sample_order import PairOrder
from tests import foreign_files
from tests.http_server import Server, serve
from tests.shard_sets import image, write_shard_set

SHARDS = 4
SIZE = 10240
NAMES = [f"train-{i:05d}-of-{SHARDS:05d}.tar" for i in range(SHARDS)]
INDEXES = [index_name(name) for name in NAMES]
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
    """Returns the names of the cached files, without their sha256."""
    return {path.name[65:] for path in cached_files(cache)}


def cached_files(cache: Path) -> list[Path]:
    folder = cache / SUBFOLDER
    return [path for path in folder.glob("*") if path.is_file() and path.name != MARKER]


ALL_KEYS = [f"vg/{i}" for i in range(SHARDS)]


def test_set_over_http_is_fetched_once(server: Server, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    shards = open_set(server, cache)
    assert keys(shards) == ALL_KEYS
    assert bytes(ShardReader(shards).pair(2, 0, 0).image) == image("vg/2")
    assert keys(open_set(server, cache)) == ALL_KEYS
    assert server.requests == {"manifest.json": 2} | dict.fromkeys([*NAMES, *INDEXES], 1)
    assert cached(cache) == {*NAMES, *INDEXES}


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
    for name in ("manifest.json", INDEXES[2], NAMES[1]):
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
    assert not [name for name in cached(cache) if name.endswith(".part")]


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
from shards.reading.cache import MARKER, SUBFOLDER, Cache
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
    put(cache, "c", 1)  # makes the folder
    for name in ("a", "b"):
        part = cache.path(entry(name, 100)).with_name(f"{name:0>64}-{name}.{os.getuid()}.part")
        part.write_bytes(b"x" * 100)
    put(cache, "a")
    assert cached(tmp_path) in ({"a"}, {"a", "c"})


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
    assert sorted(map(sorted, seen)) == [[f"{name}.{os.getuid()}.part"] for name in "abc"]


def test_cache_stays_below_its_bound(server: Server, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    index = sum((server.folder / name).stat().st_size for name in INDEXES)
    shards = open_set(server, cache, index + 2 * SIZE)
    for _ in range(2):
        for i in range(SHARDS):
            shards.open_shard(i).close()
            shards.rows(i, ["key"])
            sizes = [path.stat().st_size for path in cached_files(cache)]
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
    assert [results.get(timeout=300) for _ in processes] == [ALL_KEYS] * 3
    for process in processes:
        process.join(10)
    assert all(server.requests[name] == 1 for name in [*NAMES, *INDEXES])


# --- damaged files of the cache -------------------------------------------------------------------


def flip(content: bytes) -> bytes:
    return bytes(byte ^ 1 if i % 97 == 0 else byte for i, byte in enumerate(content))


DAMAGES = [
    lambda content: b"",
    lambda content: content[: len(content) // 8],
    lambda content: content + b"?",
    lambda content: bytes(len(content)),  # as after a loss of power, without fsync
    flip,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=["empty", "cut", "longer", "zeros", "flipped"])
@pytest.mark.parametrize("name", [NAMES[1], INDEXES[1]])
def test_damaged_cached_file_is_fetched_anew_once(
    server: Server, tmp_path: Path, name: str, damage: Callable[[bytes], bytes]
) -> None:
    cache = tmp_path / "cache"
    keys(open_set(server, cache))
    [path] = [path for path in cached_files(cache) if path.name.endswith(name)]
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert keys(open_set(server, cache)) == ALL_KEYS
    assert path.read_bytes() == whole
    assert server.requests[name] == 2
    assert keys(open_set(server, cache)) == ALL_KEYS
    assert server.requests[name] == 2


def test_shard_that_is_damaged_while_it_is_mapped_is_fetched_anew(
    server: Server, tmp_path: Path
) -> None:
    shards = open_set(server, tmp_path / "cache")
    reader = ShardReader(shards)
    before = reader.pair(1, 0, 0)
    [path] = [path for path in cached_files(tmp_path / "cache") if path.name.endswith(NAMES[1])]
    with path.open("r+b") as file:  # in place: the mapping changes too
        file.write(bytes(SIZE))
    assert reader.sample(1, 0).key == before.key
    assert bytes(reader.image(1, 0).content) == image("vg/1")
    assert server.requests[NAMES[1]] == 2


def test_shard_that_is_verified_is_fetched_anew_if_it_is_damaged(
    server: Server, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    shards = open_set(server, cache)
    keys(shards)
    [path] = [path for path in cached_files(cache) if path.name.endswith(NAMES[1])]
    path.write_bytes(flip(path.read_bytes()))
    shards.open_shard(1, verified=True).close()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == shards.shards[1].sha256
    assert server.requests[NAMES[1]] == 2


def test_damage_of_the_published_shard_names_url_and_cached_file(tmp_path: Path) -> None:
    """The manifest has the sha256 of the damaged tar, so fetching it anew does not help."""
    folder = write_shard_set(tmp_path / "set", [[1]] * SHARDS)
    manifest = mf.load(folder)
    content = flip((folder / NAMES[1]).read_bytes())
    (folder / NAMES[1]).write_bytes(content)
    manifest.shards[1].sha256 = hashlib.sha256(content).hexdigest()
    (folder / mf.NAME).write_bytes(mf.encode(manifest))
    with serve(folder) as server:
        message = rf"{server.url}: {NAMES[1]} \(cached as {tmp_path}/cache/.*\): .* is damaged"
        with pytest.raises(ShardError, match=message):
            keys(open_set(server, tmp_path / "cache"))
        assert server.requests[NAMES[1]] == 1


def test_every_process_gets_a_damaged_file_whole(server: Server, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    keys(open_set(server, cache))
    for path in cached_files(cache):
        path.write_bytes(flip(path.read_bytes()))
    server.delay = 0.05
    read: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: read.append(keys(open_set(server, cache))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert read == [ALL_KEYS] * 4


# --- files and folders of others ------------------------------------------------------------------


@given(names=st.lists(foreign_files.names(), max_size=8))
@settings(max_examples=20)
def test_files_of_others_beside_the_cache_survive(names: list[str]) -> None:
    lookalikes = [f"{'0' * 64}-a", f"{'0' * 64}-b.0.part", "locks", "0123456789abcdef-a.part"]
    with tempfile.TemporaryDirectory() as folder:
        planted = foreign_files.plant(Path(folder), [*names, *lookalikes])
        for path in Path(folder).rglob("*"):
            os.utime(path, (1, 1), follow_symlinks=False)
        cache = Cache(Path(folder), 250)
        for number in range(6):
            put(cache, str(number))
        mixed = foreign_files.plant(cache.path(entry("a", 1)).parent, ["thesis.docx", *names])
        inside = {name: content for name, content in mixed.items() if b"precious" in content}
        for number in range(6):
            put(cache, str(number))
        assert foreign_files.contents(Path(folder), but=[SUBFOLDER]) == planted
        left = foreign_files.contents(Path(folder) / SUBFOLDER)
        assert inside.items() <= left.items() and "thesis.docx" in inside
        assert len(cached_files(Path(folder))) - len([n for n in inside if "/" not in n]) == 2


def test_folder_of_another_program_is_no_cache(tmp_path: Path) -> None:
    for content in (b"precious", b"Signature: 8a477f597d28d172789f06886806bc55\n# of others"):
        (tmp_path / SUBFOLDER).mkdir(exist_ok=True)
        (tmp_path / SUBFOLDER / MARKER).write_bytes(content)
        with pytest.raises(ShardError, match="it is not a cache; choose another folder"):
            put(Cache(tmp_path, 350), "a")
        assert (tmp_path / SUBFOLDER / MARKER).read_bytes() == content


@pytest.mark.parametrize("sha256", ["../../escape/aaa", "", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_sha256_of_a_manifest_cannot_leave_the_cache(
    server: Server, tmp_path: Path, sha256: str
) -> None:
    (tmp_path / "escape").mkdir()
    (tmp_path / "escape" / f"aaa-{NAMES[0]}.part").write_text("precious")
    for is_index in (False, True):
        manifest = json.loads((server.folder / mf.NAME).read_bytes())
        shard = manifest["shards"][0]
        (shard["index"] if is_index else shard)["sha256"] = sha256
        whole = (server.folder / mf.NAME).read_bytes()
        (server.folder / mf.NAME).write_text(json.dumps(manifest))
        with pytest.raises(NotAShardSetError, match="expected 64 hexadecimal digits"):
            open_set(server, tmp_path / "a" / "cache")
        (server.folder / mf.NAME).write_bytes(whole)
    assert foreign_files.contents(tmp_path / "escape") == {f"aaa-{NAMES[0]}.part": b"precious"}


# --- users of one cache ---------------------------------------------------------------------------

AS_USER = """
import os, sys
from pathlib import Path
from shards.reading.cache import Cache
from tests.shards.reading.test_remote import entry, put

folder, bytes_, user, umask, *names = sys.argv[1:]
os.umask(int(umask, 8))
os.setgroups([])
os.setgid(int(user))
os.setuid(int(user))
cache = Cache(Path(folder), int(bytes_))
for name in names:
    try:
        put(cache, name)
        print("put", name)
    except Exception as error:
        print(type(error).__name__, error)
"""
FIRST, SECOND = "61001", "61002"


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A folder that other users may enter."""
    if os.getuid():
        pytest.skip("another user's processes can be started by root only")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "cache"


def as_user(user: str, folder: Path, bytes_: int, *names: str, umask: str = "022") -> list[str]:
    command = [sys.executable, "-c", AS_USER, str(folder), str(bytes_), user, umask, *names]
    return printed(*command).splitlines()


@pytest.mark.parametrize("mode", [0o777, 0o1777])
@pytest.mark.parametrize("umask", ["022", "077"])
def test_users_share_a_cache(shared: Path, mode: int, umask: str) -> None:
    shared.mkdir()
    shared.chmod(mode)
    assert as_user(FIRST, shared, 1000, "a", umask=umask) == ["put a"]
    assert as_user(SECOND, shared, 1000, "a", "b", umask=umask) == ["put a", "put b"]
    assert as_user(FIRST, shared, 1000, "b", "c", umask=umask) == ["put b", "put c"]
    assert cached(shared) == {"a", "b", "c"}
    evicts = as_user(SECOND, shared, 250, "d", umask=umask)
    if mode == 0o777:
        assert evicts == ["put d"] and len(cached(shared)) == 2
    else:  # those of the first user stay
        assert evicts == [
            f"ShardError the cache {shared} of 250 bytes has no room for d of 100: the rest are "
            "files of other users"
        ]
        assert cached(shared) == {"a", "c"}
    assert {path.stat().st_mode & 0o777 for path in cached_files(shared)} == {0o644}


def test_user_who_may_not_write_reads_what_is_cached(shared: Path) -> None:
    shared.mkdir()
    os.chown(shared, int(FIRST), -1)
    assert as_user(FIRST, shared, 1000, "a") == ["put a"]
    read, refused = as_user(SECOND, shared, 1000, "a", "b")
    assert read == "put a"
    assert refused.startswith(f"ShardError b cannot be written to the cache {shared}: ")
    assert "Permission denied" in refused
    cached_files(shared)[0].write_bytes(b"")  # a damaged one cannot be replaced
    [refused] = as_user(SECOND, shared, 1000, "a")
    assert refused.startswith(f"ShardError a cannot be written to the cache {shared}: ")
    assert as_user(FIRST, shared, 1000, "a") == ["put a"]
    assert cached_files(shared)[0].stat().st_size == 100


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
