"""Duplicates of images, and held-out images."""

from hypothesis import given
from hypothesis import strategies as st

from pipelines.dedup.image_registry import ImageRegistry
from schemas import EvalImage, ImageInfo


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


def test_duplicate_of_an_image_outside_the_build_keeps_its_key() -> None:
    registry = image_registry(vg(1, coco=9))
    assert registry.canonical("vg/1") == "vg/1"


def test_two_duplicates_of_an_image_outside_the_build_are_one() -> None:
    registry = image_registry(vg(2, coco=9), vg(1, coco=9))
    assert registry.canonical("vg/1") == registry.canonical("vg/2") == "vg/1"


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
    assert (
        image_registry(vg(1, photo="77"), held_out=held_out, same_photo=False).held_out("vg/1")
        == []
    )


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


def test_row_with_a_size_and_of_the_keys_source_is_preferred() -> None:
    gqas = ImageInfo("vg/1", "gqa", "1.jpg", 200, 100)
    unsized = ImageInfo("vg/1", "vg", "1.jpg")
    assert image_registry(unsized, gqas).image("vg/1") == gqas
    assert image_registry(gqas, vg(1)).image("vg/1") == vg(1)


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
        assert registry.repeated_keys == whole.repeated_keys
    for key in [*KEYS, *(f"web/{i}" for i in range(4))]:
        assert registry.canonical(key) == without.canonical(key) == whole.canonical(key)
        assert registry.image(key) == whole.image(key)
        assert registry.held_out(key) == without.held_out(key) == whole.held_out(key)
