"""Files beside the shards: written under a temporary name and renamed."""

import hashlib

from apache_beam.io.filesystems import FileSystems

from pipelines.beam.reading import RejectedRows
from pipelines.io.beam_files import atomic_write, scratch_folder
from schemas import Rejected, arrow
from shards.format.manifest import FileEntry
from shards.format.tables import encode_table
from shards.reading.tables import REJECTED


def write_file(output: str, name: str, content: bytes) -> FileEntry:
    """Writes a file, and returns its entry in the manifest."""
    with atomic_write(FileSystems.join(output, name), scratch_folder(output)) as file:
        file.write(content)
    return FileEntry(name, len(content), hashlib.sha256(content).hexdigest())


def write_rejected(output: str, rows: RejectedRows) -> str:
    """Writes the rejected rows of a build that fails, and returns the path of the table."""
    table: list[Rejected] = sorted(rows.all(), key=lambda row: (row.source, row.record, row.reason))
    write_file(output, REJECTED, encode_table(table, arrow.REJECTED))
    path: str = FileSystems.join(output, REJECTED)
    return path
