"""The S3 store of a cluster, on its first host, and what is asked of it from there.

python -m tests.clusters.store upload FOLDER     # to the bucket raw
python -m tests.clusters.store digests PREFIX    # of the bucket made, as JSON
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec

from tests.clusters.hosts import Host
from tests.processes import run
from tests.s3_server import environment_of

_PORT = 9000


class Store:
    """A store with the buckets ``raw`` and ``made``.

    Attributes:
        environment: the variables by which a process on any host finds it.
    """

    def __init__(self, host: Host, folder: Path, raw: Path) -> None:
        """Starts the store on a host; ``raw`` are the files to put into it."""
        self._host, self._orders = host, folder
        self.environment = environment_of(f"http://{host.address}:{_PORT}")
        options = [f"--address={host.address}", f"--orders={folder}"]
        host.start("store", ["python", "-m", "tests.s3_server", _PORT, *options], port=_PORT)
        self._ask("upload", raw)

    def digests(self, prefix: str) -> dict[str, str]:
        """Returns the sha256 of every object below a prefix of the bucket ``made``."""
        return json.loads(self._ask("digests", prefix))

    def _ask(self, *arguments: object) -> str:
        command = [sys.executable, "-m", "tests.clusters.store", *arguments]
        return run(self._host.enter(command), env=self.environment, check=True).stdout

    @contextmanager
    def held(self, requests: str) -> Iterator[str]:
        """Lets requests wait in the block, which gets the address of a client that does.

        Args:
            requests: a regular expression of method and path.
        """
        hold, client = self._orders / "hold", self._orders / "held"
        client.unlink(missing_ok=True)
        hold.with_suffix(".new").write_text(requests)
        hold.with_suffix(".new").rename(hold)
        try:
            deadline = time.monotonic() + 500
            while not client.exists():
                assert time.monotonic() < deadline, f"no request matches {requests}"
                time.sleep(0.05)
            yield client.read_text()
        finally:
            hold.unlink()

    def fail(self, requests: str, seconds: float) -> None:
        """Answers every request with 503 for a time, from the first one on that matches."""
        order = self._orders / "outage"
        with self.held(requests):
            order.touch()
        time.sleep(seconds)
        order.unlink()


def main() -> None:
    action, argument = sys.argv[1:]
    # In its environment, see `Store`.
    system = fsspec.filesystem("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    if action == "upload":
        for bucket in ("raw", "made"):
            system.mkdir(bucket)
        system.put(argument, "raw/dataset", recursive=True)
    else:
        prefix = f"made/{argument}/"
        digests = {
            path.removeprefix(prefix): hashlib.sha256(system.cat_file(path)).hexdigest()
            for path in system.find(prefix)
        }
        print(json.dumps(digests))


if __name__ == "__main__":
    main()
