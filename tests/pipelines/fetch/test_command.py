"""The command `mdetr-build fetch` with a catalog of files on local servers."""

import hashlib
import io
import json
import os
import signal
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.build import main
from tests import tiny
from tests.pipelines.fetch.mirror import Answer, Mirror, serve
from tests.pipelines.fetch.test_download import HTML, OTHER_ZIP, ZIP
from tests.processes import started

DATASET = {"title": "Small", "homepage": "https://small.invalid", "citation": "Small et al."}
COCO = {"instances": ["coco/instances.json"], "images": ["coco/train"]}


def tar_gz(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(f"OpenSource/{name}.json")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class Setup:
    """A recipe, a catalog, a root folder, and the files of a server."""

    def __init__(self, folder: Path, mirror: Mirror) -> None:
        self.root = folder / "root"
        self.mirror = mirror
        self.recipe = tiny.write_recipe(folder / "recipe.toml", sources={"coco": COCO})
        self._folder = folder
        self._files: list[dict[str, Any]] = []
        mirror.files |= {"instances.zip": ZIP, "train.zip": OTHER_ZIP}
        self.add("coco/instances.json.zip", "coco/instances.json", mirror.address("instances.zip"))
        self.add("coco/train.zip", "coco/train", mirror.address("train.zip"))

    def add(self, path: str, provides: str | list[str], *addresses: str, **fields: Any) -> None:
        """Adds a file to the catalog, or replaces it."""
        self._files = [file for file in self._files if file["path"] != path]
        self._files.append(
            {
                "dataset": "small",
                "path": path,
                "provides": [provides] if isinstance(provides, str) else provides,
                "addresses": list(addresses),
                "facts_from": "this test",
                **fields,
            }
        )

    def arguments(self, *options: str) -> list[str]:
        table = {
            "synthetic_recipes": ["generated"],
            "datasets": {"small": DATASET | {"license": "CC BY 4.0"}},
            "files": self._files,
        }
        catalog = tiny.write_toml(self._folder / "catalog.toml", table)
        return ["fetch", str(self.recipe), f"--root={self.root}", f"--catalog={catalog}", *options]

    def fetch(self, *options: str) -> int:
        return main(self.arguments(*options))

    def files(self) -> dict[str, bytes]:
        """Returns the content of each file below the root, without the record."""
        paths = [path for path in self.root.rglob("*") if path.is_file()]
        contents = {str(path.relative_to(self.root)): path.read_bytes() for path in paths}
        return {name: content for name, content in contents.items() if name != ".mdetr-fetch.json"}

    def record(self) -> dict[str, Any]:
        table: dict[str, Any] = json.loads((self.root / ".mdetr-fetch.json").read_bytes())["files"]
        return table


@pytest.fixture
def setup(tmp_path: Path, mirror: Mirror) -> Setup:
    return Setup(tmp_path, mirror)


BOTH = {"coco/instances.json.zip": ZIP, "coco/train.zip": OTHER_ZIP}


def test_missing_files_are_downloaded_and_recorded(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    assert setup.fetch() == 0
    assert setup.files() == BOTH
    entry = setup.record()["coco/train.zip"]
    assert entry.pop("date").endswith("+00:00")
    assert entry == {
        "bytes": len(OTHER_ZIP),
        "sha256": hashlib.sha256(OTHER_ZIP).hexdigest(),
        "md5": hashlib.md5(OTHER_ZIP).hexdigest(),
        "address": setup.mirror.address("train.zip"),
    }
    output = capsys.readouterr().out
    assert "to be downloaded: 2 files of unknown size" in output
    assert f"  coco/train.zip: size unknown\n      {entry['address']}" in output
    assert "  Small: CC BY 4.0" in output
    assert f"sha256 {entry['sha256']} (no published checksum)" in output
    assert output.endswith(
        f"next: mdetr-build {setup.recipe} --root={setup.root} --output=SHARDS\n"
    )
    setup.mirror.requests.clear()
    assert setup.fetch() == 0
    assert f"in {setup.root}:\n  coco/instances.json.zip\n  coco/train.zip\n" in (
        capsys.readouterr().out
    )
    assert not setup.mirror.requests


@pytest.mark.parametrize("unpacked", ["coco/train", "coco/instances.json"])
def test_unpacked_files_are_not_downloaded(unpacked: str, setup: Setup) -> None:
    (setup.root / unpacked).mkdir(parents=True)
    assert setup.fetch() == 0
    assert unpacked not in {name.partition(".")[0] for name in setup.files()}
    assert len(setup.files()) == 1


def test_dry_run_writes_nothing(setup: Setup, capsys: pytest.CaptureFixture[str]) -> None:
    assert setup.fetch("--dry-run") == 0
    assert not setup.root.exists()
    assert not setup.mirror.requests
    assert setup.mirror.address("train.zip") in capsys.readouterr().out


def test_only_some_datasets(setup: Setup, capsys: pytest.CaptureFixture[str]) -> None:
    assert setup.fetch("--only=small,other", "--dry-run") == 1
    assert "--only other: the recipe's datasets are small" in capsys.readouterr().err
    assert setup.fetch("--only=small") == 0
    assert setup.files() == BOTH


def test_one_failure_does_not_stop_the_others(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    setup.mirror.files["instances.zip"] = HTML
    assert setup.fetch() == 1
    assert setup.files() == {"coco/train.zip": OTHER_ZIP}
    assert list(setup.record()) == ["coco/train.zip"]
    errors = capsys.readouterr().err
    address = setup.mirror.address("instances.zip")
    assert f"{address}: HTML where a zip file was expected" in errors
    assert "1 failed, see above" in errors


def test_images_none_needs_no_images(setup: Setup) -> None:
    assert setup.fetch("--set=images=none") == 0
    assert setup.files() == {"coco/instances.json.zip": ZIP}


def test_file_by_hand_and_file_of_no_catalog(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    setup.add("coco/train", "coco/train", by_hand="ask at https://small.invalid", bytes_about=4400)
    setup.add("coco/train.zip", "coco/val")
    assert setup.fetch("--set=sources.coco.refs={refcoco='refs(unc).p'}") == 0
    output = capsys.readouterr().out
    assert "  coco/train: about 4.4 kB\n      ask at https://small.invalid\n" in output
    assert "not in the catalog of published files:\n  refs(unc).p\n" in output
    assert "still missing, see above: coco/train, refs(unc).p" in output


def test_file_of_another_size_is_reported_and_stays(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    address = setup.mirror.address("train.zip")
    setup.add("coco/train.zip", "coco/train", address, bytes=len(OTHER_ZIP))
    too_short = tiny.write(setup.root / "coco/train.zip", OTHER_ZIP[:1000])
    assert setup.fetch() == 1
    assert too_short.read_bytes() == OTHER_ZIP[:1000]
    text = f"coco/train.zip has 1000 bytes, the published file {len(OTHER_ZIP)}: move it away"
    assert text in capsys.readouterr().out


def test_too_little_space_is_an_error_before_any_download(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    address = setup.mirror.address("train.zip")
    setup.add("coco/train.zip", "coco/train", address, bytes=10**18)
    assert setup.fetch() == 1
    error = capsys.readouterr().err
    assert "the downloads need 1000000000.0 GB, and " in error and " GB free" in error
    assert not setup.mirror.requests and not setup.root.exists()


def test_files_that_builds_do_not_read_packed_are_unpacked(setup: Setup) -> None:
    setup.mirror.files["all.tar.gz"] = tar_gz(other=b"[0]", train=b"[1]", val=b"[2]")
    setup.add(
        "mdetr/all.tar.gz",
        ["mdetr/train.json", "mdetr/val.json"],
        setup.mirror.address("all.tar.gz"),
        unpack=True,
    )
    files = {"train": ["mdetr/train.json"], "val": ["mdetr/val.json"]}
    setup.recipe = tiny.write_recipe(
        setup.recipe,
        images="none",
        sources={"mdetr_json": {"files": files}},
        splits={"train": {"shards": 1}, "val": {"shards": 1}},
    )
    tiny.write(setup.root / "mdetr/val.json", b"mine")
    for _ in range(2):
        assert setup.fetch() == 0
        files_there = setup.files()
        files_there.pop("mdetr/all.tar.gz")
        assert files_there == {"mdetr/train.json": b"[1]", "mdetr/val.json": b"mine"}
        assert len(setup.mirror.requests) == 1
        (setup.root / "mdetr/train.json").unlink()  # it is unpacked again


def test_archive_without_the_file_is_an_error(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    setup.mirror.files["all.tar.gz"] = tar_gz(other=b"[0]")
    address = setup.mirror.address("all.tar.gz")
    setup.add("coco/train.tar.gz", "coco/train", address, unpack=True)
    setup.add("coco/train.zip", "coco/val")
    assert setup.fetch() == 1
    assert "coco/train.tar.gz: has no train" in capsys.readouterr().err


def test_record_of_another_machine_is_expected(
    tmp_path: Path, setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    assert setup.fetch() == 0
    record = setup.root / ".mdetr-fetch.json"
    setup.root = tmp_path / "second"
    setup.mirror.files["train.zip"] = ZIP
    assert setup.fetch(f"--expect={record}") == 1
    error = capsys.readouterr().err
    digests = [hashlib.sha256(content).hexdigest() for content in (ZIP, OTHER_ZIP)]
    assert f"train.zip: sha256 {digests[0]}, expected {digests[1]}" in error
    assert setup.files() == {"coco/instances.json.zip": ZIP}
    setup.root = tmp_path / "third"
    assert setup.fetch() == 0
    assert setup.fetch(f"--expect={record}") == 1
    text = f"coco/train.zip: sha256 {digests[0]}, expected {digests[1]}"
    assert text in capsys.readouterr().err
    assert setup.fetch(f"--expect={tmp_path / 'none.json'}") == 1
    assert "none.json: not a record of downloads" in capsys.readouterr().err


NEAR = [".mdetr-fetch.json.bak", "coco/.other.zip.mdetr-part", "coco/.train.zip.mdetr-part.json.x"]
NEAR += ["coco/train.zip.mdetr-part", "coco/train.zip.old", "coco/..train.zip.mdetr-part.json"]
NEAR += ["coco/.train.zip.part", "coco/.train.zip.part.json", "coco/.instances.json.zip.part"]
NAMES = st.text(st.sampled_from("ab.-[*]? %{é"), min_size=1, max_size=6)


@given(names=st.sets(NAMES.filter(lambda name: name.strip(".")), max_size=6))
@settings(max_examples=12)
def test_foreign_files_stay(names: set[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Also those whose names are almost ours."""
    with serve() as mirror:
        setup = Setup(tmp_path_factory.mktemp("foreign"), mirror)
        foreign = {f"coco/{name}": name.encode() for name in names}
        foreign |= dict.fromkeys(NEAR, b"near")
        for name, content in foreign.items():
            tiny.write(setup.root / name, content)
        assert setup.fetch() == 0
        assert setup.files() == foreign | BOTH


def test_generated_data_is_not_downloaded(setup: Setup, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "demo", "--root", "a folder"]) == 1
    assert "mdetr-synthetic --output 'a folder' writes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["refcok", "--root=x"], "no recipe refcok"),
        (["refcoco", "--root=x", "--catalog=none.toml"], "none.toml: not a catalog"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fetch", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_downloads_go_to_a_local_folder(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fetch", "refcoco", "--root=s3://bucket/raw"])
    assert "expected a local folder" in capsys.readouterr().err


def test_root_that_cannot_be_written(setup: Setup, capsys: pytest.CaptureFixture[str]) -> None:
    setup.root = tiny.write(setup.root, b"a file") / "below"
    assert setup.fetch() == 1
    assert "Not a directory" in capsys.readouterr().err


# --- processes ------------------------------------------------------------------------------------


def command(setup: Setup) -> list[str]:
    return [sys.executable, "-m", "pipelines.build", *setup.arguments()]


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_at_once_and_an_interrupted_one(setup: Setup) -> None:
    """The second process waits; the first is interrupted; the second continues and ends."""
    setup.mirror.usual["instances.zip"] = Answer(rate=10_000)
    with started(command(setup)) as first:
        wait_for(lambda: setup.mirror.sent > 5_000)
        with started(command(setup)) as second:
            assert second.stdout is not None
            lines = iter(second.stdout.readline, "")
            assert any("waiting for another mdetr-build fetch" in line for line in lines)
            assert setup.mirror.requests[1:] == []
            setup.mirror.usual["instances.zip"] = Answer()  # from the next request on
            os.kill(first.pid, signal.SIGINT)
            output, _ = first.communicate(timeout=300)
            assert first.returncode == 130
            assert output.endswith("mdetr-build fetch: interrupted; the same command continues\n")
            assert second.wait(300) == 0
    assert setup.files() == BOTH
    assert list(setup.record()) == sorted(BOTH)
    [nothing, some] = setup.mirror.ranges("instances.zip")
    assert nothing is None and some is not None


def test_build_names_the_command_that_gets_missing_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["refcoco", f"--root={tmp_path}", f"--output={tmp_path / 'shards'}"]) == 1
    error = capsys.readouterr().err
    assert error.endswith(f"mdetr-build fetch refcoco --root {tmp_path} gets them\n")
