"""Downloads one file: `python -m tests.pipelines.fetch.download_process TARGET ADDRESS LIMIT`.

LIMIT is the most bytes that a file on its disk may have, 0 for any number. If it is -1, the file is
downloaded again and again by processes that are killed, each before a later one of its file
operations, and finished by a second process each; their number is printed. If it is -2, ten
processes after each other are killed at a random moment, and none finishes.
"""

import itertools
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path

from pipelines.fetch.download import Patience, Wanted, download
from pipelines.fetch.partial_file import DiskError

OPERATIONS = ("open", "os.rename", "os.remove", "os.truncate", "os.mkdir")


def fetch(target: Path, address: str) -> int:
    wanted = Wanted(name=target.name, addresses=[address])
    patience = Patience(tries=3, pause=0.01, timeout=10)
    try:
        download(wanted, target, lambda _: None, before_rename=lambda _: None, patience=patience)
    except DiskError as error:
        print(error)
        return 1
    return 0


def kill_before(operation: int, folder: Path) -> None:
    """Kills this process before its n-th operation on a file in a folder, counted from 0."""
    counter = itertools.count()

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        is_ours = event in OPERATIONS and str(arguments[0]).startswith(str(folder))
        if is_ours and next(counter) == operation:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def in_child(target: Path, address: str, operation: int | None) -> int:
    """Downloads in a child process; returns its exit status, negative for a signal."""
    child = os.fork()
    if child == 0:
        if operation is not None:
            kill_before(operation, target.parent)
        os._exit(fetch(target, address))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_again_and_again(target: Path, address: str) -> int:
    """Returns how often the download was killed until it ended."""
    assert fetch(target, address) == 0
    content = target.read_bytes()
    for operation in itertools.count():
        folder = target.parent / str(operation)
        copy = folder / target.name
        status = in_child(copy, address, operation)
        assert not copy.exists() or copy.read_bytes() == content
        if status == 0:
            return operation
        assert status == -signal.SIGKILL, status
        if not copy.exists():
            assert in_child(copy, address, None) == 0
        assert copy.read_bytes() == content
    raise AssertionError


def kill_at_random_moments(target: Path, address: str) -> None:
    """Checks that there is no file of the final name after each."""
    generator = random.Random(4)
    for _ in range(10):
        child = os.fork()
        if child == 0:
            os._exit(fetch(target, address))
        time.sleep(generator.uniform(0.05, 0.7))
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        assert not target.exists()


def main(target: Path, address: str, limit: int) -> int:
    if limit == -2:
        kill_at_random_moments(target, address)
        return 0
    if limit == -1:
        print(kill_again_and_again(target, address))
        return 0
    if limit:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    return fetch(target, address)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
