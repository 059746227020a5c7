"""Counts and histograms, and that they add up over shards."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from schemas import Caption, Provenance, Question, Region, Sample
from shards.format.stats import MILLION, DatasetStats, Histogram, Stats, as_json


def region(width: float, height: float) -> Region:
    return Region([(0, 1)], (10, 10, 10 + width, 10 + height))


def provenance(dataset: str, record: str = "1") -> Provenance:
    return Provenance(dataset, record, (0, 1))


ONE = Sample(
    "coco/9",
    100,
    100,
    "9.jpg",
    [
        Caption(
            "a" * 40 + " " + "a" * 54,
            [region(10, 10), Region([(60, 61)], (10, 10, 110, 60))],
            [],
            [Provenance("vg", "1", (0, 41)), Provenance("gqa", "1", (41, 95))],
        ),
        Caption("b" * 5, [], [], [provenance("vg", "2")], question=Question("7")),
    ],
)
OTHER = Sample(
    "vg/1", 50, 50, "1.jpg", [Caption("c" * 100, [region(5, 5)], [], [provenance("vg")])]
)


def stats(*samples: Sample) -> Stats:
    total = Stats()
    for sample in samples:
        total.add(sample)
    return total


def test_counts_of_samples_and_data_sets() -> None:
    total = stats(ONE, OTHER)
    assert (total.images, total.captions, total.sentences, total.regions) == (2, 3, 4, 3)
    assert (total.questions, total.characters, total.captions_without_boxes) == (1, 200, 1)
    assert total.datasets == {
        "vg": DatasetStats(
            images=2,
            captions=3,
            sentences=3,
            regions=2,
            questions=1,
            sentence_characters=Histogram(10, {40: 1, 0: 2}, 43 * MILLION),
            boxes_per_sentence=Histogram(1, {1: 2, 0: 1}, 2 * MILLION),
            box_area_percent=Histogram(2, {0: 2}, 2 * MILLION),
        ),
        "gqa": DatasetStats(
            images=1,
            captions=1,
            sentences=1,
            regions=1,
            questions=0,
            sentence_characters=Histogram(10, {50: 1}, 54 * MILLION),
            boxes_per_sentence=Histogram(1, {1: 1}, MILLION),
            box_area_percent=Histogram(2, {50: 1}, 50 * MILLION),
        ),
    }


def test_histograms_of_captions_and_boxes() -> None:
    total = stats(ONE, OTHER)
    assert total.caption_characters.bins == {90: 1, 0: 1, 100: 1}
    assert total.sentences_per_caption.bins == {2: 1, 1: 2}
    assert total.boxes_per_caption.bins == {2: 1, 0: 1, 1: 1}
    assert total.captions_per_image.bins == {2: 1, 1: 1}
    assert total.box_area_percent.bins == {0: 2, 50: 1}  # 1 % and 50 % of 100x100, 1 % of 50x50
    assert total.box_width_percent.bins == {50: 2, 65: 1}
    assert total.words_per_caption.bins == {2: 1, 1: 2}


def test_mean_is_exact() -> None:
    total = Histogram.empty(10)
    assert total.mean() is None
    for value in (20.25, 29.5):
        total.add(value)
    assert (total.bins, total.mean()) == ({20: 2}, 24.875)


def test_box_of_the_whole_image_is_in_the_last_bin() -> None:
    whole = Region([], (0, 0, 30, 70))
    flat = Region([], (0, 5, 30, 5))
    total = stats(Sample("vg/1", 30, 70, "", [Caption("a", [whole, flat], [], [provenance("vg")])]))
    assert (
        total.box_area_percent.bins == total.datasets["vg"].box_area_percent.bins == {98: 1, 0: 1}
    )
    assert total.box_width_percent.bins == {30: 1, 95: 1}
    assert total.box_width_percent.mean() == 65


@given(st.lists(st.sampled_from([ONE, OTHER]), max_size=6), st.integers(0, 6))
def test_stats_add_up_over_any_division_of_the_samples(samples: list[Sample], at: int) -> None:
    total = stats(*samples[:at])
    total.merge(stats(*samples[at:]))
    assert as_json({"train": total}) == as_json({"train": stats(*samples)})


@given(st.permutations([0.1, 0.2, 1e-7, 33.333333333, 1e9, 2 / 3]))
def test_sums_are_the_same_in_any_order(values: list[float]) -> None:
    total = Histogram.empty(2)
    for value in values:
        one = Histogram.empty(2)
        one.add(value)
        total.merge(one)
    assert total.total == 1_000_000_034_300_000


def test_merging_does_not_change_the_other() -> None:
    other = stats(OTHER)
    before = as_json({"train": other})
    total = Stats()
    total.merge(other)
    total.merge(stats(ONE))
    assert as_json({"train": other}) == before


def test_equal_stats_give_equal_bytes_in_any_order() -> None:
    content = as_json({"train": stats(ONE, OTHER), "val": Stats()})
    assert content == as_json({"train": stats(OTHER, ONE), "val": Stats()})
    decoded = orjson.loads(content)
    assert decoded["val"]["images"] == 0
    assert decoded["train"]["caption_characters"] == {
        "width": 10,
        "bins": {"0": 1, "90": 1, "100": 1},
        "total": 200 * MILLION,
    }


def test_image_of_unknown_size_is_counted() -> None:
    sample = Sample("vg/1", 0, 0, "", [Caption("a", [region(1, 1)], [], [provenance("vg")])])
    assert stats(sample).regions == 1
