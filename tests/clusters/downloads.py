"""Downloads the engines, once for a machine, to ``~/.cache/grounded-text/clusters``.

python -m tests.clusters.downloads    # all of them; needs Maven and Go, and no library
"""

import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
CACHE = Path("~/.cache/grounded-text/clusters").expanduser()
_PRISM = "github.com/apache/beam/sdks/v2/go/cmd/prism"


def class_path(pom: Path) -> str:
    """Returns the jars of a pom.xml and of all that it depends on, as ``java -cp`` takes them."""
    key = hashlib.sha256(pom.read_bytes()).hexdigest()[:16]
    file = CACHE / f"{pom.parent.name}-{key}.classpath"
    with _lock("maven"):  # whose repository is not made for two processes
        if not file.exists() or not all(map(os.path.exists, file.read_text().split(os.pathsep))):
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                resolved = Path(folder) / file.name
                project = shutil.copy(pom, folder)
                command = ["mvn", "-q", "-B", "-f", project, "dependency:build-classpath"]
                _run([*command, f"-Dmdep.outputFile={resolved}"])
                resolved.rename(file)
    return file.read_text()


def prism() -> Path:
    """Returns Beam's Prism runner, of the version of Beam that is pinned."""
    pins = (REPOSITORY / "constraints.txt").read_text()
    version = f"v{re.search(r'^apache-beam==(.*)$', pins, re.MULTILINE)[1]}"
    program = CACHE / f"prism-{version}"
    with _lock("prism"):
        if not program.exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                _run(["go", "install", f"{_PRISM}@{version}"], GOBIN=folder)
                (Path(folder) / "prism").rename(program)
    return program


@contextmanager
def _lock(name: str) -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(command: list[str], **environment: str) -> None:
    """Runs a download.

    Raises:
        RuntimeError: It fails; the message is what the program printed.
    """
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stdout}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # deletes temporary folders
    for pom in sorted(Path(__file__).parent.glob("*/pom.xml")):
        class_path(pom)
    prism()
