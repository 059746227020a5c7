"""Draws `docs/images/architecture.svg`: `python docs/make_architecture_figure.py`."""

from html import escape
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

OUTPUT = Path(__file__).parent / "images" / "architecture.svg"
WIDTH, HEIGHT = 1200, 640
INK, MUTED, LINE = "#1f2328", "#59636e", "#8c959f"
BUILD, STORE, TRAIN = "#0969da", "#1a7f37", "#8250df"


class Box(NamedTuple):
    """A step or a set of files: a title, lines of text, and the folder of its code."""

    x: int
    y: int
    width: int
    height: int
    title: str
    lines: tuple[str, ...]
    folder: str
    accent: str

    @property
    def middle(self) -> int:
        """The y coordinate of its center."""
        return self.y + self.height // 2

    def svg(self) -> str:
        """Returns the box as SVG elements."""
        left = self.x + 14
        texts = [f'<text x="{left}" y="{self.y + 24}" class="title">{escape(self.title)}</text>']
        texts += [
            f'<text x="{left}" y="{self.y + 44 + 17 * row}" class="line">{escape(line)}</text>'
            for row, line in enumerate(self.lines)
        ]
        if self.folder:
            bottom = self.y + self.height - 11
            texts.append(
                f'<text x="{left}" y="{bottom}" class="folder" fill="{self.accent}">'
                f"{escape(self.folder)}</text>"
            )
        return (
            f'<rect x="{self.x}" y="{self.y}" width="{self.width}" height="{self.height}" rx="6" '
            f'fill="#ffffff" stroke="{self.accent}" stroke-width="1.3"/>' + "".join(texts)
        )


def row(y: int, height: int, accent: str, *contents: tuple[str, tuple[str, ...], str]) -> list[Box]:
    """Returns boxes of equal width side by side, over the width of a band."""
    gap, left, right = 30, 40, WIDTH - 40
    width = (right - left - gap * (len(contents) - 1)) // len(contents)
    return [
        Box(left + n * (width + gap), y, width, height, title, lines, folder, accent)
        for n, (title, lines, folder) in enumerate(contents)
    ]


def band(y: int, height: int, name: str, accent: str) -> str:
    """Returns a tinted band with its name."""
    return (
        f'<rect x="20" y="{y}" width="{WIDTH - 40}" height="{height}" rx="10" fill="{accent}" '
        f'fill-opacity="0.07"/><text x="40" y="{y + 24}" class="band" fill="{accent}">'
        f"{escape(name)}</text>"
    )


def arrow(*points: tuple[int, int]) -> str:
    """Returns an arrow along a path of straight lines."""
    path = " ".join(f"{x},{y}" for x, y in points)
    return (
        f'<polyline points="{path}" fill="none" stroke="{LINE}" stroke-width="1.6" '
        'marker-end="url(#head)"/>'
    )


def label(x: int, y: int, text: str, anchor: str = "start") -> str:
    """Returns a note beside an arrow."""
    return f'<text x="{x}" y="{y}" class="note" text-anchor="{anchor}">{escape(text)}</text>'


def figure() -> str:
    """Returns the whole figure as SVG."""
    registry = Box(
        40, 54, 520, 74, "Image registry and evaluation sets",
        ("canonical image of each photo, images to exclude",), "pipelines/dedup/", BUILD,
    )  # fmt: skip
    build = row(
        160, 112, BUILD,
        ("Raw datasets",
         ("Flickr30k Entities, GQA,", "COCO, RefCOCO/+/g,", "Visual Genome, CLEVR, ..."), ""),
        ("Slice", ("4 MiB of whole elements", "of an annotation file"), "pipelines/io/"),
        ("Read", ("one ImageRecord per", "image and slice"), "pipelines/sources/"),
        ("Group by shard", ("the only shuffle;", "no image bytes"), "pipelines/beam/"),
        ("Write a shard", ("merge, exclude, combine;", "then add image bytes"),
         "pipelines/captions/"),
    )  # fmt: skip
    inspect, shard_set, export = row(
        344, 96, STORE,
        ("Inspect, verify", ("stats, report, browse, verify",),
         "shards/inspection/, verification/"),
        ("Shard set", ("train-00000-of-00064.tar ...,", "index, tables, manifest"),
         "shards/format/, reading/"),
        ("Export", ("MDETR JSON, ODVG, COCO, GRIT,", "ultralytics, datasets, Energon"),
         "shards/export/"),
    )  # fmt: skip
    train = row(
        502, 96, TRAIN,
        ("Sample", ("pairs in an order fixed", "by (seed, epoch)"), "shards/sampling/"),
        ("Collate", ("transform, tokenize,", "make positive maps"), "mdetr_model/data/"),
        ("Model and losses", ("a transformers model,", "Hungarian matching"),
         "mdetr_model/modeling/"),
        ("Train", ("DDP, EMA, checkpoints,", "exact resumption"), "mdetr_model/training/"),
        ("Evaluate", ("R@k, precision,", "accuracy, LVIS AP"), "mdetr_model/evaluation/"),
    )  # fmt: skip
    sample, written = train[0], build[4]
    centers = [box.x + box.width // 2 for box in build]
    side = [
        arrow((registry.x + registry.width, registry.middle), (x, registry.middle), (x, build[2].y))
        for x in (centers[2], centers[4])
    ]
    along = [
        arrow((left.x + left.width, left.middle), (right.x - 2, right.middle))
        for boxes in (build, train)
        for left, right in pairwise(boxes)
    ]
    lower = shard_set.y + shard_set.height
    between = [
        arrow(
            (centers[4], written.y + written.height),
            (centers[4], 326),
            (centers[2], 326),
            (centers[2], shard_set.y - 2),
        ),
        arrow((shard_set.x, shard_set.middle), (inspect.x + inspect.width + 2, inspect.middle)),
        arrow((shard_set.x + shard_set.width, export.middle), (export.x - 2, export.middle)),
        arrow(
            (centers[2], lower),
            (centers[2], lower + 19),
            (sample.x + sample.width - 20, lower + 19),
            (sample.x + sample.width - 20, sample.y - 2),
        ),
    ]
    notes = [
        label(centers[4] - 8, registry.middle - 8, "side inputs of every worker", "end"),
        label(centers[4] - 8, 320, "atomically, the manifest last", "end"),
        label(centers[2] + 8, lower + 23, "local files, or shards prefetched from a bucket"),
    ]
    boxes = [box.svg() for box in [registry, *build, inspect, shard_set, export, *train]]
    bands = [
        band(20, 266, "mdetr-build  (Apache Beam)", BUILD),
        band(298, 152, "mdetr-shards", STORE),
        band(468, 146, "mdetr  (PyTorch)", TRAIN),
    ]
    style = (
        "text{font-family:-apple-system,'Segoe UI',Helvetica,Arial,sans-serif}"
        f".band{{font-size:14px;font-weight:600}}.title{{font-size:14px;font-weight:600;fill:{INK}}}"
        f".line{{font-size:12.5px;fill:{INK}}}.note{{font-size:12px;fill:{MUTED}}}"
        ".folder{font-size:11.5px;font-family:ui-monospace,Menlo,Consolas,monospace}"
    )
    head = (
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="{LINE}"/></marker>'
    )
    title = "From raw datasets through a Beam pipeline to a shard set, training and evaluation"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
            f"<title>{title}</title><style>{style}</style><defs>{head}</defs>",
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
            *bands, *side, *along, *between, *notes, *boxes,
            "</svg>\n",
        ]
    )  # fmt: skip


if __name__ == "__main__":
    OUTPUT.write_text(figure(), encoding="utf-8")
    print(OUTPUT)
