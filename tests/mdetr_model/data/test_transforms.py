"""Transforms of images: sizes, crops that keep a piece of every box, flips, decoding."""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from transformers.image_transforms import get_size_with_aspect_ratio

from mdetr_model.data.transforms import (
    CropResizeFlip,
    EvalTransform,
    TrainTransform,
    decode_transformed,
    names_a_side,
    resized_size,
)
from schemas.limits import MAX_IMAGE_PIXELS

TRAIN = TrainTransform()
FLIPPED = TrainTransform(hflip_prob=0.5)
CROPPED = TrainTransform(crop_prob=1)


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def gradient(width: int, height: int) -> Image.Image:
    """Returns an image with a red gradient to the right and a green one to the bottom."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    return Image.fromarray(pixels)


def encoded(image: Image.Image, format_: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format_, **options)
    return stream.getvalue()


def whole_image(
    width: int, height: int, size: tuple[int, int], flip: bool = False
) -> CropResizeFlip:
    return CropResizeFlip((0, 0, width, height), size, flip)


lengths = st.one_of(st.integers(1, 40), st.integers(1, 3000))
shares = st.floats(0, 1)


@st.composite
def images(draw: st.DrawFn) -> tuple[int, int, np.ndarray]:
    """Width, height and up to 4 boxes (N, 4) in pixels, in float32 as shards have them."""
    width, height = draw(lengths), draw(lengths)
    corners = draw(st.lists(st.tuples(shares, shares, shares, shares), max_size=4))
    boxes = np.sort(np.array(corners).reshape(-1, 2, 2), axis=1) * [width, height]
    return width, height, boxes.reshape(-1, 4).astype(np.float32)


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [
        (640, 480, (1066, 800)),
        (480, 640, (800, 1066)),
        (1000, 200, (1333, 267)),
        (1, 1, (800, 800)),
        (1, 100_000, (1, 1333)),
    ],
)
def test_eval_transform_resizes_the_whole_image(
    width: int, height: int, size: tuple[int, int]
) -> None:
    geometry = EvalTransform().sample((width, height), [], "a dog", np.random.default_rng(0))
    assert geometry == whole_image(width, height, size)


@given(lengths, lengths, st.integers(1, 900), st.integers(900, 1500))
def test_resized_size_equals_that_of_the_image_processor(
    width: int, height: int, shortest: int, longest: int
) -> None:
    expected = get_size_with_aspect_ratio((height, width), shortest, longest)
    assume(0 not in expected)
    assert resized_size((width, height), shortest, longest) == expected[::-1]


@given(images(), st.integers(0, 99))
def test_train_transform_is_reproducible_and_within_limits(
    image: tuple[int, int, np.ndarray], seed: int
) -> None:
    width, height, boxes = image
    geometry = TRAIN.sample((width, height), boxes, "a dog", np.random.default_rng(seed))
    assert geometry == TRAIN.sample((width, height), boxes, "a dog", np.random.default_rng(seed))
    left, top, right, bottom = geometry.crop
    assert 0 <= left < right <= width and 0 <= top < bottom <= height
    assert 1 <= min(geometry.size) <= 800
    # The shorter side is rounded first.
    assert max(geometry.size) <= 1333 * (1 + 0.5 / min(geometry.size)) + 1 or min(image[:2]) <= 10


@given(images(), st.integers(0, 99))
def test_crop_overlaps_every_box_with_area(image: tuple[int, int, np.ndarray], seed: int) -> None:
    width, height, boxes = image
    geometry = CROPPED.sample((width, height), boxes, "", np.random.default_rng(seed))
    visible = geometry.transform_boxes(boxes)
    has_area = (boxes[:, 2:] - boxes[:, :2] > 1e-3 * max(width, height)).all(-1)
    assert (visible[has_area, 2:] > visible[has_area, :2]).all()


@given(images(), st.integers(0, 99))
def test_crop_is_sampled_in_the_resized_image_and_resized_again(
    image: tuple[int, int, np.ndarray], seed: int
) -> None:
    """It is the smallest crop in whole pixels of the image that contains the sampled one."""
    width, height, _ = image
    geometry = CROPPED.sample(image[:2], image[2], "", np.random.default_rng(seed))

    def fits(shortest: int) -> bool:
        sides = resized_size((width, height), shortest)
        least = min(384, *sides)
        across, down = (
            lengths_of(side, full, *geometry.crop[axis::2], least)
            for axis, (side, full) in enumerate(zip(sides, (width, height), strict=True))
        )
        return any(
            geometry.size == resized_size((x, y), side, 1333)
            for x in across
            for y in down
            for side in CROPPED.scales
        )

    assert any(fits(shortest) for shortest in CROPPED.crop_scales)


def lengths_of(side: int, full: int, begin: int, end: int, least: int) -> set[int]:
    """Returns the lengths of the crops of the resized image that give this crop of the image."""
    begins = [i for i in range(side) if i * full // side == begin]
    ends = [i for i in range(1, side + 1) if -(-i * full // side) == end]
    return {j - i for i in begins for j in ends if j - i >= least}


@given(images(), st.integers(0, 99), st.booleans())
def test_boxes_equal_those_of_crop_resize_and_flip_in_turn(
    image: tuple[int, int, np.ndarray], seed: int, flip: bool
) -> None:
    boxes = image[2]
    crop = CROPPED.sample(image[:2], image[2], "", np.random.default_rng(seed)).crop
    left, top, right, bottom = crop
    stepwise = boxes.astype(np.float64) - [left, top, left, top]
    stepwise *= np.tile([300 / (right - left), 200 / (bottom - top)], 2)
    if flip:
        stepwise = stepwise[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [300, 0, 300, 0]
    transformed = CropResizeFlip(crop, (300, 200), flip).transform_boxes(boxes)
    assert transformed.shape == boxes.shape and transformed.dtype == np.float32
    expected = (stepwise / [300, 200, 300, 200]).clip(0, 1)
    np.testing.assert_allclose(transformed, expected, rtol=0, atol=1e-6)


def intersects(begin: float, end: float, left: int, right: int) -> bool:
    return min(end, right) > max(begin, left)


def test_crops_have_the_distribution_of_rejection_sampling() -> None:
    """Of drawing length and offset until the crop has a piece of both boxes."""
    rng = np.random.default_rng(0)
    small = TrainTransform(crop_prob=1, crop_scales=(5,), crop_min_size=2)
    boxes = [[0.2, 1.0, 1.7, 2.0], [2.4, 0.0, 4.0, 5.0]]  # in an image that is not resized
    crops = [small.sample((6, 5), boxes, "", rng).crop for _ in range(6000)]
    counts = {(left, right): 0 for left, _, right, _ in crops}
    for left, _, right, _ in crops:
        counts[left, right] += 1
    expected: dict[tuple[float, float], float] = {}
    for length in range(2, 7):
        for left in range(6 - length + 1):
            if all(intersects(box[0], box[2], left, left + length) for box in boxes):
                expected[left, left + length] = 1 / (6 - length + 1)
    total = sum(expected.values())
    assert counts.keys() == expected.keys() and (1, 3) in counts
    for sides, count in counts.items():
        assert count / len(crops) == pytest.approx(expected[sides] / total, abs=0.02)


def published_crop_area(
    boxes: np.ndarray, width: int, height: int, rng: np.random.Generator
) -> tuple[float, bool]:
    """Returns the share of the image of a published crop, and whether it cuts a box.

    The image is resized already; a hundred attempts, as published.
    """
    for _ in range(100):
        across, down = rng.integers(384, width + 1), rng.integers(384, height + 1)
        left, top = rng.integers(0, width - across + 1), rng.integers(0, height - down + 1)
        crop = np.array([left, top, left + across, top + down])
        visible = np.hstack([boxes[:, :2].clip(crop[:2]), boxes[:, 2:].clip(max=crop[2:])])
        if (visible[:, 2:] > visible[:, :2]).all():
            break
    return across * down / (width * height), bool((visible != boxes).any())


def test_crops_have_the_published_areas_and_cross_boxes_as_often() -> None:
    rng = np.random.default_rng(0)
    published, sampled = [], []
    for _ in range(3000):
        corners = np.sort(rng.random((2, 2, 2)), axis=1)
        boxes = (corners * [800, 600]).reshape(-1, 4)
        published.append(published_crop_area(boxes, 800, 600, rng))
        transform = TrainTransform(crop_prob=1, crop_scales=(600,))
        geometry = transform.sample((800, 600), boxes, "", rng)
        left, top, right, bottom = geometry.crop
        crosses = (boxes[:, :2] < [left, top]).any() or (boxes[:, 2:] > [right, bottom]).any()
        sampled.append(((right - left) * (bottom - top) / (800 * 600), crosses))
    expected, actual = np.mean(published, axis=0), np.mean(sampled, axis=0)
    np.testing.assert_allclose(actual, expected, atol=0.03)
    assert expected[0] < 0.75 and expected[1] > 0.4


def test_crop_reaches_boxes_farther_apart_than_max_size() -> None:
    ends = [[0, 40, 90, 50], [3910, 40, 4000, 50]]  # in 16000 x 400 pixels before the crop
    geometry = CROPPED.sample((4000, 100), ends, "", np.random.default_rng(0))
    assert geometry.crop[0] < 90 and geometry.crop[2] > 3910
    assert max(geometry.size) == 1333


def test_boxes_without_area_do_not_limit_the_crop() -> None:
    boxes = [[700, 0, 800, 90], [0, 0, 0, 600], [-90, 0, -10, 600]]
    crops = [
        CROPPED.sample((800, 600), boxes, "", np.random.default_rng(n)).crop for n in range(50)
    ]
    assert any(left > 200 for left, *_ in crops)


def test_half_of_the_images_are_cropped_and_all_scales_occur() -> None:
    rng = np.random.default_rng(0)
    geometries = [TRAIN.sample((640, 480), [], "a dog", rng) for _ in range(2000)]
    cropped = [geometry for geometry in geometries if geometry.crop != (0, 0, 640, 480)]
    assert 900 < len(cropped) < 1050  # a crop may be the whole image
    assert {min(geometry.size) for geometry in geometries if geometry not in cropped} == set(
        TRAIN.scales
    )
    assert not any(geometry.flip for geometry in geometries)
    heights = [(geometry.crop[3] - geometry.crop[1]) / 480 for geometry in cropped]
    assert 384 / 600 <= min(heights) < 0.67


def test_boxes_outside_of_the_crop_have_no_area() -> None:
    geometry = CropResizeFlip((10, 10, 20, 20), (100, 100), flip=True)
    boxes = geometry.transform_boxes([[0, 0, 5, 5], [5, 12, 15, 14], [25, 0, 30, 40]])
    np.testing.assert_allclose(boxes, [[1, 0, 1, 0], [0.5, 0.2, 1, 0.4], [0, 0, 0, 1]], atol=1e-6)


SIDES = """left|the LEFT one|man on right.|left-hand side|lefthand lamp|leftmost|right-most cup
topleft|bottomright pizza|lefty|righties|rightside|leftward|far left's hat|lft guy|girl on rt
second from L|r bear|counterclockwise|2left|left_bus|cat (right)
plate at 3 o'clock|nine oclock|10 o’clock|at 2 o' clock|12:00 position|the east wing|West
northeast corner|westernmost|SW|man w hat|driver's side|drivers door|driver-side|passenger seat
starboard|the port side|nearside wheel|off-side"""
NO_SIDES = """leftovers on a plate|bright light|upright piano|a copyright|the birthright|cleft chin
alright|Wright|a frightened cat|rl|art|girl|dog||thrift shop|gauche|lefté
a clock tower|two clocks|Easter eggs|a beast|feast|a driver|the passenger train|port wine|airport
a vest|the north wall|o|newspaper|sewing|a man beside a car"""


@pytest.mark.parametrize("caption", SIDES.replace("\n", "|").split("|"))
def test_captions_with_a_side_are_not_flipped(caption: str) -> None:
    assert names_a_side(caption)
    rng = np.random.default_rng(0)
    assert not any(FLIPPED.sample((9, 9), [], caption, rng).flip for _ in range(50))


@pytest.mark.parametrize("caption", NO_SIDES.replace("\n", "|").split("|"))
def test_other_captions_are_flipped(caption: str) -> None:
    assert not names_a_side(caption)
    rng = np.random.default_rng(0)
    assert any(FLIPPED.sample((9, 9), [], caption, rng).flip for _ in range(50))


def test_pixels_equal_those_of_pillow_within_one_level() -> None:
    """Compares with Pillow's resize, to one of 255 levels."""
    image = noise(60, 40)
    geometry = CropResizeFlip((10, 3, 50, 39), (20, 30), flip=False)
    expected = image.crop(geometry.crop).resize((20, 30), Image.Resampling.BILINEAR)
    transformed = decode_transformed(memoryview(encoded(image)), "coco/1", (60, 40), geometry)
    assert np.abs(transformed.astype(int) - np.array(expected)).max() <= 1
    flip = CropResizeFlip(geometry.crop, geometry.size, flip=True)
    again = decode_transformed(encoded(image), "coco/1", (60, 40), flip)
    np.testing.assert_array_equal(again, transformed[:, ::-1])


@given(st.integers(40, 200), st.integers(40, 200), st.integers(8, 90), st.data())
def test_jpeg_decoded_at_a_smaller_scale_shows_the_same(
    width: int, height: int, shortest: int, data: st.DataObject
) -> None:
    """Except for JPEG artifacts, and edges of the crop that are off by up to a pixel."""
    size = resized_size((width, height), shortest)
    left, top = data.draw(st.integers(0, 15)), data.draw(st.integers(0, 15))
    geometry = CropResizeFlip((left, top, width - 3, height - 2), size, data.draw(st.booleans()))
    image = gradient(width, height)
    jpeg = encoded(image, "JPEG", quality=100, subsampling=0)
    transformed = decode_transformed(jpeg, "k", (width, height), geometry)
    exact = decode_transformed(encoded(image), "k", (width, height), geometry)
    assert transformed.shape == (size[1], size[0], 3)
    assert np.abs(transformed.astype(int) - exact).max() <= 6 + 255 / min(size)


@pytest.mark.parametrize(
    ("size", "scale"),
    [((640, 480), 1), ((322, 240), 1), ((320, 240), 2), ((100, 75), 4), ((1, 1), 8)],
)
def test_jpeg_is_decoded_no_smaller_than_needed(size: tuple[int, int], scale: int) -> None:
    jpeg = encoded(noise(643, 481), "JPEG")
    with Image.open(io.BytesIO(jpeg)) as image:
        image.draft(None, (643 // scale, 481 // scale))
        assert image.size == (-(-643 // scale), -(-481 // scale))
        expected = image.resize(size, Image.Resampling.BILINEAR)
    transformed = decode_transformed(jpeg, "k", (643, 481), whole_image(643, 481, size))
    assert np.abs(transformed.astype(int) - np.array(expected)).max() <= 1


@pytest.mark.parametrize("mode", ("L", "CMYK", "RGB"))
def test_jpegs_of_every_mode(mode: str) -> None:
    jpeg = encoded(gradient(33, 17).convert(mode), "JPEG", quality=100, subsampling=0)
    transformed = decode_transformed(jpeg, "k", (33, 17), whole_image(33, 17, (33, 17)))
    expected = np.array(gradient(33, 17).convert(mode).convert("RGB")).astype(int)
    assert np.abs(transformed - expected).max() <= 8


@pytest.mark.parametrize("mode", ("1", "L", "LA", "P", "RGB", "RGBA"))
def test_pngs_of_every_mode(mode: str) -> None:
    image = gradient(33, 17).convert(mode)
    transformed = decode_transformed(encoded(image), "k", (33, 17), whole_image(33, 17, (33, 17)))
    np.testing.assert_array_equal(transformed, np.array(image.convert("RGB")))


def test_exif_orientation_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    jpeg = encoded(gradient(40, 20), "JPEG", quality=100, exif=exif)
    transformed = decode_transformed(jpeg, "k", (40, 20), whole_image(40, 20, (40, 20)))
    assert transformed.shape == (20, 40, 3)
    assert transformed[10, 38, 0] > 200 > 50 > transformed[10, 1, 0]


def test_image_of_one_pixel() -> None:
    geometry = EvalTransform().sample((1, 1), [[0, 0, 1, 1]], "", np.random.default_rng(0))
    transformed = decode_transformed(encoded(noise(1, 1), "JPEG"), "k", (1, 1), geometry)
    assert transformed.shape == (800, 800, 3) and (transformed == transformed[0, 0]).all()


JPEG = encoded(noise(64, 48), "JPEG")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (JPEG[:-900], "truncated"),
        (JPEG[:200], "k: "),
        (b"", "neither JPEG nor PNG"),
        (b"GIF89a, they say", "neither JPEG nor PNG"),
        (encoded(noise(64, 48), "GIF"), "neither JPEG nor PNG"),
        (encoded(noise(64, 48))[:-2000], "k: "),
        (encoded(noise(48, 64)), "48x64 pixels, annotated as 64x48"),
    ],
)
def test_unusable_images_are_named(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        decode_transformed(content, "coco/k", (64, 48), whole_image(64, 48, (8, 6)))
    assert str(raised.value).startswith("coco/k: ")


def test_images_are_bounded_before_they_are_decoded() -> None:
    with pytest.raises(ValueError, match=f"coco/1: {MAX_IMAGE_PIXELS}x2 pixels are too many"):
        decode_transformed(JPEG, "coco/1", (MAX_IMAGE_PIXELS, 2), whole_image(64, 48, (8, 6)))
