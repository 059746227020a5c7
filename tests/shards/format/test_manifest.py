"""The manifest makes a folder a shard set."""

from pathlib import Path

import msgspec
import orjson
import pytest

from shards.format import manifest as mf
from shards.format.licenses import LicenseEntry
from shards.format.manifest import FileEntry, Manifest, NotAShardSetError, ShardEntry, Terms
from shards.format.source_counts import SourceCounts

MANIFEST = Manifest(
    name="tiny",
    recipe_sha256="ab" * 32,
    recipe={"name": "tiny", "splits": {"train": {"shards": 1}}},
    code_version="0.1.0",
    language_model={"name": "en", "version": "3.8.0"},
    roles={"train": "train"},
    totals={"train": {"images": 1}},
    not_asked_for=[],
    exclusions={},
    warnings=[],
    licenses=[LicenseEntry(0, "unknown", "", images=1)],
    terms={"vg": {"vg": Terms("Visual Genome", "https://vg.org", "CC BY 4.0", "Krishna")}},
    sources={"vg": SourceCounts(read=1)},
    shards=[
        ShardEntry(
            *("train-00000-of-00001.tar", "train", 10240, "cd" * 32, 1, 2),
            index=FileEntry("train-00000-of-00001.index.parquet", 100, "01" * 32),
            licenses=[0],
        )
    ],
    files=[FileEntry("stats.json", 100, "ef" * 32)],
)


def test_manifest_survives_writing_and_reading(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(mf.encode(MANIFEST))
    assert mf.load(tmp_path) == MANIFEST
    assert mf.load(str(tmp_path)) == MANIFEST


def test_equal_manifests_give_equal_bytes() -> None:
    other = msgspec.structs.replace(
        MANIFEST, recipe={"splits": {"train": {"shards": 1}}, "name": "tiny"}
    )
    assert mf.encode(other) == mf.encode(MANIFEST)
    assert mf.encode(MANIFEST).endswith(b"}\n")


def test_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAShardSetError, match=r"not a shard set: it has no manifest\.json"):
        mf.load(tmp_path)
    with pytest.raises(NotAShardSetError, match="not a shard set"):
        mf.load(tmp_path / "nothing")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"name": 3}', b"\xff", b'{"name": "\xff"}']
)
def test_file_that_is_no_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(NotAShardSetError, match=r"manifest\.json of .* is not a manifest"):
        mf.load(tmp_path)


def test_manifest_of_an_older_version_is_refused_whatever_its_layout(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(b'{"schema_version": 1, "shards": {"train": 3}}')
    with pytest.raises(NotAShardSetError, match=r"schema version 1, .* build the shard set again"):
        mf.load(tmp_path)


def test_manifest_of_a_newer_version_needs_a_newer_release(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(b'{"schema_version": 99, "name": ["a", "b"]}')
    with pytest.raises(NotAShardSetError, match=r"schema version 99, .* a newer release is needed"):
        mf.load(tmp_path)


def test_manifest_without_a_version_is_refused(tmp_path: Path) -> None:
    table = orjson.loads(mf.encode(MANIFEST))
    del table["schema_version"]
    (tmp_path / "manifest.json").write_bytes(orjson.dumps(table))
    with pytest.raises(NotAShardSetError, match=r"is not a manifest: .* `schema_version`"):
        mf.load(tmp_path)
