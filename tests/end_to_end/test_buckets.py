"""Builds from a bucket into a bucket: the bytes of a local build, or no manifest."""

import os
import sys
import zipfile
from pathlib import Path

import fsspec

from shards.reading.cache import SUBFOLDER
from tests.end_to_end import small_training as small
from tests.end_to_end.built_sets import set_digests, stored_digests, verify
from tests.processes import run
from tests.s3_server import options_of, requests, serve_s3

BUILD = [sys.executable, "-m", "pipelines.build", "demo", "--quiet"]
INTO_BUCKET = ["--root=s3://raw/dataset", "--output=s3://made/shards"]
IN_MEMORY = "--direct_running_mode=in_memory"
IMAGE_FOLDERS = [
    "coco/train2014",
    "coco/val2014",
    "vg/VG_100K",
    "vg/VG_100K_2",
    "flickr30k/flickr30k-images",
]
JUNK = 8 << 20  # bytes, twice in each zip


def store_of(environment: dict[str, str]) -> fsspec.AbstractFileSystem:
    """Returns the store, with two empty buckets."""
    system = fsspec.filesystem("s3", **options_of(environment), use_listings_cache=False)
    for bucket in ("raw", "made"):
        system.mkdir(bucket)
    return system


def uploaded(raw: Path, environment: dict[str, str]) -> fsspec.AbstractFileSystem:
    """Returns the store, with the synthetic dataset in a bucket."""
    system = store_of(environment)
    system.put(str(raw), "raw/dataset", recursive=True)
    return system


def test_build_from_and_to_a_slow_failing_store_has_the_local_bytes(
    small_dataset: Path, small_set: Path, tmp_path: Path
) -> None:
    with serve_s3(fail_every=10, delay=0.01) as environment:
        system = uploaded(small_dataset, environment)
        run([*BUILD, *INTO_BUCKET], env=environment, timeout=300, check=True)
        assert stored_digests(system) == set_digests(small_set)
        verify("s3://made/shards", environment, tmp_path)


def test_truncated_file_in_a_bucket_leaves_no_manifest(small_dataset: Path) -> None:
    with serve_s3() as environment:
        system = uploaded(small_dataset, environment)
        system.rm("raw/dataset/gqa/train_sceneGraphs.json")
        system.pipe_file("raw/dataset/gqa/train_sceneGraphs.json", b"{")
        done = run([*BUILD, *INTO_BUCKET, IN_MEMORY], env=environment, timeout=300)
        assert done.returncode == 1
        assert "train_sceneGraphs.json" in done.stderr.splitlines()[-1]
        assert "manifest.json" not in stored_digests(system)


def test_image_in_a_zip_in_a_bucket_takes_one_request(
    small_dataset: Path, small_set: Path, tmp_path: Path
) -> None:
    """Only the images that are needed are read, not the rest of their zips."""
    log = tmp_path / "log"
    with serve_s3(log=log) as environment:
        system = uploaded(small_dataset, environment)
        for folder in IMAGE_FOLDERS:
            system.rm(f"raw/dataset/{folder}", recursive=True)
            zip_images(small_dataset / folder, tmp_path / "images.zip")
            system.put_file(str(tmp_path / "images.zip"), f"raw/dataset/{folder}.zip")
        log.write_text("")
        run([*BUILD, *INTO_BUCKET, IN_MEMORY], env=environment, timeout=300, check=True)
        assert stored_digests(system) == set_digests(small_set)
    for folder in IMAGE_FOLDERS:
        sizes = [file.stat().st_size for file in (small_dataset / folder).iterdir()]
        zip_requests = [r for r in requests(log) if r.path == f"/raw/dataset/{folder}.zip"]
        asked = sum(r.method == "GET" for r in zip_requests)
        opened = len(zip_requests) - asked  # at most: HEAD is asked for the size
        # An image is read once to be hashed and once to be written; several steps open its zip.
        assert asked <= 2 * len(sizes) + 3 * opened
        assert sum(r.sent for r in zip_requests) <= 2 * sum(sizes) + 5000 * asked < JUNK


def zip_images(folder: Path, path: Path) -> None:
    """Writes the files of a folder, and much else, to a zip without compression."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("before.bin", os.urandom(JUNK))
        for file in sorted(folder.iterdir()):
            archive.write(file, f"{folder.name}/{file.name}")
        archive.writestr("after.bin", os.urandom(JUNK))


def test_training_from_a_bucket_has_the_local_losses_and_weights(tmp_path: Path) -> None:
    """The same losses and weights as from a folder, with a cache that holds less than the set."""
    small.write_shards(tmp_path)
    small.train(small.write_config(tmp_path, epochs=2), tmp_path / "local")
    shards = [path.stat().st_size for path in (tmp_path / "train").glob("*.tar")]
    indexes = [path.stat().st_size for path in (tmp_path / "train").glob("*.index.parquet")]
    room = sum(shards) - min(shards) + sum(indexes)
    with serve_s3(fail_every=10, delay=0.05) as environment:
        system = store_of(environment)
        for name in ("train", "val"):
            system.put(str(tmp_path / name), f"made/{name}", recursive=True)
        config = small.write_config(
            tmp_path,
            "bucket",
            epochs=2,
            workers=2,
            train='{ shards = "s3://made/train", split = "train" }',
            val="s3://made/val",
            cache=f'cache = "{tmp_path / "cache"}"\ncache_gigabytes = {room / 1e9}',
        )
        command = small.command(small.arguments(config, tmp_path / "bucket-run"))
        run(command, env={**small.ENVIRONMENT, **environment}, timeout=300, check=True)
    small.assert_equal_runs(tmp_path / "local", tmp_path / "bucket-run")
    cached = [path for path in (tmp_path / "cache" / SUBFOLDER).iterdir() if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in cached) <= room
