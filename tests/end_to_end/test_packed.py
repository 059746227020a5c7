"""A dataset in archives, as published, gives the bytes of the same dataset unpacked."""

import shutil
import sys
from pathlib import Path

import fsspec
import pytest

from pipelines.build import main as build
from pipelines.synthetic import SYNTHETIC_MARK
from pipelines.synthetic.__main__ import main as generate
from pipelines.synthetic.packed import ARCHIVES, pack_dataset
from shards.__main__ import main as verify
from tests import tiny
from tests.end_to_end.built_sets import set_digests, stored_digests
from tests.file_digests import file_digests
from tests.processes import run
from tests.s3_server import options_of, requests, serve_s3
from tests.shared_folder import shared_folder

#: For images of GQA that are in the folders of Visual Genome, and a dataset without testdev.
GQA_ALL = [
    *("--set", "splits.train.shards=2", "--set", "splits.testdev.allow_empty=true"),
    *("--set", 'sources.gqa.images=["gqa/images", "vg/VG_100K", "vg/VG_100K_2"]'),
    *("--set", "exclude.gqa.allow_empty=true"),
]
EAGER = "--runner=tests.eager_runner.EagerRunner"


@pytest.fixture(scope="module")
def packed_dataset(small_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset of `small_dataset`, packed."""

    def pack(folder: Path) -> None:
        shutil.copytree(small_dataset, folder, dirs_exist_ok=True)
        pack_dataset(folder)

    return shared_folder(tmp_path_factory, "packed_dataset", pack)


def build_digests(recipe: str, raw: Path, output: Path, *options: str) -> dict[str, str]:
    command = [recipe, f"--root={raw}", f"--output={output}", "--quiet", EAGER, *options]
    assert build(command) == 0
    return set_digests(output)


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ("demo_expressions", []),
        ("demo_gqa", ["--set", "splits.testdev.allow_empty=true"]),
        ("gqa_all", GQA_ALL),
        ("demo_lvis", []),
    ],
)
def test_packed_files_give_the_same_bytes(
    recipe: str, options: list[str], small_dataset: Path, packed_dataset: Path, tmp_path: Path
) -> None:
    expected = build_digests(recipe, small_dataset, tmp_path / "unpacked", *options)
    assert build_digests(recipe, packed_dataset, tmp_path / "packed", *options) == expected


def test_packed_files_of_all_sources_give_the_same_bytes(
    small_set: Path, packed_dataset: Path, tmp_path: Path
) -> None:
    before = file_digests(packed_dataset)
    digests = build_digests("demo", packed_dataset, tmp_path / "shards")
    assert digests == set_digests(small_set)
    assert file_digests(packed_dataset) == before
    raw = [f"--raw={packed_dataset}", "--num-images=1000", "--quiet"]
    assert verify(["verify", str(tmp_path / "shards"), *raw]) == 0


def test_verify_compares_images_in_archives(
    small_set: Path, packed_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(packed_dataset, raw)
    tar = raw / "flickr30k/flickr30k-images.tar"
    content = bytearray(tar.read_bytes())
    content[5000] ^= 0xFF  # in the first image
    tar.write_bytes(content)
    assert verify(["verify", str(small_set), f"--raw={raw}", "--num-images=1000"]) == 1
    assert "its bytes are not those of" in capsys.readouterr().out
    tar.unlink()
    assert verify(["verify", str(small_set), f"--raw={raw}", "--num-images=1000"]) == 1
    assert "flickr30k-images: there is no such file" in capsys.readouterr().out


def test_packed_clevr_gives_the_same_bytes(tmp_path: Path) -> None:
    options = ["--layout=clevr", "--num-images=20"]
    for name, more in (("unpacked", []), ("packed", ["--packed"])):
        assert generate([f"--output={tmp_path / name}", *options, *more]) == 0
    assert [path.name for path in (tmp_path / "packed/clevr").iterdir()] == ["CLEVR_v1.0.zip"]
    expected = build_digests("clevr_medium", tmp_path / "unpacked", tmp_path / "1")
    assert build_digests("clevr_medium", tmp_path / "packed", tmp_path / "2") == expected


def test_packed_files_in_a_bucket_give_the_same_bytes(
    small_set: Path, packed_dataset: Path, tmp_path: Path
) -> None:
    """The tar is read once to be indexed, and each of its images once when it is needed."""
    log = tmp_path / "log"
    with serve_s3(log=log) as environment:
        system = fsspec.filesystem("s3", **options_of(environment), use_listings_cache=False)
        for bucket in ("raw", "made"):
            system.mkdir(bucket)
        system.put(str(packed_dataset), "raw/dataset", recursive=True)
        log.write_text("")
        command = [sys.executable, "-m", "pipelines.build", "demo", "--quiet"]
        command += ["--root=s3://raw/dataset", "--output=s3://made/shards"]
        command += ["--direct_running_mode=in_memory"]
        run(command, env=environment, timeout=300, check=True)
        assert stored_digests(system) == set_digests(small_set)
    size = (packed_dataset / "flickr30k/flickr30k-images.tar").stat().st_size
    of_tar = [r for r in requests(log) if r.path.endswith("flickr30k-images.tar")]
    # Indexed once, hashed once and written once.
    assert sum(request.sent for request in of_tar) < 3.2 * size


def test_packed_dataset_has_all_files_and_the_same_bytes_again(
    small_dataset: Path, packed_dataset: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    options = ["--num-images=30", "--seed=3", "--packed"]
    assert generate([f"--output={again}", *options]) == 0
    (again / SYNTHETIC_MARK).unlink()  # which the command adds
    assert file_digests(again) == file_digests(packed_dataset)
    archives = {name for name in ARCHIVES if not name.startswith("clevr/")}
    archives -= {"flickr30k/annotations.zip"}  # which is in the repository's
    names = {path.relative_to(again).as_posix() for path in again.rglob("*") if path.is_file()}
    assert names - archives == {
        *("ids/phrasecut_val_test.txt", "phrasecut/refer_test.json", "phrasecut/refer_val.json")
    }
    assert archives <= names
    for archive in again.rglob("*.zip"):
        folder = tmp_path / "unpacked" / archive.parent.relative_to(again)
        shutil.unpack_archive(archive, folder)
    shutil.unpack_archive(again / "flickr30k/flickr30k-images.tar", tmp_path / "unpacked/flickr30k")
    repository = tmp_path / "unpacked/flickr30k/flickr30k_entities-master"
    shutil.unpack_archive(repository / "annotations.zip", tmp_path / "unpacked/flickr30k")
    unpacked = file_digests(tmp_path / "unpacked")
    for name, digest in file_digests(small_dataset).items():
        if name not in names:
            in_repository = f"flickr30k/flickr30k_entities-master/{Path(name).name}"
            assert unpacked.get(name, unpacked.get(in_repository)) == digest


@pytest.mark.parametrize("name", ["all.zip", "all.tar"])
def test_sources_that_share_an_archive_never_get_the_images_of_each_other(
    tmp_path: Path, name: str
) -> None:
    rows = [tiny.vg_image(number) for number in (7, 9)]
    graphs = [tiny.vg_graph(n, tiny.vg_region(n, f"dog {n}")) for n in (7, 9)]
    vg = tiny.write_vg(tmp_path, rows, graphs)
    of_coco = {"images": [tiny.coco_image(7)], "annotations": [tiny.coco_annotation(1, 7)]}
    tiny.write_json(tmp_path / "instances.json", of_coco)
    tiny.write_refs(tmp_path / "refs.p", [tiny.reference(7, 1, {1: "a cat"})])
    coco = {"instances": ["instances.json"], "refs": {"refcoco": "refs.p"}}
    members = {"coco/7.jpg": tiny.image_file(hue=1), "vg/9.jpg": tiny.image_file(hue=2)}
    write = tiny.write_zip if name == "all.zip" else tiny.write_tar
    write(tmp_path / name, members)
    (tmp_path / f"link_{name}").symlink_to(name)
    stated = {
        "coco": coco | {"images": [f"link_{name}/coco"]},
        "vg": vg | {"images": [name], "allow_empty": True},
    }
    assert tiny.build(tmp_path, sources=stated) == 0
    assert {key: sample["image"] for key, sample in tiny.samples(tmp_path).items()} == {
        "coco/7": members["coco/7.jpg"]
    }
    hint = f"several datasets share it: state the folder of each, {name}/FOLDER"
    details = [row.detail.replace("link_", "") for row in tiny.rejected(tmp_path)]
    assert sorted(details) == [
        f"7.jpg; {name} has coco/7.jpg, but {hint}",
        f"9.jpg; {name} has vg/9.jpg, but {hint}",
    ]
    stated["vg"]["images"] = [f"{name}/vg"]
    assert tiny.build(tmp_path, "--overwrite", sources=stated) == 0
    assert {key: sample["image"] for key, sample in tiny.samples(tmp_path).items()} == {
        "coco/7": members["coco/7.jpg"],
        "vg/9": members["vg/9.jpg"],
    }
    assert [row.detail for row in tiny.rejected(tmp_path)] == ["7.jpg"]
