"""One key for every spelling of the id of an image, and none for what is no id."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.image_ids import (
    NAMESPACES,
    ImageIdError,
    RawId,
    image_key,
    key_of_file,
    known_namespace,
    optional_image_key,
    photo_id,
    photo_id_of_key,
)

NUMBERED = ["coco", "vg", "flickr30k", "gqa", "lvis"]
NO_IDS: list[RawId] = [
    None,
    "",
    " ",
    0,
    -1,
    0.0,
    -1.0,
    "0",
    "000",
    "-1",
    "-1.0",
    "0.0",
    "null",
    "NaN",
]


@st.composite
def spellings(draw: st.DrawFn, namespace: str, number: int) -> tuple[str, RawId]:
    """Draws a spelling of a namespace, and one of an id of it."""
    padded = f"{number:0{draw(st.integers(1, 20))}d}"
    forms: list[RawId] = [number, str(number), padded, f"{padded}.jpg", f"{number}.0", f" {padded}"]
    if number <= 2**53:
        forms.append(float(number))
    if namespace in ("coco", "lvis") and number < 10**12:
        split = draw(st.sampled_from(["train2014", "val2014", "test2015"]))
        name = f"COCO_{split}_{number:012d}"
        forms += [name, f"{name}.jpg", f"{name}_16.jpg", f"{name}.JPG"]
    case = draw(st.sampled_from([str.lower, str.upper, str.title]))
    return case(namespace), draw(st.sampled_from(forms))


@given(st.data(), st.sampled_from(NUMBERED), st.integers(1, 10**12))
def test_every_spelling_gives_one_key(data: st.DataObject, namespace: str, number: int) -> None:
    spelled, id_ = data.draw(spellings(namespace, number))
    expected = {"lvis": "coco", "gqa": "vg"}.get(namespace, namespace)
    assert image_key(spelled, id_) == f"{expected}/{number}"


@given(st.integers(1, 10**12), st.sampled_from(["n", "N"]), st.sampled_from(["gqa", "vg", "GQA"]))
def test_ids_of_gqa_may_name_images_of_coco(number: int, prefix: str, namespace: str) -> None:
    for id_ in (f"{prefix}{number}", f"{prefix}{number:015d}", f"{prefix}{number}.jpg"):
        assert image_key(namespace, id_) == f"coco/{number}"


@pytest.mark.parametrize("namespace", [*sorted(NAMESPACES), "mine"])
@pytest.mark.parametrize(
    "id_", [*NO_IDS, True, 1.5, float("nan"), float("inf"), 1e300, "a b", "a/b"]
)
def test_what_is_no_id_has_no_key(namespace: str, id_: RawId) -> None:
    with pytest.raises(ImageIdError, match="image id"):
        image_key(namespace, id_, others=frozenset({"mine"}))


@pytest.mark.parametrize("id_", NO_IDS)
def test_no_id_joins_nothing(id_: RawId) -> None:
    assert optional_image_key("coco", id_) == photo_id(id_) == ""


@given(st.one_of(st.integers(), st.floats(), st.text(max_size=8)))
def test_a_key_is_positive_or_an_error(id_: RawId) -> None:
    try:
        key = image_key("coco", id_)
    except ImageIdError:
        return
    assert int(key.removeprefix("coco/")) > 0
    assert optional_image_key("coco", id_) == key


@pytest.mark.parametrize("id_", ["x", 2.5, "7 8", "--1", True])
def test_malformed_id_is_not_taken_for_no_id(id_: RawId) -> None:
    with pytest.raises(ImageIdError):
        optional_image_key("coco", id_)
    with pytest.raises(ImageIdError):
        photo_id(id_)


@pytest.mark.parametrize("namespace", ["flicker30k", "", "web", "coco/", "mixed"])
def test_unknown_namespace_is_an_error_that_lists_the_known(namespace: str) -> None:
    known = "clevr, coco, flickr30k, gqa, lvis, mine, objects365, openimages, v3det, vg"
    with pytest.raises(ImageIdError, match=f"known are {known}"):
        image_key(namespace, 7, others=frozenset({"mine"}))


def test_own_namespaces_have_names_and_numbers() -> None:
    others = frozenset({"Mine"})
    assert known_namespace("mine", others) == "Mine"
    assert (
        image_key("mine", "own-1.jpg", others) == image_key("MINE", "own-1", others) == "Mine/own-1"
    )
    assert image_key("mine", "007.png", others) == image_key("mine", 7.0, others) == "Mine/7"
    assert image_key("clevr", "CLEVR_val_000007.png") == "clevr/CLEVR_val_000007"


@pytest.mark.parametrize(
    ("namespace", "file", "key"),
    [
        ("coco", "COCO_train2014_000000000139.jpg", "coco/139"),
        ("coco", "val2017/000000000139.jpg", "coco/139"),
        ("coco", "139.jpg", ""),  # a numbering of one's own
        ("coco", "0000139.jpg", ""),
        ("vg", "VG_100K/2320633.jpg", "vg/2320633"),
        ("vg", "own1.jpg", ""),
        ("flickr30k", "36979.jpg", "flickr30k/36979"),
        ("mine", "36979.jpg", ""),
        ("coco", "000000000139.png", ""),
    ],
)
def test_key_of_a_published_file_name(namespace: str, file: str, key: str) -> None:
    assert key_of_file(namespace, file) == key


def test_photo_of_an_image_of_flickr30k_is_its_id() -> None:
    assert photo_id_of_key("flickr30k/36979") == "36979"
    assert photo_id_of_key("coco/36979") == ""
