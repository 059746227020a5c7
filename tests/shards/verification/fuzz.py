"""Random damage of every file of a shard set: bytes, JSON values, Parquet columns, tar headers.

``python -m tests.shards.verification.fuzz SET RAW COUNT`` verifies COUNT damaged copies.
"""

import json
import random
import shutil
import sys
import tempfile
import traceback
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shards.__main__ import main
from tests.shards.verification.set_data import SetData

_VALUES: list[Any] = [
    *(None, True, -1, 0, 2**31, 2**63, -(2**70), 1e308, 0.5, "", "x", "é\u0301", "\ud800"),
    *([], [[]], [None], ["a", 1], {}, {"a": None}, [[1, 2], [3]], "train", "../x", [0, -5], 7),
]


def _edit_json(rng: random.Random, value: Any) -> None:
    """Replaces, deletes or repeats an element somewhere in a JSON value."""
    while isinstance(value, dict | list) and value:
        place = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        inner = value[place]
        if not isinstance(inner, dict | list) or not inner or rng.random() < 0.3:
            action = rng.randrange(4)
            if action == 0:
                del value[place]
            elif action == 1 and isinstance(value, list):
                value.insert(place, inner)
            else:
                value[place] = rng.choice(_VALUES)
            return
        value = inner


def damage_bytes(rng: random.Random, folder: Path) -> None:
    """Inverts some bytes of a file, or cuts it short, or empties it."""
    path = rng.choice(sorted(folder.iterdir()))
    content = bytearray(path.read_bytes())
    action = rng.randrange(4)
    if action == 0:
        content = content[: rng.randrange(len(content) + 1)]
    elif action == 1:
        content += bytes(rng.randrange(256) for _ in range(rng.randrange(600)))
    elif content:
        for _ in range(rng.choice((1, 3, 40))):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    _restate(rng, folder)


def damage_file(rng: random.Random, folder: Path) -> None:
    """Replaces a file by another one, by a folder or by nothing."""
    files = sorted(folder.iterdir())
    path, other = rng.choice(files), rng.choice(files)
    content = other.read_bytes()
    path.unlink()
    action = rng.randrange(4)
    if action == 0:
        path.mkdir()
    elif action > 1:
        path.write_bytes(content)
    _restate(rng, folder)


def damage_json(rng: random.Random, folder: Path) -> None:
    """Changes values of the manifest or of stats.json."""
    path = folder / rng.choice(("manifest.json", "manifest.json", "stats.json"))
    content = json.loads(path.read_text())
    for _ in range(rng.choice((1, 1, 4))):
        _edit_json(rng, content)
    path.write_text(json.dumps(content))
    _restate(rng, folder)


def damage_samples(rng: random.Random, folder: Path) -> None:
    """Changes values in samples; tars and index follow, as far as the samples allow it."""
    data = SetData(folder)
    for _ in range(rng.choice((1, 5))):
        image = rng.choice(data.images())
        _edit_json(rng, image.sample)
    try:
        data.write(folder)
    except _NO_SAMPLE:
        damage_members(rng, folder)


#: What is raised where a sample is none any more, before anything is written.
_NO_SAMPLE = (KeyError, TypeError, ValueError, AttributeError, OverflowError, pa.ArrowException)


def damage_members(rng: random.Random, folder: Path) -> None:
    """Replaces the JSON of a sample by one of the same length; the index has its CRC-32."""
    index = _some_index(rng, folder)
    rows = pq.read_table(index).to_pylist()
    row = rng.choice(rows)
    path = folder / row["shard"]
    tar = bytearray(path.read_bytes())
    begin, size = row["json_offset"], row["json_size"]
    sample = json.loads(tar[begin : begin + size])
    _edit_json(rng, sample)
    encoded = json.dumps(sample).encode()[:size].ljust(size)
    tar[begin : begin + size] = encoded
    path.write_bytes(tar)
    row["json_crc32"] = zlib.crc32(encoded)
    _write_index(index, rows, pq.read_schema(index))
    _restate(rng, folder, always=True)


def damage_index(rng: random.Random, folder: Path) -> None:
    """Changes values, columns or types of the index of a shard."""
    path = _some_index(rng, folder)
    schema, rows = pq.read_schema(path), pq.read_table(path).to_pylist()
    action = rng.randrange(4)
    if action == 0:
        schema = schema.remove(rng.randrange(len(schema)))
    elif action == 1:
        name = rng.choice(schema.names)
        kind = rng.choice((pa.string(), pa.float64(), pa.bool_(), pa.list_(pa.int64())))
        schema = schema.set(schema.get_field_index(name), pa.field(name, kind))
        values: dict[Any, Any] = {pa.string(): "x", pa.float64(): 0.5, pa.bool_(): True}
        for row in rows:
            row[name] = values.get(kind, [1])
    else:
        for row in rng.sample(rows, rng.choice((1, len(rows)))):
            name = rng.choice(schema.names)
            kind = schema.field(name).type
            if pa.types.is_integer(kind):
                row[name] = rng.choice((None, -1, 0, 7, 2**31 - 1))
            elif pa.types.is_string(kind):
                row[name] = rng.choice((None, "", "x", "coco/1", "../x", rows[0][name]))
            else:
                item = 7 if pa.types.is_integer(kind.value_type) else "x"
                row[name] = rng.choice((None, [], [None], [item]))
    _write_index(path, rows, schema)
    _restate(rng, folder, always=True)


def _some_index(rng: random.Random, folder: Path) -> Path:
    """Returns the index of one of the shards with images."""
    paths = sorted(folder.glob("*.index.parquet"))
    return rng.choice([path for path in paths if pq.read_metadata(path).num_rows])


def _write_index(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    pq.write_table(pa.Table.from_pylist(rows, schema), path)


def damage_table(rng: random.Random, folder: Path) -> None:
    """Changes columns or values of excluded.parquet or rejected.parquet."""
    path = folder / rng.choice(("excluded.parquet", "rejected.parquet"))
    table = pq.read_table(path)
    action = rng.randrange(4)
    place = rng.randrange(table.num_columns)
    name = table.column_names[place]
    if action == 0:
        table = table.remove_column(place)
    elif action == 1:
        table = table.set_column(place, name, pa.array([[1]] * len(table), pa.list_(pa.int8())))
    elif action == 2:
        table = table.set_column(place, name, pa.nulls(len(table), table.schema.types[place]))
    else:
        table = table.slice(rng.randrange(len(table) + 1))
    pq.write_table(table, path)
    _restate(rng, folder, always=True)


def damage_header(rng: random.Random, folder: Path) -> None:
    """Changes bytes in the header of a tar member."""
    path = rng.choice(sorted(folder.glob("*.tar")))
    tar = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 5))):
        tar[rng.randrange(min(512, len(tar)))] = rng.randrange(256)
    path.write_bytes(tar)
    _restate(rng, folder, always=True)


DAMAGES: list[Callable[[random.Random, Path], None]] = [
    *(damage_bytes, damage_file, damage_json, damage_json, damage_samples, damage_members),
    *(damage_index, damage_index, damage_table, damage_header),
]


def _restate(rng: random.Random, folder: Path, always: bool = False) -> None:
    """Updates sizes and checksums in the manifest, if it can be read; not always."""
    if not always and rng.random() < 0.2:
        return
    try:
        data = SetData.__new__(SetData)
        data.manifest = json.loads((folder / "manifest.json").read_text())
        data.write_manifest(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # the damage is in the manifest, or a file is gone


def fuzz(shard_set: Path, raw: Path | None, seed: int, folder: Path) -> tuple[str, int]:
    """Verifies a copy with a random damage; returns the damage and the exit status."""
    rng = random.Random(seed)
    shutil.copytree(shard_set, folder)
    damage = rng.choice(DAMAGES)
    damage(rng, folder)
    arguments = ["verify", str(folder), "--quiet"]
    if raw is not None and rng.random() < 0.3:
        arguments += ["--raw", str(raw), "--num-images", "10"]
    return damage.__name__, main(arguments)


if __name__ == "__main__":
    statuses: Counter[tuple[str, int]] = Counter()
    for number in range(int(sys.argv[3])):
        with tempfile.TemporaryDirectory() as parent:
            try:
                result = fuzz(Path(sys.argv[1]), Path(sys.argv[2]), number, Path(parent) / "set")
                statuses[result] += 1
            except Exception:
                print(f"CRASH of seed {number}", file=sys.stderr)
                traceback.print_exc(limit=-4)
    for (name, status), count in sorted(statuses.items()):
        print(f"{name}: status {status}: {count}", file=sys.stderr)
