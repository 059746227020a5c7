"""Statistics of samples: counts and histograms that add up over shards (``stats.json``)."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from schemas import Caption, Provenance, Region, Sample, Strength

MILLION = 1_000_000

# Bounds for values that are read from a file, so that all histograms can be plotted.
Width = Annotated[int, msgspec.Meta(ge=1, le=1000)]
BinStart = Annotated[int, msgspec.Meta(ge=0, le=10**9)]
BinCount = Annotated[int, msgspec.Meta(ge=1, le=10**12)]
Total = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Histogram(msgspec.Struct):
    """Counts of values in bins of ``width``; the key of a bin is its lower end.

    ``total`` is the sum of the values in millionths: integers have the same sum in any order.
    """

    width: Width
    bins: dict[BinStart, BinCount]
    total: Total

    @classmethod
    def empty(cls, width: int) -> "Histogram":
        """Returns a histogram without values."""
        return cls(width, {}, 0)

    def add(self, value: float, closed_at: int | None = None) -> None:
        """Counts a value; a value equal to ``closed_at`` is in the bin that ends there."""
        millionths = round(value * MILLION)
        whole = millionths // MILLION
        if closed_at is not None and millionths == closed_at * MILLION:
            whole -= 1
        start = whole // self.width * self.width
        self.bins[start] = self.bins.get(start, 0) + 1
        self.total += millionths

    def merge(self, other: "Histogram") -> None:
        """Adds the values of another histogram of the same width."""
        for start, n in other.bins.items():
            self.bins[start] = self.bins.get(start, 0) + n
        self.total += other.total

    def mean(self) -> float | None:
        """Returns the mean of the values; None if there are none."""
        n = sum(self.bins.values())
        return self.total / MILLION / n if n else None


class DatasetStats(msgspec.Struct):
    """Statistics of a published dataset within the samples.

    ``sentences`` counts raw sentences, before they were combined. ``captions`` counts the captions
    with a sentence of the dataset, ``regions`` the regions that its sentences name.
    """

    images: Count = 0
    captions: Count = 0
    sentences: Count = 0
    regions: Count = 0
    questions: Count = 0
    sentence_characters: Histogram = msgspec.field(default_factory=lambda: Histogram.empty(10))
    boxes_per_sentence: Histogram = msgspec.field(default_factory=lambda: Histogram.empty(1))
    box_area_percent: Histogram = msgspec.field(default_factory=lambda: Histogram.empty(2))


class AbsentStats(msgspec.Struct):
    """Counts of phrases that name nothing in their image; ``captions`` are those with any."""

    captions: Count = 0
    images: Count = 0
    phrases: dict[Strength, dict[str, Count]] = msgspec.field(default_factory=dict)  # by reason

    def add(self, captions: Sequence[Caption]) -> None:
        """Counts the captions of an image that has absent phrases."""
        self.images += 1
        for caption in captions:
            self.captions += bool(caption.absent)
            for span in caption.absent:
                by_reason = self.phrases.setdefault(span.strength, {})
                by_reason[span.reason] = by_reason.get(span.reason, 0) + 1

    def merge(self, other: "AbsentStats") -> None:
        """Adds the counts of other images."""
        self.captions += other.captions
        self.images += other.images
        for strength, counts in other.phrases.items():
            by_reason = self.phrases.setdefault(strength, {})
            for reason, count in counts.items():
                by_reason[reason] = by_reason.get(reason, 0) + count

    def count(self, strength: Strength) -> int:
        """Returns the number of phrases of a strength."""
        return sum(self.phrases.get(strength, {}).values())


class Stats(msgspec.Struct):
    """Counts and histograms of a split, or of a shard; ``absent`` if it has absent phrases."""

    images: Count = 0
    captions: Count = 0
    sentences: Count = 0
    regions: Count = 0
    questions: Count = 0
    characters: Count = 0
    captions_without_boxes: Count = 0
    datasets: dict[str, DatasetStats] = msgspec.field(default_factory=dict)
    caption_characters: Histogram = msgspec.field(default_factory=lambda: Histogram.empty(10))
    sentences_per_caption: Histogram = msgspec.field(default_factory=lambda: Histogram.empty(1))
    boxes_per_caption: Histogram = msgspec.field(default_factory=lambda: Histogram.empty(1))
    captions_per_image: Histogram = msgspec.field(default_factory=lambda: Histogram.empty(1))
    words_per_caption: Histogram = msgspec.field(default_factory=lambda: Histogram.empty(1))
    box_area_percent: Histogram = msgspec.field(default_factory=lambda: Histogram.empty(2))
    #: 100 * width / (width + height): 50 is a square.
    box_width_percent: Histogram = msgspec.field(default_factory=lambda: Histogram.empty(5))
    absent: AbsentStats | UnsetType = UNSET

    def add(self, sample: Sample) -> None:
        """Counts a sample."""
        self.images += 1
        self.captions += len(sample.captions)
        self.captions_per_image.add(len(sample.captions))
        pixels = max(sample.width * sample.height, 1)
        for dataset in set().union(*(_datasets(caption) for caption in sample.captions)):
            self.datasets.setdefault(dataset, DatasetStats()).images += 1
        for caption in sample.captions:
            self._add_to_datasets(caption, pixels)
            self.sentences += len(caption.provenance)
            self.regions += len(caption.regions)
            self.characters += len(caption.text)
            self.captions_without_boxes += not caption.regions
            self.caption_characters.add(len(caption.text))
            self.sentences_per_caption.add(len(caption.provenance))
            self.boxes_per_caption.add(len(caption.regions))
            self.words_per_caption.add(len(caption.text.split()))
            for region in caption.regions:
                width, height = _sides(region)
                self.box_area_percent.add(100 * width * height / pixels, closed_at=100)
                self.box_width_percent.add(100 * width / max(width + height, 1e-9), closed_at=100)
            if caption.question is not None:
                self.questions += 1
        if any(caption.absent for caption in sample.captions):
            self._absent_stats().add(sample.captions)

    def proven_phrases(self) -> int:
        """Returns the number of absent phrases that annotators stated."""
        return 0 if isinstance(self.absent, UnsetType) else self.absent.count("proven")

    def _absent_stats(self) -> AbsentStats:
        if isinstance(self.absent, UnsetType):
            self.absent = AbsentStats()
        return self.absent

    def merge(self, other: "Stats") -> None:
        """Adds the samples of other statistics."""
        _merge(self, other)
        if not isinstance(other.absent, UnsetType):
            self._absent_stats().merge(other.absent)
        for dataset, stats in other.datasets.items():
            _merge(self.datasets.setdefault(dataset, DatasetStats()), stats)

    def _add_to_datasets(self, caption: Caption, pixels: int) -> None:
        """Counts a caption for the datasets of its sentences."""
        for dataset in _datasets(caption):
            self.datasets[dataset].captions += 1
            self.datasets[dataset].questions += caption.question is not None
        boxes = [0] * len(caption.provenance)
        for region in caption.regions:
            sentence = _sentence_of(region, caption.provenance)
            boxes[sentence] += 1
            width, height = _sides(region)
            stats = self.datasets[caption.provenance[sentence].dataset]
            stats.regions += 1
            stats.box_area_percent.add(100 * width * height / pixels, closed_at=100)
        for origin, count in zip(caption.provenance, boxes, strict=True):
            stats = self.datasets[origin.dataset]
            stats.sentences += 1
            stats.sentence_characters.add(origin.span[1] - origin.span[0])
            stats.boxes_per_sentence.add(count)


def _datasets(caption: Caption) -> set[str]:
    return {origin.dataset for origin in caption.provenance}


def _merge(total: Stats | DatasetStats, other: Stats | DatasetStats) -> None:
    """Adds the counts and histograms of ``other``, of the same class, to ``total``."""
    for name in total.__struct_fields__:
        value, added = getattr(total, name), getattr(other, name)
        if isinstance(value, int):
            setattr(total, name, value + added)
        elif isinstance(value, Histogram):
            value.merge(added)


def _sides(region: Region) -> tuple[float, float]:
    x0, y0, x1, y1 = region.box
    return max(x1 - x0, 0), max(y1 - y0, 0)


def _sentence_of(region: Region, provenance: Sequence[Provenance]) -> int:
    """Returns the index of the sentence that names a region; 0 if none does."""
    begin = region.spans[0][0] if region.spans else 0
    naming = (i for i, origin in enumerate(provenance) if origin.span[0] <= begin < origin.span[1])
    return next(naming, 0)


def as_json(stats: dict[str, Stats]) -> bytes:
    """Returns ``stats.json``: an object for each split; equal statistics give equal bytes."""
    for split in stats.values():
        split.datasets = dict(sorted(split.datasets.items()))
        if not isinstance(split.absent, UnsetType):
            phrases = sorted(split.absent.phrases.items())
            split.absent.phrases = {
                strength: dict(sorted(counts.items())) for strength, counts in phrases
            }
        for counted in (split, *split.datasets.values()):
            for name in counted.__struct_fields__:
                if isinstance(histogram := getattr(counted, name), Histogram):
                    histogram.bins = dict(sorted(histogram.bins.items()))
    return msgspec.json.format(msgspec.json.encode(stats), indent=1) + b"\n"
