"""What is in a set of samples: counts and histograms that add up over shards."""

from collections.abc import Sequence
from typing import Annotated

import msgspec

from schemas import Caption, Provenance, Region, Sample

MILLION = 1_000_000

# A set may come from anywhere: with these, whatever is read from one can be drawn.
Width = Annotated[int, msgspec.Meta(ge=1, le=1000)]
BinStart = Annotated[int, msgspec.Meta(ge=0, le=10**9)]
BinCount = Annotated[int, msgspec.Meta(ge=1, le=10**12)]
Total = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Histogram(msgspec.Struct):
    """Counts of values in bins of ``width``; the key is the bin's lower end.

    ``total`` is the sum of the values in millionths: whole numbers have the same sum in any order.
    """

    width: Width
    bins: dict[BinStart, BinCount]
    total: Total

    @classmethod
    def empty(cls, width: int) -> "Histogram":
        return cls(width, {}, 0)

    def add(self, value: float, closed_at: int | None = None) -> None:
        """Counts a value; ``closed_at`` itself is in the bin that ends there."""
        millionths = round(value * MILLION)
        whole = millionths // MILLION
        if closed_at is not None and millionths == closed_at * MILLION:
            whole -= 1
        start = whole // self.width * self.width
        self.bins[start] = self.bins.get(start, 0) + 1
        self.total += millionths

    def merge(self, other: "Histogram") -> None:
        for start, n in other.bins.items():
            self.bins[start] = self.bins.get(start, 0) + n
        self.total += other.total

    def mean(self) -> float | None:
        """Of the values; None of none."""
        n = sum(self.bins.values())
        return self.total / MILLION / n if n else None


class DatasetStats(msgspec.Struct):
    """How much of a published data set is in the samples: sentences are raw, before combining.

    ``captions`` are those that a sentence of it is in, ``regions`` those that its sentences name.
    """

    images: Count = 0
    captions: Count = 0
    sentences: Count = 0
    regions: Count = 0
    questions: Count = 0
    sentence_characters: Histogram = msgspec.field(default_factory=lambda: Histogram.empty(10))
    boxes_per_sentence: Histogram = msgspec.field(default_factory=lambda: Histogram.empty(1))
    box_area_percent: Histogram = msgspec.field(default_factory=lambda: Histogram.empty(2))


class Stats(msgspec.Struct):
    """Counts and histograms of one split (or one shard of it)."""

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
    #: The width's share of width and height together: 50 is a square.
    box_width_percent: Histogram = msgspec.field(default_factory=lambda: Histogram.empty(5))

    def add(self, sample: Sample) -> None:
        self.images += 1
        self.captions += len(sample.captions)
        self.captions_per_image.add(len(sample.captions))
        pixels = max(sample.width * sample.height, 1)
        for dataset in {part.dataset for caption in sample.captions for part in caption.provenance}:
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

    def merge(self, other: "Stats") -> None:
        """Adds what another shard holds."""
        _merge(self, other)
        for dataset, of in other.datasets.items():
            _merge(self.datasets.setdefault(dataset, DatasetStats()), of)

    def _add_to_datasets(self, caption: Caption, pixels: int) -> None:
        """Counts a caption for the data sets that its sentences are from."""
        for dataset in {part.dataset for part in caption.provenance}:
            self.datasets[dataset].captions += 1
            self.datasets[dataset].questions += caption.question is not None
        boxes = [0] * len(caption.provenance)
        for region in caption.regions:
            number = _part_of(region, caption.provenance)
            boxes[number] += 1
            width, height = _sides(region)
            of = self.datasets[caption.provenance[number].dataset]
            of.regions += 1
            of.box_area_percent.add(100 * width * height / pixels, closed_at=100)
        for part, n in zip(caption.provenance, boxes, strict=True):
            of = self.datasets[part.dataset]
            of.sentences += 1
            of.sentence_characters.add(part.span[1] - part.span[0])
            of.boxes_per_sentence.add(n)


def _merge(total: Stats | DatasetStats, other: Stats | DatasetStats) -> None:
    """Adds the counts and histograms of another of the same kind."""
    for name in total.__struct_fields__:
        mine, theirs = getattr(total, name), getattr(other, name)
        if isinstance(mine, int):
            setattr(total, name, mine + theirs)
        elif isinstance(mine, Histogram):
            mine.merge(theirs)


def _sides(region: Region) -> tuple[float, float]:
    x0, y0, x1, y1 = region.box
    return max(x1 - x0, 0), max(y1 - y0, 0)


def _part_of(region: Region, parts: Sequence[Provenance]) -> int:
    """The number of the part whose words name a region; the first one where none does."""
    begin = region.spans[0][0] if region.spans else 0
    found = (n for n, part in enumerate(parts) if part.span[0] <= begin < part.span[1])
    return next(found, 0)


def as_json(stats: dict[str, Stats]) -> bytes:
    """``stats.json``: one object a split; equal stats give equal bytes."""
    for of in stats.values():
        of.datasets = dict(sorted(of.datasets.items()))
        for counted in (of, *of.datasets.values()):
            for name in counted.__struct_fields__:
                if isinstance(histogram := getattr(counted, name), Histogram):
                    histogram.bins = dict(sorted(histogram.bins.items()))
    return msgspec.json.format(msgspec.json.encode(stats), indent=1) + b"\n"
