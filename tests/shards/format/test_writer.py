"""Writing shards: reproducible bytes, at the offsets of the index, readable with webdataset."""

import io
import sys
import tarfile
from pathlib import Path

import pytest
import webdataset

from schemas import Caption, Provenance, Region, Sample
from schemas.sample import encode_sample
from shards.format.index import IndexRow
from shards.format.writer import shard_writer
from tests.processes import run


def sample(key: str, captions: int = 2) -> Sample:
    regions = [Region([(2, 5)], (0.1, 1.7, 30.0, 40.25), 12.5, 17, True)]
    provenance = [Provenance("vg", "12", (0, 5)), Provenance("gqa", "7", (7, 12))]
    return Sample(
        key,
        640,
        480,
        f"{key}.jpg",
        [Caption(f"a cat {i}", regions, [(0, 5)], provenance) for i in range(captions)],
    )


def written(samples: list[tuple[Sample, str, bytes | None]]) -> tuple[bytes, list[IndexRow]]:
    stream = io.BytesIO()
    with shard_writer(stream, "train-00000-of-00001.tar") as writer:
        for args in samples:
            writer.write(*args)
    assert writer.size == len(stream.getvalue())
    return stream.getvalue(), writer.rows


IMAGES: list[tuple[Sample, str, bytes | None]] = [
    (sample("coco/9"), "jpg", b"\xff\xd8" + b"nine" * 300),
    (sample("vg/10", captions=0), "png", b"ten"),
    (sample("flickr30k/11"), "jpg", b""),
    (sample("gqa/n12"), "jpg", b"\0" * 512),
]


def test_same_samples_give_the_same_bytes() -> None:
    content, rows = written(IMAGES)
    again, same_rows = written(IMAGES)
    assert (content, rows) == (again, same_rows)
    assert written(IMAGES[::-1])[0] != content


def test_members_have_fixed_time_owner_and_mode() -> None:
    content, _ = written(IMAGES)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert {(m.mtime, m.uid, m.gid, m.mode) for m in archive} == {(0, 0, 0, 0o444)}


def test_index_rows_locate_the_members() -> None:
    content, rows = written(IMAGES)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = {m.name: (m.offset_data, m.size) for m in archive}
    assert len(members) == 2 * len(IMAGES)
    for row, (written_sample, extension, image) in zip(rows, IMAGES, strict=True):
        assert image is not None
        assert row.image_name == f"{written_sample.key}.{extension}"
        assert (row.image_offset, row.image_size) == members[row.image_name]
        assert (row.json_offset, row.json_size) == members[f"{written_sample.key}.json"]
        assert content[row.image_offset :][: row.image_size] == image
        assert content[row.json_offset :][: row.json_size] == encode_sample(written_sample)
        assert (row.shard, row.key) == ("train-00000-of-00001.tar", written_sample.key)
        assert (row.width, row.height) == (640, 480)
        assert row.captions == row.regions == len(written_sample.captions)
        assert row.datasets == (["gqa", "vg"] if written_sample.captions else [])


def test_sample_without_an_image_has_one_member() -> None:
    content, [row] = written([(sample("coco/9"), "", None)])
    assert (row.image_name, row.image_offset, row.image_size) == ("", -1, 0)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert archive.getnames() == ["coco/9.json"]
    assert content[row.json_offset :][: row.json_size] == encode_sample(sample("coco/9"))


def test_webdataset_reads_shards_and_empty_shards(tmp_path: Path) -> None:
    shards = {"0.tar": IMAGES[:2], "1.tar": [], "2.tar": IMAGES[2:]}
    for name, samples in shards.items():
        (tmp_path / name).write_bytes(written(samples)[0])
    urls = [str(tmp_path / name) for name in shards]
    decoded = list(webdataset.WebDataset(urls, shardshuffle=False).decode())
    assert [s["__key__"] for s in decoded] == [item.key for item, _, _ in IMAGES]
    assert [s["json"]["key"] for s in decoded] == [item.key for item, _, _ in IMAGES]
    assert decoded[0]["json"]["captions"][1]["text"] == "a cat 1"
    raw = list(webdataset.WebDataset(urls, shardshuffle=False))
    for s, (_, extension, image) in zip(raw, IMAGES, strict=True):
        assert s[extension] == image


def test_longest_key_takes_one_header() -> None:
    """Offsets of the index assume 512 bytes before a member's content."""
    key = "coco/" + "9" * 75
    content, [row] = written([(sample(key), "jpg", b"image")])
    assert content[row.image_offset :][: row.image_size] == b"image"


@pytest.mark.parametrize(
    "key", ["", "139", "coco/", "/coco/139", "coco/../139", "coco/1.9", "coco/ü", "c/" + "9" * 80]
)
def test_writer_refuses_unsafe_keys(key: str) -> None:
    with pytest.raises(ValueError, match="unusable key"):
        written([(sample(key), "jpg", b"")])


def test_empty_shard_is_a_tar() -> None:
    content, rows = written([])
    assert rows == []
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert archive.getnames() == []


WRITE = (
    "import io, sys; from shards.format.writer import shard_writer\n"
    "with shard_writer(io.BytesIO(), 'train-00000-of-00001.tar') as writer: pass\n"
)


def test_writer_does_not_import_torch() -> None:
    code = WRITE + "assert not [name for name in sys.modules if name.partition('.')[0] == 'torch']"
    run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("before", ["", "import webdataset\n", "import torch\n"])
def test_webdataset_reads_with_torch_after_a_shard_was_written(before: str) -> None:
    code = (
        "import webdataset, torch.utils.data as data\n"
        "assert issubclass(webdataset.WebDataset, data.IterableDataset)\n"
        "assert webdataset.compat.DataLoader is data.DataLoader"
    )
    run([sys.executable, "-c", before + WRITE + code], check=True)
