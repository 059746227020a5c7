"""Supported and unsupported formats of lists of held-out images."""

import pickle
from pathlib import Path

import pytest

from schemas.image_ids import key_of_own_file
from shards.reading.shard_set import ShardSet
from shards.verification.held_out import HeldOutListError, namespaces_of_keys, read_held_out
from tests.shard_sets import sample, write_samples


@pytest.mark.parametrize(
    ("namespace", "content", "keys"),
    [
        ("coco", "139\n000000000285\r\n\n", {"coco/139", "coco/285"}),
        ("coco", "\ufeff139", {"coco/139"}),
        ("coco", '[139, "000285"]', {"coco/139", "coco/285"}),
        ("coco", '[{"image_id": 139, "split": "val"}]', {"coco/139"}),
        ("coco", '{"images": [{"id": 139}], "annotations": []}', {"coco/139"}),
        (
            "coco",
            "COCO_train2014_000000429925\nCOCO_val2014_000000000139.jpg\n285.jpg",
            {"coco/429925", "coco/139", "coco/285"},
        ),
        ("flickr30k", "1000092795\n0036979.jpg", {"flickr30k/1000092795", "flickr30k/36979"}),
        ("vg", "2320633\nn578020", {"vg/2320633", "coco/578020"}),
        ("gqa", "2320633\nn578020", {"vg/2320633", "coco/578020"}),
        ("gqa", "2320633.jpg\nn578020.jpg\n7.0", {"vg/2320633", "coco/578020", "vg/7"}),
        ("COCO", "[139.0]", {"coco/139"}),
        ("lvis", "000000000139.jpg", {"coco/139"}),
        ("clevr", "CLEVR_val_000007\n007", {"clevr/CLEVR_val_000007", "clevr/7"}),
    ],
)
def test_ids_become_image_keys(
    namespace: str, content: str, keys: set[str], tmp_path: Path
) -> None:
    (tmp_path / "ids").write_bytes(content.encode())
    assert read_held_out(f"{namespace}={tmp_path / 'ids'}").keys == keys


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no image ids"),
        (b"\n \n", "has no image ids"),
        (b"[]", "has no image ids"),
        (b'{"images": []}', "has no image ids"),
        (b"139 285", "is not an image id"),
        (b"0", "is not an image id of coco: ids are positive"),
        (b"n139", "is not an image id of coco"),
        (b"-139", "is not an image id of coco"),
        (b"[-139]", "is not an image id of coco"),
        (b"image_id\n139", "'image_id' is not an image id of coco"),
        (b"COCO_000000000139", "is not an image id of coco"),
        (b"139.png", "is not an image id of coco"),
        (b"1" * 21, "is not an image id of coco"),
        (b"[1.5]", "1.5 is not an image id"),
        (b"[139", "is not JSON of image ids"),
        (b'{"ids": [139]}', "is not JSON of image ids"),
        (pickle.dumps([139]), "is neither lines of ids nor JSON"),
    ],
)
def test_unreadable_list_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "ids").write_bytes(content)
    with pytest.raises(HeldOutListError, match=message):
        read_held_out(f"coco={tmp_path / 'ids'}")


@pytest.mark.parametrize("argument", ["ids.txt", "coco=", "=ids.txt", "="])
def test_argument_names_a_namespace_and_a_file(argument: str) -> None:
    with pytest.raises(HeldOutListError, match="expected NAMESPACE=FILE, such as"):
        read_held_out(argument)


def test_namespaces_of_keys_are_those_of_readable_shards(tmp_path: Path) -> None:
    keys = [["coco/1", "mine/1"], ["vg/1"]]
    folder = write_samples(tmp_path, [[(sample(k, 1), None) for k in shard] for shard in keys])
    assert namespaces_of_keys(ShardSet.open(folder)) == {"coco", "mine", "vg"}
    last = ShardSet.open(folder).shards[1].index.file
    (folder / last).write_bytes(b"damaged")
    assert namespaces_of_keys(ShardSet.open(folder)) == {"coco", "mine"}


@pytest.mark.parametrize(
    ("namespace", "id_"),
    [("flickr30k", "flickr_139"), ("vg", "image_id"), ("gqa", "nn139"), ("vg", "139.png")],
)
def test_ids_of_another_dataset_are_refused(namespace: str, id_: str, tmp_path: Path) -> None:
    (tmp_path / "ids").write_text(f"139\n{id_}\n")
    with pytest.raises(HeldOutListError, match=f"'{id_}' is not an image id of {namespace}"):
        read_held_out(f"{namespace}={tmp_path / 'ids'}")


def test_unknown_namespace_is_refused_unless_the_shard_set_has_it(tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("img_7\n007\n")
    with pytest.raises(HeldOutListError, match="no namespace 'mine' of images; known are clevr, "):
        read_held_out(f"mine={tmp_path / 'ids'}")
    held_out = read_held_out(f"mine={tmp_path / 'ids'}", others=frozenset({"mine"}))
    assert held_out.keys == {"mine/img_7", "mine/7", key_of_own_file("mine", "007.jpg")}
