"""Files beside the shards: written under a temporary name and renamed."""

import hashlib

from apache_beam.io.filesystems import FileSystems

from pipelines.beam.reading import RejectedRows
from pipelines.io.beam_files import atomic_write, scratch_folder
from pipelines.io.lease import Lease
from schemas import Rejected, arrow
from shards.format.manifest import FileEntry
from shards.format.tables import encode_table
from shards.reading.tables import REJECTED


def write_file(output: str, name: str, content: bytes, lease: Lease | None) -> FileEntry:
    """Writes a file, and returns its entry in the manifest.

    Raises:
        LeaseLostError: Another build has taken over the lease that this one held.
    """
    scratch = scratch_folder(output, lease)
    with atomic_write(FileSystems.join(output, name), scratch, lease) as file:
        file.write(content)
    return FileEntry(name, len(content), hashlib.sha256(content).hexdigest())


def write_rejected(output: str, rows: RejectedRows, lease: Lease | None) -> str:
    """Writes the rejected rows of a build that fails, and returns the path of the table.

    Raises:
        LeaseLostError: Another build has taken over the lease that this one held.
    """
    table: list[Rejected] = sorted(rows.all(), key=lambda row: (row.source, row.record, row.reason))
    write_file(output, REJECTED, encode_table(table, arrow.REJECTED), lease)
    path: str = FileSystems.join(output, REJECTED)
    return path
