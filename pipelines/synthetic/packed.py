"""Packs a synthetic dataset in archives with the names, folders and kinds of the published ones."""

import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

#: The repository of Flickr30k Entities, as GitHub names its archive and the folder in it.
_REPOSITORY = "flickr30k_entities-master"

#: Archives, in this order, with the files and folders that each gets, by their paths in it.
ARCHIVES: dict[str, dict[str, str]] = {
    "coco/annotations_trainval2014.zip": {"annotations": "coco/annotations"},
    "coco/train2014.zip": {"train2014": "coco/train2014"},
    "coco/val2014.zip": {"val2014": "coco/val2014"},
    "refcoco/refcoco.zip": {"refcoco": "refcoco/refcoco"},
    "refcoco/refcoco+.zip": {"refcoco+": "refcoco/refcoco+"},
    "refcoco/refcocog.zip": {"refcocog": "refcoco/refcocog"},
    "lvis/lvis_v1_train.json.zip": {"lvis_v1_train.json": "lvis/lvis_v1_train.json"},
    "lvis/lvis_v1_minival.json.zip": {"lvis_v1_minival.json": "lvis/lvis_v1_minival.json"},
    "vg/image_data.json.zip": {"image_data.json": "vg/image_data.json"},
    "vg/region_graphs.json.zip": {"region_graphs.json": "vg/region_graphs.json"},
    "vg/images.zip": {"VG_100K": "vg/VG_100K"},
    "vg/images2.zip": {"VG_100K_2": "vg/VG_100K_2"},
    "gqa/sceneGraphs.zip": {
        f"{split}_sceneGraphs.json": f"gqa/{split}_sceneGraphs.json" for split in ("train", "val")
    },
    "gqa/questions1.2.zip": {
        "train_all_questions": "gqa/train_all_questions",
        **{
            f"{name}_questions.json": f"gqa/{name}_questions.json"
            for name in (
                *("train_balanced", "val_balanced", "val_all", "testdev_balanced", "testdev_all"),
                *("test_all", "challenge_all"),
            )
        },
    },
    "gqa/images.zip": {"images": "gqa/images"},
    "flickr30k/annotations.zip": {
        "Annotations": "flickr30k/Annotations",
        "Sentences": "flickr30k/Sentences",
    },
    f"flickr30k/{_REPOSITORY}.zip": {
        f"{_REPOSITORY}/{name}": f"flickr30k/{name}"
        for name in ("annotations.zip", "train.txt", "val.txt", "test.txt")
    },
    # Published as .tar.gz, of which `gunzip` makes this.
    "flickr30k/flickr30k-images.tar": {"flickr30k-images": "flickr30k/flickr30k-images"},
    "clevr/CLEVR_v1.0.zip": {
        f"CLEVR_v1.0/{name}": f"clevr/{name}" for name in ("images", "questions", "scenes")
    },
}
#: Zips that have macOS's copies of their files, too.
_FROM_MACOS = ("refcoco/refcoco.zip", "flickr30k/annotations.zip")


class _Entry(NamedTuple):
    """A file or folder, and its path in an archive."""

    path: Path
    name: str


def pack_dataset(root: Path) -> None:
    """Replaces the files and folders below ``root`` by archives; the bytes depend on them alone.

    Files that are published as they are stay.
    """
    for archive, contents in ARCHIVES.items():
        present = [_Entry(root / path, name) for name, path in contents.items()]
        present = [entry for entry in present if entry.path.exists()]
        if present:
            _write(root / archive, present, archive in _FROM_MACOS)
            for entry in present:
                (shutil.rmtree if entry.path.is_dir() else Path.unlink)(entry.path)


def _write(archive: Path, contents: list[_Entry], from_macos: bool) -> None:
    entries = [entry for content in contents for entry in _all_below(content)]
    if archive.suffix == ".tar":
        _write_tar(archive, entries)
    else:
        _write_zip(archive, entries, from_macos)


def _all_below(entry: _Entry) -> Iterator[_Entry]:
    """Yields a file; a folder with all that is in it, sorted."""
    yield entry
    if entry.path.is_dir():
        for path in sorted(entry.path.iterdir()):
            yield from _all_below(_Entry(path, f"{entry.name}/{path.name}"))


def _write_zip(archive: Path, entries: list[_Entry], from_macos: bool) -> None:
    with zipfile.ZipFile(archive, "w") as opened:
        for path, name in entries:
            if path.is_dir():
                opened.writestr(zipfile.ZipInfo(f"{name}/"), b"")
                continue
            info = zipfile.ZipInfo(name)  # of 1980, so that the bytes are the same tomorrow
            info.file_size = path.stat().st_size  # known before it is written, if it takes ZIP64
            if path.suffix not in (".jpg", ".png", ".zip"):
                info.compress_type = zipfile.ZIP_DEFLATED
            with path.open("rb") as source, opened.open(info, "w") as target:
                shutil.copyfileobj(source, target)
            if from_macos:
                folder, _, file = name.rpartition("/")
                opened.writestr(zipfile.ZipInfo(f"__MACOSX/{folder}/._{file}"), b"\0\5\x16\7")


def _write_tar(archive: Path, entries: list[_Entry]) -> None:
    with tarfile.open(archive, "w") as opened:
        for path, name in entries:
            info = tarfile.TarInfo(name)
            if path.is_dir():
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                opened.addfile(info)
                continue
            info.size = path.stat().st_size
            with path.open("rb") as source:
                opened.addfile(info, source)
