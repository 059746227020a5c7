"""The output folder of a build: which files in it a build may write and delete.

A build writes files of a few names (`file_names`) and a folder for temporary files. It replaces or
deletes a file only if the file has such a name, and is listed in the manifest of the set that the
build replaces, or in the journal of a build that did not finish. The journal is written before
the first file, and deleted after the last one.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from pipelines.io.beam_files import SCRATCH
from pipelines.io.folders import delete_file, delete_folder, list_names, write_file
from pipelines.io.raw_files import StoreError, is_local, open_binary
from pipelines.recipe import Recipe
from schemas.decodable import decodable
from shards.format import index
from shards.format import manifest as mf
from shards.format.placement import shard_name
from shards.reading.tables import EXCLUDED, REJECTED, STATS
from shards.terminal import listed

JOURNAL = ".mdetr-build.json"
TABLES = (index.NAME, REJECTED, EXCLUDED, STATS)
_SHARD = re.compile(r"[A-Za-z0-9_]+-\d{5,}-of-\d{5,}\.tar")
# Parts of a URL's path that fsspec reads as something other than a name, and Beam as a name.
_NO_NAME = re.compile(r"::|\?versionId=|(\?generation=|#)\d+$")
_LISTED = 3  # files named in a message


class OutputFolderError(Exception):
    """A folder that a build must not or cannot write to; the message says why."""


class Journal(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The names that an unfinished build may have written, and those that it was to delete."""

    journal_version: int = 1
    recipe_sha256: str
    files: list[str]


def file_names(recipe: Recipe) -> set[str]:
    """Returns the names of all files of a recipe's shard set."""
    shards = {
        shard_name(name, shard, split.shards)
        for name, split in recipe.splits.items()
        for shard in range(split.shards)
    }
    return {*shards, *TABLES, mf.NAME}


class OutputFolder:
    """The output folder of one build of a recipe: ``prepare`` it, build, ``finish`` it."""

    def __init__(self, path: str, recipe: Recipe) -> None:
        self._path = path
        self._recipe = recipe

    def prepare(self, overwrite: bool) -> None:
        """Deletes what earlier builds left, the manifest first, and writes the journal before that.

        Args:
            overwrite: Whether to delete a finished shard set.

        Raises:
            OutputFolderError: The folder has a finished set, or files that no build wrote have
                names that this one would write; nothing was changed. Or it cannot be written to.
        """
        if not is_local(self._path) and _NO_NAME.search(self._path):
            raise OutputFolderError(
                f"{self._path}: '::', '?versionId=', '?generation=' and '#' with a number are not "
                "read as parts of a name in a bucket; choose another --output"
            )
        with self._errors():
            present = list_names(self._path)
            claimed = self._claimed(present, overwrite)
            names = file_names(self._recipe)
            self._check_foreign(present & {*names, JOURNAL, SCRATCH} - claimed)
            journal = Journal(
                recipe_sha256=self._recipe.sha256(),
                files=sorted(names | claimed - {JOURNAL, SCRATCH}),
            )
            write_file(self._file(JOURNAL), msgspec.json.encode(journal) + b"\n")
            if mf.NAME in present:
                delete_file(self._file(mf.NAME))
            for name in sorted(present & claimed - {mf.NAME, JOURNAL, SCRATCH}):
                delete_file(self._file(name))
            delete_folder(self._file(SCRATCH))
            if is_local(self._path):
                Path(self._file(SCRATCH)).mkdir()

    def finish(self, manifest: mf.Manifest) -> None:
        """Deletes all that the journal lists and the manifest does not, and the journal last.

        Workers of a killed build may have written files of that build since `prepare`. Without a
        journal, the folder is finished.

        Raises:
            OutputFolderError: The folder cannot be written to.
        """
        written = {mf.NAME, *(shard.file for shard in manifest.shards)}
        written |= {entry.file for entry in manifest.files}
        with self._errors():
            present = list_names(self._path)
            if JOURNAL not in present:
                return
            for name in sorted(present & self._journaled() - written):
                delete_file(self._file(name))
            delete_folder(self._file(SCRATCH))
            delete_file(self._file(JOURNAL))

    def _claimed(self, present: set[str], overwrite: bool) -> set[str]:
        """Returns the names that belong to earlier builds, by their manifest and journal."""
        claimed: set[str] = set()
        if JOURNAL in present:
            claimed |= {JOURNAL, SCRATCH, *self._journaled()} - {mf.NAME}
        if mf.NAME in present:
            try:
                listed = mf.listed_files(self._read(mf.NAME), self._path)
            except mf.NotAShardSetError:
                return claimed  # another program's: it is refused with all other foreign files
            if not overwrite:
                raise OutputFolderError(
                    f"{self._path} is a finished shard set; --overwrite replaces it"
                )
            claimed |= {mf.NAME, *filter(_is_name_of_build, listed)}
        return claimed

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
        except (OSError, StoreError) as error:
            raise OutputFolderError(f"cannot write to {self._path}: {error}") from error


def _is_name_of_build(name: str) -> bool:
    return name in (*TABLES, mf.NAME) or _SHARD.fullmatch(name) is not None
