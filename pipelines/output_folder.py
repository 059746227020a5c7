"""The output folder of a build: which files in it a build may write and delete.

A build writes files of a few names (`file_names`) and a folder for temporary files. It replaces or
deletes a file only if the file has such a name, and is listed in the manifest of the set that the
build replaces, or in the journal of a build that did not finish. The journal is written before
the first file, and deleted after the last one.

In a bucket, or if its workers may go on without it, a build holds a lease of its output
(`pipelines.io.lease`), and replaces or deletes only the versions of files that it listed while it
held the lease.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from pipelines.io import conditional_files
from pipelines.io.beam_files import SCRATCH
from pipelines.io.conditional_files import ChangedError
from pipelines.io.folders import (
    delete_file,
    delete_folder,
    files_below,
    list_names,
    list_sizes,
    list_versions,
    write_file,
)
from pipelines.io.lease import Holder, Lease, LeaseLostError, check
from pipelines.io.raw_files import StoreError, is_local, open_binary
from pipelines.recipe import Recipe
from schemas.decodable import decodable
from shards.format import manifest as mf
from shards.format.placement import index_name, shard_name
from shards.reading.tables import EXCLUDED, REJECTED, STATS
from shards.terminal import listed

JOURNAL = ".mdetr-build.json"
TABLES = (REJECTED, EXCLUDED, STATS)
_OLD_INDEX = "index.parquet"  # of all shards, before version 5 of the format
_SHARD = re.compile(r"[A-Za-z0-9_]+-\d{5,}-of-\d{5,}\.(tar|index\.parquet)")
# Parts of a URL's path that fsspec reads as something other than a name, and Beam as a name.
_NO_NAME = re.compile(r"::|\?versionId=|(\?generation=|#)\d+$")
_TOKEN = re.compile(r"[0-9a-f]{32}")  # of a lease
_LISTED = 3  # files named in a message


class OutputFolderError(Exception):
    """A folder that a build must not or cannot write to; the message says why."""


class Journal(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The names that an unfinished build may have written, and those that it was to delete."""

    journal_version: int = 1
    recipe_sha256: str
    files: list[str]
    holder: Holder | None = None  # the process that builds


def file_names(recipe: Recipe) -> set[str]:
    """Returns the names of all files of a recipe's shard set."""
    shards = {
        shard_name(name, shard, split.shards)
        for name, split in recipe.splits.items()
        for shard in range(split.shards)
    }
    return {*shards, *map(index_name, shards), *TABLES, mf.NAME}


def check_url(path: str) -> None:
    """Checks that fsspec and Beam read the URL of an output as the same name.

    Raises:
        OutputFolderError: They do not.
    """
    if not is_local(path) and _NO_NAME.search(path):
        raise OutputFolderError(
            f"{path}: '::', '?versionId=', '?generation=' and '#' with a number are not read as "
            "parts of a name in a bucket; choose another --output"
        )


def running_build(folder: str) -> Holder | None:
    """Returns which process builds into a local folder; None if it has not stated so yet."""
    try:
        content = Path(folder, JOURNAL).read_bytes()
        return msgspec.json.decode(content, type=decodable(Journal)).holder
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


class OutputFolder:
    """The output folder of one build of a recipe: ``prepare`` it, build, ``finish`` it."""

    def __init__(self, path: str, recipe: Recipe, lease: Lease | None = None) -> None:
        """Creates it; ``recipe`` is as written, with relative paths."""
        self._path = path
        self._recipe = recipe
        self._lease = lease

    def prepare(self, *, overwrite: bool = False, rebuild: bool = False) -> None:
        """Deletes what earlier builds left, and writes the journal before that.

        Temporary files are deleted first, then the manifest, then the other files.

        Args:
            overwrite: Whether to delete a finished shard set of any recipe.
            rebuild: Whether to delete one of this recipe.

        Raises:
            OutputFolderError: The folder has a finished set, or files that no build wrote have
                names that this one would write; nothing was changed. Or it cannot be written to.
            LeaseLostError: Another build has taken over the lease that this one held.
        """
        with self._errors():
            present = list_names(self._path)
            claimed = self._claimed(present, overwrite, rebuild)
            names = file_names(self._recipe)
            self._check_foreign(present & {*names, JOURNAL, SCRATCH} - claimed)
            journal = Journal(
                recipe_sha256=self._recipe.sha256(),
                files=sorted(names | claimed - {JOURNAL, SCRATCH}),
                holder=Holder.this_process(),
            )
            self._write_journal(msgspec.json.encode(journal) + b"\n")
            self._delete_scratch()
            self._delete([mf.NAME])
            self._delete(claimed - {mf.NAME, JOURNAL, SCRATCH})
            if is_local(self._path):
                Path(self._file(SCRATCH)).mkdir()

    def finish(self, manifest: mf.Manifest) -> None:
        """Deletes all that the journal lists and the manifest does not, and the journal last.

        Workers of a killed build may have written files of that build since `prepare`. Without a
        journal, the folder is finished.

        Raises:
            OutputFolderError: The folder cannot be written to, or a file of the set is missing.
            LeaseLostError: Another build has taken over the lease that this one held.
        """
        sizes = mf.file_sizes(manifest)
        with self._errors():
            if JOURNAL not in list_names(self._path):
                return
            self._delete(self._journaled() - {mf.NAME, *sizes})
            self._delete_scratch()
            self._delete([JOURNAL])
            present = list_sizes(self._path) if self._lease else sizes
        wrong = sorted(name for name, size in sizes.items() if present.get(name) != size)
        if wrong:
            raise OutputFolderError(
                f"{self._path} was changed while it was built: {listed(wrong, _LISTED)} "
                "missing or of another size"
            )

    def _write_journal(self, content: bytes) -> None:
        path = self._file(JOURNAL)
        if self._lease:
            version = list_versions(self._path).get(JOURNAL)
            check(self._lease)
            conditional_files.write(path, content, version)
        else:
            write_file(path, content)

    def _delete(self, names: Iterable[str]) -> None:
        """Deletes those files of these names that exist."""
        if self._lease:
            versions = list_versions(self._path)
            for name in sorted(versions.keys() & names):
                check(self._lease)
                conditional_files.delete(self._file(name), versions[name])
        else:
            for name in sorted(list_names(self._path) & set(names)):
                delete_file(self._file(name))

    def _delete_scratch(self) -> None:
        """Deletes all temporary files; their names tell those of one build from another's."""
        if self._lease and not is_local(self._path):
            paths = files_below(self._file(SCRATCH))
            check(self._lease)
            for path in paths:
                with contextlib.suppress(FileNotFoundError):  # its build may just have renamed it
                    delete_file(path)
        else:
            delete_folder(self._file(SCRATCH))

    def _claimed(self, present: set[str], overwrite: bool, rebuild: bool) -> set[str]:
        """Returns the names that belong to earlier builds, by their manifest and journal."""
        claimed: set[str] = set()
        if self._lease and all(map(_TOKEN.fullmatch, list_names(self._file(SCRATCH)))):
            claimed.add(SCRATCH)  # of a build that lost its lease, and wrote on for a while
        if JOURNAL in present:
            claimed |= {JOURNAL, SCRATCH, *self._journaled()} - {mf.NAME}
        if mf.NAME in present:
            try:
                manifest = self._read(mf.NAME)
                listed = mf.listed_files(manifest, self._path)
            except mf.NotAShardSetError:
                return claimed  # another program's: it is refused with all other foreign files
            if not (overwrite or (rebuild and self._is_of_recipe(manifest))):
                raise OutputFolderError(
                    f"{self._path} is a finished shard set; --overwrite replaces it"
                )
            claimed |= {mf.NAME, *filter(_is_name_of_build, listed)}
        return claimed

    def _is_of_recipe(self, manifest: bytes) -> bool:
        try:
            return mf.decode(manifest, self._path).recipe_sha256 == self._recipe.sha256()
        except mf.NotAShardSetError:
            return False  # of another version of the format

    def _journaled(self) -> set[str]:
        try:
            journal = msgspec.json.decode(self._read(JOURNAL), type=decodable(Journal))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise OutputFolderError(
                f"{self._file(JOURNAL)} is not the journal of a build: {error}"
            ) from error
        for name in journal.files:
            if not _is_name_of_build(name):
                raise OutputFolderError(
                    f"{self._file(JOURNAL)} is not the journal of a build: it lists {name[:80]!a}"
                )
        return set(journal.files)

    def _check_foreign(self, foreign: set[str]) -> None:
        if foreign:
            raise OutputFolderError(
                f"{self._path} has files that no build wrote, under names that this one would "
                f"write: {listed(sorted(foreign), _LISTED)}; move them, or choose another --output"
            )

    def _read(self, name: str) -> bytes:
        with open_binary(self._file(name)) as file:
            return file.read()

    def _file(self, name: str) -> str:
        return f"{self._path}/{name}"

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Raises the errors of the folder or its store as an `OutputFolderError`."""
        try:
            yield
        except ChangedError as error:
            raise LeaseLostError(f"another build is writing to {self._path}: {error}") from error
        except (OSError, StoreError) as error:
            raise OutputFolderError(f"cannot write to {self._path}: {error}") from error


def _is_name_of_build(name: str) -> bool:
    return name in (*TABLES, _OLD_INDEX, mf.NAME) or _SHARD.fullmatch(name) is not None
