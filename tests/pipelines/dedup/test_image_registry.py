"""Duplicates of images, and held-out images."""

import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.dedup.image_registry import ImageRegistry
from schemas import EvalImage, ImageInfo, License


def vg(id_: int, coco: int | None = None, photo: str = "", width: int = 200) -> ImageInfo:
    same_as = f"coco/{coco}" if coco is not None else ""
    return ImageInfo(f"vg/{id_}", "vg", f"{id_}.jpg", width, 100, photo, same_as)


def coco(id_: int, photo: str = "") -> ImageInfo:
    return ImageInfo(f"coco/{id_}", "coco", f"{id_}.jpg", 200, 100, photo)


def flickr30k(photo: str) -> ImageInfo:
    return ImageInfo(f"flickr30k/{photo}", "flickr30k", f"{photo}.jpg", photo_id=photo)


def image_registry(
    *images: ImageInfo, held_out: list[EvalImage] | None = None, same_photo: bool = True
) -> ImageRegistry:
    return ImageRegistry(images, held_out or [], same_photo)


def test_image_without_duplicates_is_canonical() -> None:
    registry = image_registry(vg(1), coco(2), flickr30k("3"))
    for key in ("vg/1", "coco/2", "flickr30k/3", "vg/unheard_of"):
        assert registry.canonical(key) == key
        assert registry.held_out(key) == []
    assert registry.image("vg/unheard_of") is None


def test_coco_id_makes_an_image_a_duplicate_of_coco() -> None:
    registry = image_registry(vg(1, coco=9), coco(9))
    assert registry.canonical("vg/1") == registry.canonical("coco/9") == "coco/9"


def test_coco_id_makes_duplicates_under_any_rules() -> None:
    registry = image_registry(vg(1, coco=9), coco(9), same_photo=False)
    assert registry.canonical("vg/1") == "coco/9"


def test_duplicate_of_an_image_outside_the_build_keeps_its_key() -> None:
    registry = image_registry(vg(1, coco=9))
    assert registry.canonical("vg/1") == "vg/1"


@pytest.mark.parametrize("same_photo", [True, False])
@pytest.mark.parametrize("fields", [{"coco": 9}, {"photo": "77"}, {"coco": 9, "photo": "77"}])
def test_images_of_one_dataset_are_never_merged(fields: dict[str, Any], same_photo: bool) -> None:
    """Whatever ids their rows share; but if one of them is held out, so are the others."""
    rows = [vg(1, **fields), vg(2, **fields), vg(3, **fields), coco(9, photo="77"), vg(4)]
    held_out = [EvalImage("set", "vg/1")]
    registry = image_registry(*rows, held_out=held_out, same_photo=same_photo)
    for row in rows:
        assert registry.canonical(row.key) == row.key
        assert bool(registry.held_out(row.key)) == (row.key != "vg/4")
    ids = {"coco_id": "coco/9", "flickr photo id": "77"}
    for shared_id in registry.shared_ids:
        assert shared_id.id == ids[shared_id.join]
        assert shared_id.keys == ["vg/1", "vg/2", "vg/3"]
    assert {s.join for s in registry.shared_ids} == {
        {"coco": "coco_id", "photo": "flickr photo id"}[name] for name in fields
    }


def test_shared_ids_are_sorted() -> None:
    rows = [vg(1, photo="78"), vg(2, photo="78"), vg(3, coco=9), vg(4, coco=9), vg(5, photo="77")]
    registry = image_registry(*rows, vg(6, photo="77"), vg(7, coco=8), vg(8, coco=8))
    assert [shared_id.id for shared_id in registry.shared_ids] == ["coco/8", "coco/9", "77", "78"]


def test_chain_that_reaches_two_images_of_one_dataset_is_cut() -> None:
    """VG's image is COCO's 9 by its coco_id, and another image of COCO by its photo id."""
    rows = [vg(1, coco=9, photo="77"), coco(9, photo="70"), coco(8, photo="77"), flickr30k("70")]
    registry = image_registry(*rows, held_out=[EvalImage("set", "coco/8")])
    assert registry.canonical("vg/1") == "coco/9"
    assert registry.canonical("coco/8") == "coco/8"
    assert registry.canonical("flickr30k/70") == "flickr30k/70"
    assert all(registry.held_out(row.key) for row in rows)
    assert registry.shared_ids == [("flickr photo id", "", ["coco/8", "coco/9"])]
    two_coco_ids = [vg(1, coco=9), vg(1, coco=8), coco(8), coco(9)]
    registry = image_registry(*two_coco_ids)
    assert {registry.canonical(row.key) for row in two_coco_ids} == {"vg/1", "coco/8", "coco/9"}
    assert registry.shared_ids == [("coco_id", "", ["coco/8", "coco/9"])]


@pytest.mark.parametrize("same_as", ["coco/0", "coco/-1", "coco/", ""])
@pytest.mark.parametrize("photo", ["0", "-1", "", "000"])
def test_no_id_of_any_source_joins_nothing(same_as: str, photo: str) -> None:
    rows = [ImageInfo(f"web/{i}", "web", f"{i}.jpg", 0, 0, photo, same_as) for i in range(1, 4)]
    registry = image_registry(*rows, held_out=[EvalImage("set", "web/1", photo)])
    assert [registry.canonical(row.key) for row in rows] == ["web/1", "web/2", "web/3"]
    assert [bool(registry.held_out(row.key)) for row in rows] == [True, False, False]
    assert registry.shared_ids == []


def test_images_of_flickr30k_have_the_photo_of_their_id() -> None:
    row = ImageInfo("flickr30k/77", "own", "77.jpg")
    registry = image_registry(row, vg(1, photo="77"))
    assert registry.canonical("flickr30k/77") == "vg/1"


def test_rows_of_tables_that_only_join_are_no_images() -> None:
    tables = [vg(1, photo="77"), msgspec.structs.replace(coco(9, photo="77"), joins_only=True)]
    held_out = [EvalImage("refcoco", "coco/9")]
    registry = image_registry(*tables, held_out=held_out)
    assert registry.canonical("vg/1") == "vg/1"
    assert registry.image("coco/9") is None
    assert registry.held_out("vg/1") == [("refcoco", "coco/9", "flickr photo id")]
    all_of_coco = ImageRegistry(tables, [], True, {"no coco": "coco"})
    assert all_of_coco.held_out("vg/1") == [("no coco", "coco/9", "flickr photo id")]


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        ([], None),
        ([vg(1)], None),
        ([ImageInfo("vg/1", "vg", "other.jpg", 200, 100)], "one id of several images"),
        ([vg(1, width=201)], "one id of several images"),
        ([vg(1, width=0)], None),  # a table that does not state the size
        # Of other sources, which may have the image at another size.
        ([ImageInfo("vg/1", "gqa", "images/1.jpg", 100, 50)], None),
        ([ImageInfo("vg/1", "gqa", "0001.png", 100, 50)], None),
        ([ImageInfo("vg/1", "gqa", "my_vg_1.jpeg", 100, 50)], None),
        ([ImageInfo("vg/1", "gqa", "my_vg_21.jpeg", 100, 50)], "another image of this id"),
        ([ImageInfo("vg/1", "gqa", "", 100, 50)], None),
        ([ImageInfo("vg/1", "gqa", "other.jpg", 100, 50)], "another image of this id"),
        ([ImageInfo("vg/1", "gqa", "1.jpg", 50, 100)], "image of another size"),
        ([ImageInfo("vg/1", "gqa", "1.jpg")], None),
        ([ImageInfo("vg/1", "gqa", n, 100, 50) for n in "ab"], "one id of several images"),
        ([ImageInfo("vg/1", "own", "2.jpg", 200, 100)], "file of another image"),
    ],
)
def test_rows_of_one_key_must_agree(others: list[ImageInfo], reason: str | None) -> None:
    registry = image_registry(vg(1), *others, vg(2))
    conflict = registry.conflict(others[0].source if others else "vg", "vg/1")
    assert (conflict and conflict.reason) == reason
    is_of_all_sources = registry.conflict("vg", "vg/1") is not None
    assert is_of_all_sources == (reason in ("one id of several images", "file of another image"))
    assert registry.conflict("vg", "vg/2") is None


def test_own_names_of_one_key_must_agree() -> None:
    """As far as sources are not one another's copies; the first source has the image."""
    first, same, other = (
        ImageInfo("web/1", source, file, 200, 100)
        for source, file in [("a", "x.jpg"), ("b", "copies/x.jpg"), ("c", "y.jpg")]
    )
    registry = image_registry(first, same, other)
    assert registry.conflict("a", "web/1") is registry.conflict("b", "web/1") is None
    conflict = registry.conflict("c", "web/1")
    assert conflict is not None
    assert conflict == ("another image of this id", "c: 'y.jpg' 200x100; a: 'x.jpg' 200x100")


def test_published_names_of_one_image_agree() -> None:
    names = ["COCO_train2014_000000000009.jpg", "000000000009.jpg"]
    rows = [ImageInfo("coco/9", "own", name, 200, 100) for name in names]
    assert image_registry(*rows).conflict("own", "coco/9") is None
    of_another = ImageInfo("coco/9", "own", "train2014/COCO_train2014_000000000008.jpg", 200, 100)
    conflict = image_registry(of_another).conflict("own", "coco/9")
    assert conflict is not None
    assert conflict.detail == "own: coco/9 has 'train2014/COCO_train2014_000000000008.jpg'"


def test_name_of_many_digits_takes_no_time() -> None:
    rows = [ImageInfo("coco/9", "own", name, 200, 100) for name in ("0" * 20_000, "9.jpg")]
    started = time.process_time()
    assert image_registry(*rows).conflict("own", "coco/9") is not None
    assert time.process_time() - started < 1


def test_photo_id_makes_duplicates_with_same_photo_only() -> None:
    rows = vg(1, photo="77"), flickr30k("77"), coco(2, photo="78")
    registry = image_registry(*rows)
    assert registry.canonical("flickr30k/77") == registry.canonical("vg/1") == "vg/1"
    assert registry.canonical("coco/2") == "coco/2"
    apart = image_registry(*rows, same_photo=False)
    assert apart.canonical("flickr30k/77") == "flickr30k/77"


def test_duplicates_are_transitive() -> None:
    """Flickr30k and COCO share a photo, and VG was made from COCO: COCO's image is canonical."""
    registry = image_registry(vg(1, coco=9), coco(9, photo="77"), flickr30k("77"))
    assert {registry.canonical(k) for k in ("vg/1", "coco/9", "flickr30k/77")} == {"coco/9"}


def test_held_out_returns_set_key_and_join() -> None:
    registry = image_registry(
        vg(1, coco=9),
        coco(9, photo="77"),
        flickr30k("77"),
        vg(2),
        held_out=[EvalImage("refcoco", "coco/9"), EvalImage("phrasecut", "vg/1")],
    )
    assert registry.held_out("vg/1") == [
        ("phrasecut", "vg/1", "id"),
        ("refcoco", "coco/9", "coco_id"),
    ]
    assert registry.held_out("coco/9") == [
        ("phrasecut", "vg/1", "coco_id"),
        ("refcoco", "coco/9", "id"),
    ]
    assert registry.held_out("flickr30k/77") == [
        ("phrasecut", "vg/1", "flickr photo id"),
        ("refcoco", "coco/9", "flickr photo id"),
    ]
    assert registry.held_out("vg/2") == []


def test_held_out_by_the_photo_id_of_an_image_outside_the_build() -> None:
    """Flickr30k's test ids are photo ids, though Flickr30k is not a source of the build."""
    held_out = [EvalImage("flickr30k", "flickr30k/77", "77")]
    registry = image_registry(vg(1, photo="77"), vg(2, photo="78"), held_out=held_out)
    assert registry.held_out("vg/1") == [("flickr30k", "flickr30k/77", "flickr photo id")]
    assert registry.held_out("vg/2") == []
    apart = image_registry(vg(1, photo="77"), held_out=held_out, same_photo=False)
    assert apart.held_out("vg/1") == registry.held_out("vg/1")
    by_key = image_registry(vg(1, photo="77"), held_out=[EvalImage("flickr30k", "flickr30k/77")])
    assert by_key.held_out("vg/1") == registry.held_out("vg/1")


def test_held_out_by_the_coco_id_of_an_image_outside_the_build() -> None:
    registry = image_registry(
        vg(1, coco=9), held_out=[EvalImage("lvis", "coco/9")], same_photo=False
    )
    assert registry.held_out("vg/1") == [("lvis", "coco/9", "coco_id")]


def test_held_out_by_namespace() -> None:
    rows = [vg(1, coco=9), vg(2), vg(3, photo="77"), coco(5, photo="77")]
    registry = ImageRegistry(rows, [], True, {"no coco": "coco"})
    assert registry.held_out("vg/1") == [("no coco", "coco/9", "coco_id")]
    assert registry.held_out("vg/2") == []
    assert registry.held_out("vg/3") == [("no coco", "coco/5", "flickr photo id")]
    assert registry.held_out("coco/5") == [("no coco", "coco/5", "id")]


def test_namespace_holds_out_what_other_evaluation_sets_name_there() -> None:
    held_out = [EvalImage("val", "coco/9", "77"), EvalImage("val", "vg/5")]
    registry = ImageRegistry([vg(1, photo="77"), vg(2)], held_out, True, {"no coco": "coco"})
    assert sorted(registry.eval_images()) == [
        ("no coco", "coco/9"),
        ("val", "coco/9"),
        ("val", "vg/5"),
    ]
    assert [match.eval_set for match in registry.held_out("vg/1")] == ["no coco", "val"]


def test_row_with_a_size_and_of_the_keys_source_is_preferred() -> None:
    gqas = ImageInfo("vg/1", "gqa", "1.jpg", 200, 100)
    unsized = ImageInfo("vg/1", "vg", "1.jpg")
    assert image_registry(unsized, gqas).image("vg/1") == gqas
    assert image_registry(gqas, vg(1)).image("vg/1") == vg(1)


def test_row_of_a_source_with_images_is_preferred_to_that_of_the_keys_source() -> None:
    rows = [vg(1), ImageInfo("vg/1", "gqa", "1.jpg", 200, 100)]
    assert ImageRegistry(rows, [], True, None, {"gqa"}).image("vg/1") == rows[1]
    assert ImageRegistry(rows, [], True, None, {"gqa", "vg"}).image("vg/1") == rows[0]


def test_image_in_a_source_has_the_size_that_it_states() -> None:
    half, unsized = ImageInfo("vg/1", "gqa", "1.jpg", 100, 50), ImageInfo("vg/1", "own", "1.jpg")
    registry = image_registry(vg(1), half, unsized)
    assert registry.image_in("gqa", "vg/1") == msgspec.structs.replace(vg(1), width=100, height=50)
    for source in ("vg", "own", "of no table"):
        assert registry.image_in(source, "vg/1") == vg(1)
    assert registry.image_in("gqa", "vg/2") is None


def test_rows_that_state_a_license_or_an_address_are_kept() -> None:
    rows = [vg(1), vg(2)]
    by_license, by_url, silent = (
        msgspec.structs.replace(vg(1), source=source, **fields)
        for source, fields in [
            ("by license", {"license": License("CC BY")}),
            ("by url", {"url": "https://example.org/1.jpg"}),
            ("silent", {}),
        ]
    )
    registry = image_registry(*rows, silent, by_url, by_license)
    assert registry.stated_rows("vg/1") == [vg(1), by_license, by_url]
    assert registry.stated_rows("vg/2") == [vg(2)]
    assert registry.stated_rows("vg/3") == []
    stating = msgspec.structs.replace(vg(2), license=License("CC BY"), url="https://example.org")
    assert image_registry(stating).stated_rows("vg/2") == [stating]


rows = st.lists(
    st.builds(
        vg,
        st.integers(0, 5),
        st.none() | st.integers(0, 5),
        st.sampled_from(["", "70", "71", "72"]),
        st.sampled_from([0, 200, 300]),
    )
    | st.builds(coco, st.integers(0, 5), st.sampled_from(["", "70", "71", "72"]))
    | st.builds(flickr30k, st.sampled_from(["70", "71", "72"])),
    max_size=10,
)
held = st.lists(
    st.builds(EvalImage, st.sampled_from("ab"), st.sampled_from(["vg/1", "coco/1", "coco/2"]))
    | st.builds(EvalImage, st.just("c"), st.just("flickr30k/70"), st.just("70")),
    max_size=4,
)
KEYS = [f"{n}/{i}" for n in ("vg", "coco") for i in range(6)]
KEYS += [f"flickr30k/{i}" for i in (70, 71, 72)]


@given(rows, held, st.booleans(), st.randoms(use_true_random=False))
def test_registry_does_not_depend_on_the_order_of_tables(
    images: list[ImageInfo], held_out: list[EvalImage], same_photo: bool, random: object
) -> None:
    one = ImageRegistry(images, held_out, same_photo, {"n": "coco"})
    shuffled = random.sample(images, len(images))  # type: ignore[attr-defined]
    reheld = random.sample(held_out, len(held_out))  # type: ignore[attr-defined]
    other = ImageRegistry(shuffled, reheld, same_photo, {"n": "coco"})
    for key in KEYS:
        assert one.canonical(key) == other.canonical(key)
        assert one.image(key) == other.image(key)
        assert one.held_out(key) == other.held_out(key)


@given(rows, held, st.booleans())
def test_duplicates_are_held_out_together(
    images: list[ImageInfo], held_out: list[EvalImage], same_photo: bool
) -> None:
    registry = ImageRegistry(images, held_out, same_photo)
    known = {image.key for image in images}
    for key in known:
        assert registry.canonical(key) in known
        assert registry.canonical(registry.canonical(key)) == registry.canonical(key)
        assert registry.canonical(key) not in known - {key} or (
            registry.canonical(key).partition("/")[0] != key.partition("/")[0]
        )
        reasons = [(name, other) for name, other, _ in registry.held_out(key)]
        assert reasons == [(n, o) for n, o, _ in registry.held_out(registry.canonical(key))]
    for h in held_out:
        assert (h.eval_set, h.key, "id") in registry.held_out(h.key)


def web(id_: int, source: str = "web", width: int = 200) -> ImageInfo:
    return ImageInfo(f"web/{id_}", source, f"{id_}.jpg", width, 100)


webs = st.lists(
    st.builds(
        web, st.integers(0, 3), st.sampled_from(["web", "other"]), st.sampled_from([0, 5, 6])
    ),
    max_size=6,
)


@given(rows, webs, webs, held, st.booleans())
def test_unique_images_added_later_make_the_same_registry(
    shared: list[ImageInfo],
    known: list[ImageInfo],
    unique_images: list[ImageInfo],
    held_out: list[EvalImage],
    same_photo: bool,
) -> None:
    whole = ImageRegistry(
        [*shared, *known, *unique_images], held_out, same_photo, {"n": "coco"}, {"web"}
    )
    without = ImageRegistry([*shared, *known], held_out, same_photo, {"n": "coco"}, {"web"})
    registry = without.with_unique_images(unique_images)
    if not known:
        for image in unique_images:
            is_usable = registry.conflict(image.source, image.key) is None
            assert is_usable == (whole.conflict(image.source, image.key) is None)
    for key in [*KEYS, *(f"web/{i}" for i in range(4))]:
        assert registry.canonical(key) == without.canonical(key) == whole.canonical(key)
        assert registry.image(key) == whole.image(key)
        assert registry.held_out(key) == without.held_out(key) == whole.held_out(key)
