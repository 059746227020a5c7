"""The result of an audit: its form for a terminal, and the table of leaks."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from shards.atomic import atomic_write
from shards.audit.audit import AuditResult, SetResult
from shards.audit.files.errors import AuditError
from shards.terminal import count_noun, listed, printable, table_row

LABEL_WIDTH = 20
_COLUMNS = ("names", "leaking", "captions", "clean", "not checked")

#: The columns of the table of leaks: a row for each image of the file and evaluation image.
LEAKS = pa.schema(
    [
        ("image", pa.string()),
        ("file", pa.string()),
        ("captions", pa.int64()),
        ("eval_set", pa.string()),
        ("eval_image", pa.string()),
        ("join", pa.string()),
    ]
)


def lines(result: AuditResult, not_read: Sequence[str]) -> Iterator[str]:
    """Yields the table of evaluation sets, what was not checked, and the totals.

    ``not_read``: the files beside those that were read.
    """
    width = max(LABEL_WIDTH, *(len(printable(name)) + 1 for name in result.sets))
    yield table_row("evaluation set", _COLUMNS, width)
    for name, of_set in result.sets.items():
        yield from _set_rows(printable(name), of_set, width)
    if len(result.sets) > 1:
        values = ["", *result.leaking, result.clean.images, result.not_checked.images]
        yield table_row("in any", values, width)
    yield ""
    for name, of_set in result.sets.items():
        for reason, (counts, sample) in of_set.not_checked.items():
            captions = count_noun(counts.captions, "caption")
            yield printable(
                f"not checked against {name}: {count_noun(counts.images, 'image')} "
                f"(such as {sample[:100]}; {captions}): {reason.images}: give {reason.remedy}"
            )
        if count := result.set_aside.get(name):
            yield printable(
                f"not checked against {name}: {count_noun(count, 'image')} of it, of which the "
                "tables state no id of another dataset: give --images and --eval-images"
            )
    for split, count in sorted(result.other_splits.items()):
        yield printable(f"not trained on: {count_noun(count, 'record')} of split {split[:80]}")
    if not_read:
        yield printable(f"not checked: {count_noun(len(not_read), 'file')}: {listed(not_read)}")
    leaking, total = result.leaking, result.total
    if leaking.images:
        yield (
            f"leaks: {leaking.images:,} of {count_noun(total.images, 'image')}, "
            f"{leaking.captions:,} of {count_noun(total.captions, 'caption')}"
        )
    else:
        clean, not_checked = result.clean.images, result.not_checked.images
        images = count_noun(total.images, "image")
        files = f"; {count_noun(len(not_read), 'file')} not checked" if not_read else ""
        yield f"no leaks: of {images}, {clean:,} are clean and {not_checked:,} not checked{files}"


def write_leaks(result: AuditResult, not_read: Sequence[str], output: Path) -> None:
    """Writes the table of leaks, sorted: Parquet, or JSON with the counts of each set.

    Raises:
        AuditError: The name ends in neither .parquet nor .json.
        OSError: It cannot be written.
    """
    rows = [
        {
            "image": leak.image,
            "file": leak.file,
            "captions": result.captions[leak.image],
            "eval_set": leak.eval_set,
            "eval_image": leak.eval_image,
            "join": leak.join,
        }
        for leak in sorted(result.leaks)
    ]
    check_output(output)
    with atomic_write(output) as file:
        if output.suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(rows, LEAKS), file, compression="zstd")
        else:
            _write_json(file, result, not_read, rows)


def check_output(output: Path) -> None:
    """Checks the name of a table of leaks.

    Raises:
        AuditError: It ends in neither .parquet nor .json.
    """
    if output.suffix not in (".parquet", ".json"):
        raise AuditError(f"{output}: expected a name that ends in .parquet or .json")


def _set_rows(name: str, result: SetResult, width: int) -> Iterator[str]:
    images = sum(counts.images for counts in result.leaking.values())
    captions = sum(counts.captions for counts in result.leaking.values())
    not_checked = sum(counts.images for counts, _ in result.not_checked.values())
    yield table_row(name, [result.named, images, captions, result.clean.images, not_checked], width)
    for join, counts in result.leaking.items():
        yield table_row(f"  {join}", ["", *counts], width)


def _write_json(
    file: BinaryIO, result: AuditResult, not_read: Sequence[str], rows: list[dict[str, object]]
) -> None:
    sets = {
        name: {
            "names": of_set.named,
            "leaking": {join: counts._asdict() for join, counts in of_set.leaking.items()},
            "clean": of_set.clean._asdict(),
            "not_checked": [
                {"reason": reason.images, "remedy": reason.remedy, **counts._asdict()}
                for reason, (counts, _) in of_set.not_checked.items()
            ],
        }
        for name, of_set in result.sets.items()
    }
    document = {
        "total": result.total._asdict(),
        "leaking": result.leaking._asdict(),
        "clean": result.clean._asdict(),
        "not_checked": result.not_checked._asdict(),
        "not_trained_on": result.other_splits,
        "files_not_checked": [*not_read],
        "eval_sets": sets,
        "leaks": rows,
    }
    file.write(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
