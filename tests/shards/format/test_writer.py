"""Writing shards: the same bytes, where the index says they are, readable by webdataset alone."""

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from schemas import Caption, Phrase, Provenance, Question, Region, Sample
from schemas.sample import encode_sample
from shards.format.index import IndexRow
from shards.format.writer import shard_writer

pixel = st.floats(0, 10_000, width=32)
box = st.tuples(pixel, pixel, pixel, pixel)


def sample(key: str, captions: int = 2) -> Sample:
    regions = [Region([(2, 5)], (0.1, 1.7, 30.0, 40.25), 12.5, 17, True)]
    parts = [Provenance("vg", "12", (0, 5)), Provenance("gqa", "7", (7, 12))]
    return Sample(
        key,
        640,
        480,
        f"{key}.jpg",
        [Caption(f"a cat {i}", regions, [(0, 5)], parts) for i in range(captions)],
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


def test_the_same_samples_make_the_same_bytes() -> None:
    content, rows = written(IMAGES)
    again, same_rows = written(IMAGES)
    assert (content, rows) == (again, same_rows)
    assert written(IMAGES[::-1])[0] != content


def test_members_have_no_owner_time_or_mode_of_this_machine() -> None:
    content, _ = written(IMAGES)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert {(m.mtime, m.uid, m.gid, m.mode) for m in archive} == {(0, 0, 0, 0o444)}


def test_the_index_points_at_the_bytes_of_members() -> None:
    content, rows = written(IMAGES)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = {m.name: (m.offset_data, m.size) for m in archive}
    assert len(members) == 2 * len(IMAGES)
    for row, (of, extension, image) in zip(rows, IMAGES, strict=True):
        assert image is not None
        assert row.image_name == f"{of.key}.{extension}"
        assert (row.image_offset, row.image_size) == members[row.image_name]
        assert (row.json_offset, row.json_size) == members[f"{of.key}.json"]
        assert content[row.image_offset :][: row.image_size] == image
        assert content[row.json_offset :][: row.json_size] == encode_sample(of)
        assert (row.shard, row.key) == ("train-00000-of-00001.tar", of.key)
        assert (row.width, row.height) == (640, 480)
        assert row.captions == row.regions == len(of.captions)
        assert row.datasets == (["gqa", "vg"] if of.captions else [])


def test_annotations_without_images() -> None:
    content, [row] = written([(sample("coco/9"), "", None)])
    assert (row.image_name, row.image_offset, row.image_size) == ("", -1, 0)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert archive.getnames() == ["coco/9.json"]
    assert content[row.json_offset :][: row.json_size] == encode_sample(sample("coco/9"))


def test_webdataset_reads_shards(tmp_path: Path) -> None:
    """Several shards, an empty one among them, by webdataset alone."""
    shards = {"0.tar": IMAGES[:2], "1.tar": [], "2.tar": IMAGES[2:]}
    for name, samples in shards.items():
        (tmp_path / name).write_bytes(written(samples)[0])
    urls = [str(tmp_path / name) for name in shards]
    found = list(webdataset.WebDataset(urls, shardshuffle=False).decode())
    assert [s["__key__"] for s in found] == [of.key for of, _, _ in IMAGES]
    assert [s["json"]["key"] for s in found] == [of.key for of, _, _ in IMAGES]
    assert found[0]["json"]["captions"][1]["text"] == "a cat 1"
    raw = list(webdataset.WebDataset(urls, shardshuffle=False))
    for s, (_, extension, image) in zip(raw, IMAGES, strict=True):
        assert s[extension] == image


def test_a_long_key_takes_one_header(tmp_path: Path) -> None:
    """The index counts on 512 bytes before a member's content."""
    key = "coco/" + "9" * 75
    content, [row] = written([(sample(key), "jpg", b"image")])
    assert content[row.image_offset :][: row.image_size] == b"image"


@pytest.mark.parametrize(
    "key", ["", "139", "coco/", "/coco/139", "coco/../139", "coco/1.9", "coco/ü", "c/" + "9" * 80]
)
def test_unsafe_keys_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match="unusable key"):
        written([(sample(key), "jpg", b"")])


# --- the JSON of a sample -------------------------------------------------------------------------


@given(st.lists(box, max_size=4), st.lists(box, max_size=2))
def test_boxes_come_back_as_the_same_float32(boxes: list[Any], of_phrase: list[Any]) -> None:
    caption = Caption("a cat", [Region([(0, 1)], b) for b in boxes], [], [])
    caption.phrases = [Phrase([(0, 1)], "47", ["animals"], of_phrase)]
    [found] = orjson.loads(encode_sample(Sample("coco/9", 1, 1, "", [caption])))["captions"]
    for written_, expected in [
        ([r["box"] for r in found["regions"]], boxes),
        (found["phrases"][0]["boxes"], of_phrase),
    ]:
        assert len(written_) == len(expected)
        back = np.array(written_, np.float32).reshape(-1, 4)
        assert back.tobytes() == np.array(expected, np.float32).reshape(-1, 4).tobytes()


def test_float32_is_written_in_few_digits() -> None:
    third = float(np.float32(1 / 3))
    caption = Caption("a", [Region([(0, 1)], (third, 0.1, 2.0, 1e4))], [], [])
    assert b'"box":[0.33333334,0.1,2.0,10000.0]' in encode_sample(
        Sample("a/b", 1, 1, "", [caption])
    )


def test_the_fields_of_a_sample() -> None:
    caption = Caption(
        "zoë?",
        [Region([(0, 3)], (1, 2, 3, 4), 8.0), Region([], (1, 2, 3, 4), None, 17, True)],
        [(0, 4)],
        [Provenance("gqa", "05", (0, 4))],
        [Phrase([(0, 3)], "47", ["people"], [(1, 2, 3, 4)])],
        Question("05", "yes", "obj", "verify", False),
    )
    assert orjson.loads(encode_sample(Sample("vg/1", 640, 480, "1.jpg", [caption]))) == {
        "key": "vg/1",
        "width": 640,
        "height": 480,
        "file": "1.jpg",
        "captions": [
            {
                "text": "zoë?",
                "regions": [
                    {"box": [1, 2, 3, 4], "tokens_positive": [[0, 3]], "area": 8.0},
                    {
                        "box": [1, 2, 3, 4],
                        "tokens_positive": [],
                        "category": 17,
                        "crowd": True,
                    },
                ],
                "tokens_negative": [[0, 4]],
                "provenance": [{"dataset": "gqa", "record": "05", "span": [0, 4]}],
                "phrases": [
                    {
                        "tokens_positive": [[0, 3]],
                        "entity": "47",
                        "types": ["people"],
                        "boxes": [[1, 2, 3, 4]],
                    }
                ],
                "question": {
                    "id": "05",
                    "answer": "yes",
                    "semantic_type": "obj",
                    "structural_type": "verify",
                    "balanced": False,
                },
            }
        ],
    }


def test_an_empty_shard_is_a_tar() -> None:
    content, rows = written([])
    assert rows == []
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert archive.getnames() == []
