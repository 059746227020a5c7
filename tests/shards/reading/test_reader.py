"""Reading samples and pairs, and refusing damaged files by name."""

import os
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shards.format import manifest as mf
from shards.format.manifest import NotAShardSetError, ShardError
from shards.reading.reader import Pair, ShardReader
from shards.reading.shard_set import ShardSet
from shards.sampling.sample_order import indices_of_shard
from tests.shard_sets import image, sample, write_index, write_shard_set

FIRST = "train-00000-of-00002.tar"
FIRST_INDEX = "train-00000-of-00002.index.parquet"
LAST_INDEX = "train-00001-of-00002.index.parquet"


def all_pairs(folder: Path) -> list[Pair]:
    shards = ShardSet.open(folder)
    reader = ShardReader(shards)
    return [
        reader.pair(int(p["shard"]), int(p["row"]), int(p["caption_index"]))
        for shard in range(len(shards.shards))
        for p in indices_of_shard(shards, shard)
    ]


def test_all_pairs_are_read(tmp_path: Path) -> None:
    write_shard_set(tmp_path, [[1, 0, 3], [], [2]], sizes=[(640, 480), (30, 40)])
    pairs = all_pairs(tmp_path)
    assert [(p.key, p.caption_index) for p in pairs] == [
        *(("vg/0", 0), ("vg/2", 0), ("vg/2", 1), ("vg/2", 2), ("vg/3", 0), ("vg/3", 1)),
    ]
    for pair in pairs:
        assert bytes(pair.image) == image(pair.key)
        [*captions] = sample(pair.key, 3).captions
        assert pair.caption.text == captions[pair.caption_index].text
        assert pair.caption.regions[0].spans == [(0, 7)]
        assert (pair.width, pair.height) == ((640, 480) if pair.key != "vg/3" else (30, 40))


def test_image_outlives_its_reader(tmp_path: Path) -> None:
    write_shard_set(tmp_path, [[1], [1]])
    pair = ShardReader(ShardSet.open(tmp_path)).pair(1, 0, 0)
    for path in tmp_path.iterdir():
        path.unlink()
    assert bytes(pair.image) == image("vg/1")


@pytest.mark.parametrize("images", [True, False])
def test_samples_are_read_without_their_images(tmp_path: Path, images: bool) -> None:
    write_shard_set(tmp_path, [[1, 0, 3], [2]], images=images)
    reader = ShardReader(ShardSet.open(tmp_path))
    stored = list(reader.samples("train"))
    assert [(item.shard, item.row) for item in stored] == [(0, 0), (0, 1), (0, 2), (1, 0)]
    samples = [item.sample for item in stored]
    assert [(sample.key, len(sample.captions)) for sample in samples] == [
        ("vg/0", 1),
        ("vg/1", 0),
        ("vg/2", 3),
        ("vg/3", 2),
    ]
    for item in samples:
        for i, caption in enumerate(item.captions):
            assert caption.text == f"caption {i} of {item.key}"
    if images:
        assert reader.image(0, 2) == ("vg/2.jpg", image("vg/2"))
        pair = reader.pair(0, 2, 1)
        assert (pair.width, pair.height) == (samples[2].width, samples[2].height)
        assert pair.caption == samples[2].captions[1]


class CountingShardSet(ShardSet):
    """Counts how often shards are opened."""

    opened = 0

    def open_shard(self, shard: int, *, verified: bool = False) -> BinaryIO:
        self.opened += 1
        return super().open_shard(shard, verified=verified)


def mapped_shards(folder: Path) -> int:
    """Returns how many shards of a folder this process has mapped."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return sum(line.endswith(".tar") and str(folder) in line for line in maps)


def test_reader_keeps_the_given_number_of_shards_open(tmp_path: Path) -> None:
    shards = CountingShardSet.open(write_shard_set(tmp_path, [[1]] * 30))
    assert isinstance(shards, CountingShardSet)
    reader = ShardReader(shards, open_shards=10)
    for shard in [*range(10)] * 5:
        assert reader.pair(shard, 0, 0).key == f"vg/{shard}"
    assert shards.opened == mapped_shards(tmp_path) == 10
    for shard in [*range(10, 20)] * 5:
        reader.pair(shard, 0, 0)
    assert shards.opened == 20
    assert mapped_shards(tmp_path) == 10
    reader.pair(10, 0, 0)  # the least recently read
    reader.pair(20, 0, 0)
    reader.pair(10, 0, 0)
    assert shards.opened == 21


def test_reading_pairs_imports_no_pandas(tmp_path: Path) -> None:
    write_shard_set(tmp_path, [[1], [2]])
    program = """
import sys
from shards.reading.reader import ShardReader
from shards.reading.shard_set import ShardSet
from shards.sampling.sample_order import PairOrder

shards = ShardSet.open(sys.argv[1])
order = PairOrder(shards, "train", seed=0)
for pair in order.indices(0, 0, order.pairs).tolist():
    ShardReader(shards).pair(*pair[1:4])
sys.exit("pandas" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", program, tmp_path], check=True)


# --- damaged sets ---------------------------------------------------------------------------------


def refusal(folder: Path) -> str:
    with pytest.raises(ShardError) as refused:
        all_pairs(folder)
    return str(refused.value)


def test_missing_shard_is_named(tmp_path: Path) -> None:
    write_shard_set(tmp_path, [[1], [1]])
    (tmp_path / FIRST).unlink()
    assert refusal(tmp_path) == f"{tmp_path / FIRST} cannot be opened: No such file or directory"


@pytest.mark.parametrize("size", [0, 100, 10239, 20480])
def test_shard_of_another_size_is_refused(tmp_path: Path, size: int) -> None:
    write_shard_set(tmp_path, [[1], [1]])
    os.truncate(tmp_path / FIRST, size)
    assert refusal(tmp_path) == f"{tmp_path / FIRST} has {size} bytes, the manifest states 10240"


def test_flipped_byte_of_a_member_is_detected(tmp_path: Path) -> None:
    write_shard_set(tmp_path, [[1], [1]])
    content = (tmp_path / FIRST).read_bytes()
    rows = ShardSet.open(tmp_path).rows(0, ["image_offset", "image_size", "json_offset"])
    [row] = rows.to_pylist()
    offsets = {"vg/0.jpg": row["image_offset"] + 50, "vg/0.json": row["json_offset"] + 30}
    for name, offset in offsets.items():
        damaged = bytearray(content)
        damaged[offset] ^= 0x10
        (tmp_path / FIRST).write_bytes(damaged)
        message = refusal(tmp_path)
        assert f"{FIRST}: {name} is damaged" in message
        assert "CRC-32" in message and "the index states" in message


def test_shard_of_another_build_is_refused(tmp_path: Path) -> None:
    """A tar of the same size under the name of a shard."""
    write_shard_set(tmp_path / "a", [[1], [1]])
    write_shard_set(tmp_path / "b", [[1], [1]], name="gqa")
    (tmp_path / "b" / FIRST).rename(tmp_path / "a" / FIRST)
    assert "vg/0.json is damaged" in refusal(tmp_path / "a")


def test_index_of_another_build_is_refused(tmp_path: Path) -> None:
    write_shard_set(tmp_path / "a", [[1], [1]])
    write_shard_set(tmp_path / "b", [[1], [1, 1]])
    (tmp_path / "b" / LAST_INDEX).rename(tmp_path / "a" / LAST_INDEX)
    assert f"{LAST_INDEX} has" in refusal(tmp_path / "a")


def test_index_with_a_wrong_key_is_refused(tmp_path: Path) -> None:
    write_shard_set(tmp_path, [[1], [1]])
    [row] = ShardSet.open(tmp_path).index_rows(0)
    row.key = "vg/7"
    manifest = mf.load(tmp_path)
    manifest.shards[0].index = write_index(tmp_path, FIRST, [row])
    (tmp_path / "manifest.json").write_bytes(mf.encode(manifest))
    assert refusal(tmp_path).endswith(f"{FIRST}: 'vg/0' is where the index has 'vg/7'")


def test_caption_beyond_the_last_is_refused(tmp_path: Path) -> None:
    shards = ShardSet.open(write_shard_set(tmp_path, [[2]]))
    with pytest.raises(ShardError, match=r"vg/0\.json has no caption 2; the index counts 2"):
        ShardReader(shards).pair(0, 0, 2)


def test_index_with_other_counts_than_the_manifest_is_refused(tmp_path: Path) -> None:
    write_shard_set(tmp_path, [[2], [3]])
    manifest = mf.load(tmp_path)
    manifest.shards[1].captions = 4
    (tmp_path / "manifest.json").write_bytes(mf.encode(manifest))
    assert "has 3 captions in train-00001-of-00002.tar, the manifest 4" in refusal(tmp_path)


def test_set_without_images_has_no_pairs(tmp_path: Path) -> None:
    write_shard_set(tmp_path, [[2]], images=False)
    assert "has no images, and so none of vg/0" in refusal(tmp_path)


def test_samples_are_checked_and_their_images_are_not(tmp_path: Path) -> None:
    write_shard_set(tmp_path, [[1], [1]])
    content = (tmp_path / FIRST).read_bytes()
    (tmp_path / FIRST).write_bytes(content.replace(b"image of vg/0 ", b"image of vg/1 "))
    first, _ = ShardReader(ShardSet.open(tmp_path)).samples("train")
    assert first.sample.captions[0].text == "caption 0 of vg/0"
    (tmp_path / FIRST).write_bytes(content.replace(b"caption 0 of", b"caption 1 of"))
    with pytest.raises(ShardError, match=rf"{FIRST}: vg/0\.json is damaged"):
        list(ShardReader(ShardSet.open(tmp_path)).samples("train"))


def test_manifest_without_an_index_is_refused(tmp_path: Path) -> None:
    write_shard_set(tmp_path, [[2]])
    manifest = orjson.loads((tmp_path / "manifest.json").read_bytes())
    del manifest["shards"][0]["index"]
    (tmp_path / "manifest.json").write_bytes(orjson.dumps(manifest))
    with pytest.raises(NotAShardSetError, match="missing required field `index`"):
        ShardSet.open(tmp_path)


def test_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAShardSetError, match=r"has no manifest\.json"):
        ShardSet.open(tmp_path)


@pytest.mark.parametrize("file", [FIRST, FIRST_INDEX])
def test_empty_file_that_the_manifest_states_is_refused(tmp_path: Path, file: str) -> None:
    write_shard_set(tmp_path, [[1], [1]])
    (tmp_path / file).write_bytes(b"")
    manifest = mf.load(tmp_path)
    for entry in (manifest.shards[0], manifest.shards[0].index):
        entry.bytes = 0 if entry.file == file else entry.bytes
    (tmp_path / "manifest.json").write_bytes(mf.encode(manifest))
    assert "empty" in refusal(tmp_path) or "is not a Parquet file" in refusal(tmp_path)


@pytest.mark.parametrize("column", ["key", "json_offset", "captions"])
def test_index_with_a_missing_value_is_refused(tmp_path: Path, column: str) -> None:
    write_shard_set(tmp_path, [[1], [1]])
    table = pq.read_table(tmp_path / FIRST_INDEX)
    at = table.schema.get_field_index(column)
    nothing = pa.nulls(1, table.schema.field(at).type)
    pq.write_table(table.set_column(at, column, nothing), tmp_path / FIRST_INDEX)
    manifest = mf.load(tmp_path)
    manifest.shards[0].index.bytes = (tmp_path / FIRST_INDEX).stat().st_size
    (tmp_path / "manifest.json").write_bytes(mf.encode(manifest))
    assert "a value is missing" in refusal(tmp_path)
