"""The lease of an output: one build at a time writes there, whether its launcher lives or not.

The lease is an object of the output, created only if there is none and replaced only in the version
that was read. A thread of the launcher renews it. One that was not renewed for its term is taken
over: its build was killed, or its machine sleeps. A build of the second kind may wake up at any
time, so a lease alone does not keep it from writing over its successor. Three rules do:

1. A build writes a file under a temporary name that no other build uses, then calls `check`, then
   renames the file.
2. A build that takes over deletes all temporary files first, and then the files that it replaces.
3. Between listing files and deleting them, a build calls `check`.

So a file that was complete before the lease was lost cannot be renamed after step 2, since stores
do not rename what does not exist; and one that was completed later is not renamed at all.
"""

import contextlib
import datetime
import getpass
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator

import msgspec

from pipelines.io import conditional_files
from pipelines.io.conditional_files import ChangedError, StoredFile
from pipelines.io.raw_files import StoreError
from schemas.decodable import decodable

NAME = ".mdetr-lease.json"
TERM = 60.0  # seconds after which a lease that was not renewed is taken over
DETACHED_TERM = 24 * 3600.0  # of a build whose launcher does not wait for its end
_RENEWALS = 6  # in a term
_WATCHES = 3  # in a term of a launcher: how long a lease that seems to be old is watched


class Holder(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The process that builds, and since when."""

    host: str
    pid: int
    user: str
    since: str  # UTC, as "2026-01-31 12:00:00"

    @classmethod
    def this_process(cls) -> "Holder":
        """Returns the holder that this process is from now on."""
        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # of a container, whose users may have no name
            user = str(os.getuid())
        since = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M:%S}"
        return cls(host=socket.gethostname(), pid=os.getpid(), user=user, since=since)

    def __str__(self) -> str:
        return f"process {self.pid} of {self.user} on {self.host}, since {self.since} UTC"


class _Content(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a lease object contains. The number makes each renewal another version on S3."""

    lease_version: int = 1
    token: str
    holder: Holder
    term: float  # seconds
    renewals: int = 0


class Lease(msgspec.Struct, frozen=True):
    """A lease as the workers of a build know it: the output, and the token of the build."""

    output: str
    token: str

    @property
    def path(self) -> str:
        """The URL of the lease object."""
        return f"{self.output}/{NAME}"


class LeaseHeldError(Exception):
    """Another build holds the lease; the message says which, and since when."""


class LeaseLostError(Exception):
    """Another build has taken the lease over, or it was deleted."""


class JobLeftError(KeyboardInterrupt):
    """The launcher was interrupted, and its job goes on."""


class LeaseError(Exception):
    """A lease object has a content that no build wrote."""


def check(lease: Lease) -> None:
    """Checks that a build still holds its lease.

    Raises:
        LeaseLostError: Another build has taken it over.
        StoreError: The store cannot be reached.
    """
    stored = conditional_files.read(lease.path)
    content = _decode(stored, lease.path) if stored else None
    if content is None or content.token != lease.token:
        other = content.holder if content else "a build that has ended"
        raise LeaseLostError(
            f"another build has taken {lease.output} over, while this one did not renew its lease: "
            f"{other}"
        )


def release(lease: Lease, *, is_left: bool = True) -> None:
    """Deletes the lease of a build, unless another build took it over.

    Args:
        lease: The lease.
        is_left: Whether the launcher does not wait for the end of the build. If it did when the job
            began, it may have left since, which its lease states.

    Raises:
        StoreError: The store cannot be reached.
    """
    while stored := conditional_files.read(lease.path):
        content = _decode(stored, lease.path)
        if content.token != lease.token or not (is_left or content.term == DETACHED_TERM):
            return
        with contextlib.suppress(ChangedError):  # the launcher is just leaving
            conditional_files.delete(lease.path, stored.version)


@contextlib.contextmanager
def held(output: str, *, detach: bool = False) -> Iterator[Lease]:
    """Holds the lease of an output during the block.

    If it is lost, the main thread is interrupted as by Ctrl-C. If the block raises `JobLeftError`,
    the lease stays until the job ends.

    Args:
        output: The output.
        detach: Whether workers go on after the block, and `release` the lease.

    Raises:
        LeaseHeldError: Another build holds it.
        LeaseLostError: It was lost during the block.
        LeaseError: The object is not a lease.
        StoreError: The store cannot be reached.
    """
    lease = Lease(output, uuid.uuid4().hex)
    content = _Content(token=lease.token, holder=Holder.this_process(), term=TERM)
    renewer = _Renewer(lease, content, _acquire(lease.path, content))
    renewer.start()
    try:
        yield lease
    except BaseException as error:
        renewer.stop()
        if renewer.is_lost and isinstance(error, KeyboardInterrupt):
            check(lease)
        with contextlib.suppress(StoreError):  # it is taken over after its term
            if isinstance(error, JobLeftError):
                renewer.extend(DETACHED_TERM)
            else:
                renewer.release()
        raise
    renewer.stop()
    if detach:
        renewer.extend(DETACHED_TERM)
    else:
        renewer.release()


def _acquire(path: str, content: _Content) -> str:
    """Writes a lease where there is none, or one that is older than its term."""
    while True:
        stored = conditional_files.read(path)
        if stored is not None:
            _wait_until_old(path, stored)
        version = stored.version if stored else None
        with contextlib.suppress(ChangedError):  # by another build: read again whose it is
            return conditional_files.write(path, _encode(content), version)


def _wait_until_old(path: str, stored: StoredFile) -> None:
    """Returns if a lease is older than its term and is not renewed meanwhile.

    The clocks of this machine and of the store may differ, so a lease that seems to be old is
    watched for the time of several renewals.

    Raises:
        LeaseHeldError: It is renewed.
    """
    content = _decode(stored, path)
    age = (datetime.datetime.now(datetime.UTC) - stored.written).total_seconds()
    if age > content.term:
        time.sleep(min(content.term, TERM) / _WATCHES)
        latest = conditional_files.read(path)
        if latest is None or latest.version == stored.version:
            return
    output = path.removesuffix(f"/{NAME}")
    message = f"another build is writing to {output}: {content.holder}"
    if content.term == DETACHED_TERM:
        message += f"; it left a job running: if that has failed, delete {path}"
    raise LeaseHeldError(message)


class _Renewer(threading.Thread):
    """Writes a lease anew several times in its term, until it is released or lost."""

    def __init__(self, lease: Lease, content: _Content, version: str) -> None:
        super().__init__(name="lease", daemon=True)
        self._lease = lease
        self._content = content
        self._version = version
        self._stopped = threading.Event()
        self.is_lost = False

    def run(self) -> None:
        while not self._stopped.wait(self._content.term / _RENEWALS):
            try:
                self._renew()
            except ChangedError:
                self.is_lost = True
                main = threading.main_thread().ident
                assert main is not None
                signal.pthread_kill(main, signal.SIGINT)  # which ends waiting calls, too
                return
            except StoreError:
                continue  # nothing else can be written there either; it may be reached again

    def stop(self) -> None:
        """Stops renewing."""
        self._stopped.set()
        self.join()

    def extend(self, term: float) -> None:
        """Writes the lease with another term, unless it was lost or released.

        Raises:
            StoreError: The store cannot be reached.
        """
        self._content.term = term
        with contextlib.suppress(ChangedError):  # the job has ended already
            self._renew()

    def release(self) -> None:
        """Deletes the lease, unless it was lost.

        Raises:
            StoreError: The store cannot be reached.
        """
        with contextlib.suppress(ChangedError):  # it is that of the build that has taken it over
            conditional_files.delete(self._lease.path, self._version)

    def _renew(self) -> None:
        self._content.renewals += 1
        self._version = conditional_files.write(
            self._lease.path, _encode(self._content), self._version
        )


def _encode(content: _Content) -> bytes:
    return msgspec.json.encode(content) + b"\n"


def _decode(stored: StoredFile, path: str) -> _Content:
    try:
        return msgspec.json.decode(stored.content, type=decodable(_Content))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise LeaseError(f"{path} is not the lease of a build: {error}") from error
