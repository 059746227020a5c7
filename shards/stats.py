"""What is in a set of samples: counts and histograms that add up over shards."""

from collections import Counter

import msgspec

from schemas import Sample


class Histogram(msgspec.Struct):
    """Counts of a whole number in bins of ``width``; the key is the bin's lower end."""

    width: int
    bins: dict[int, int] = {}

    def add(self, value: float) -> None:
        start = int(value) // self.width * self.width
        self.bins[start] = self.bins.get(start, 0) + 1

    def merge(self, other: "Histogram") -> None:
        for start, n in other.bins.items():
            self.bins[start] = self.bins.get(start, 0) + n


class DatasetStats(msgspec.Struct):
    """How much of a published data set is in the samples: sentences are raw, before combining."""

    images: int = 0
    sentences: int = 0


class Stats(msgspec.Struct):
    """Counts and histograms of one split (or one shard of it)."""

    images: int = 0
    captions: int = 0
    sentences: int = 0
    regions: int = 0
    questions: int = 0
    characters: int = 0
    captions_without_boxes: int = 0
    datasets: dict[str, DatasetStats] = msgspec.field(default_factory=dict)
    caption_characters: Histogram = msgspec.field(default_factory=lambda: Histogram(10))
    sentences_per_caption: Histogram = msgspec.field(default_factory=lambda: Histogram(1))
    boxes_per_caption: Histogram = msgspec.field(default_factory=lambda: Histogram(1))
    captions_per_image: Histogram = msgspec.field(default_factory=lambda: Histogram(1))
    box_area_percent: Histogram = msgspec.field(default_factory=lambda: Histogram(2))

    def add(self, sample: Sample) -> None:
        self.images += 1
        self.captions += len(sample.captions)
        self.captions_per_image.add(len(sample.captions))
        pixels = max(sample.width * sample.height, 1)
        sentences: Counter[str] = Counter()
        for caption in sample.captions:
            sentences.update(part.dataset for part in caption.parts)
            self.regions += len(caption.regions)
            self.characters += len(caption.text)
            self.captions_without_boxes += not caption.regions
            self.caption_characters.add(len(caption.text))
            self.sentences_per_caption.add(len(caption.parts))
            self.boxes_per_caption.add(len(caption.regions))
            for region in caption.regions:
                x0, y0, x1, y1 = region.box or (0, 0, 0, 0)
                self.box_area_percent.add(100 * (x1 - x0) * (y1 - y0) / pixels)
            if caption.question is not None:
                self.questions += 1
        self.sentences += sentences.total()
        for dataset, n in sentences.items():
            of = self.datasets.setdefault(dataset, DatasetStats())
            of.images += 1
            of.sentences += n

    def merge(self, other: "Stats") -> None:
        """Adds what another shard holds."""
        for name in self.__struct_fields__:
            mine, theirs = getattr(self, name), getattr(other, name)
            if isinstance(mine, int):
                setattr(self, name, mine + theirs)
            elif isinstance(mine, Histogram):
                mine.merge(theirs)
        for dataset, of in other.datasets.items():
            total = self.datasets.setdefault(dataset, DatasetStats())
            for name in of.__struct_fields__:
                setattr(total, name, getattr(total, name) + getattr(of, name))


def as_json(stats: dict[str, Stats]) -> bytes:
    """``stats.json``: one object a split; equal stats give equal bytes."""
    for of in stats.values():
        of.datasets = dict(sorted(of.datasets.items()))
        for name in of.__struct_fields__:
            if isinstance(histogram := getattr(of, name), Histogram):
                histogram.bins = dict(sorted(histogram.bins.items()))
    return msgspec.json.format(msgspec.json.encode(stats), indent=1) + b"\n"
