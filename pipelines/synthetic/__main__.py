r"""Writes a made-up world: images, and raw annotation files about them in published layouts.

    python -m pipelines.synthetic OUT --images 300 --seed 0

The same options give the same bytes of every file. Below OUT: coco/, refcoco/, lvis/, vg/, gqa/,
flickr30k/ and ids/, as `pipelines.synthetic.layout` lists them; the datasets overlap as the real
ones do (`pipelines.synthetic.plan`) and contain the malformed records that the real files contain
(`pipelines.synthetic.corruption`).

Annotations of Visual Genome's real size (108,000 images and 5.4 million regions, 943,000
balanced training questions, 320,000 referring sentences), without images:

    python -m pipelines.synthetic OUT --images 166154 --without-images \
        --regions 50 --questions 12.12 --sentences 4.94

That takes about four minutes on two cores, 0.3 GB of memory a process, and 5 GB of disk.
"""

import argparse
import os
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from pipelines.synthetic.layout import (
    Elements,
    SyntheticDataset,
    add_classes,
    describe,
    json_files,
    make_folders,
    number_references,
    write_lists,
)
from pipelines.synthetic.phrases import CAPTION_LENGTH_BIAS
from pipelines.synthetic.plan import MOST_IMAGES

#: Images made at a time by one process.
CHUNK = 100
#: Regions or questions an image for which the ids of two images cannot meet.
MOST_REGIONS, MOST_QUESTIONS = 1000, 400


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    arguments = _parser().parse_args(argv)
    out: Path = arguments.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        print(f"{out} exists and is not an empty folder. Name a new folder.", file=sys.stderr)
        return 2
    synthetic = SyntheticDataset(
        images=arguments.images,
        seed=arguments.seed,
        write_images=not arguments.without_images,
        regions=arguments.regions,
        questions=arguments.questions,
        sentences=arguments.sentences,
        caption_length_bias=arguments.caption_length_bias,
    )
    write(out, synthetic)
    return 0


def write(out: Path, synthetic: SyntheticDataset) -> None:
    """Makes a world in OUT.partial, which becomes OUT when it is complete."""
    partial_out = out.with_name(out.name + ".partial")
    if partial_out.exists():
        shutil.rmtree(partial_out)  # what a killed run left behind
    make_folders(partial_out, synthetic.write_images)
    files = json_files(partial_out)
    for elements in _described(partial_out, synthetic):
        for (name, part), encoded in elements.items():
            files[name].add(encoded, part)
    for file in files.values():
        file.close()
    number_references(partial_out)
    add_classes(partial_out)
    write_lists(partial_out, synthetic)
    if out.exists():
        out.rmdir()
    partial_out.rename(out)


def _described(root: Path, synthetic: SyntheticDataset) -> Iterator[Elements]:
    """The elements of all images in order, made by as many processes as there are cores."""
    starts = range(0, synthetic.images, CHUNK)
    chunks = [range(start, min(start + CHUNK, synthetic.images)) for start in starts]
    make = partial(describe, root, synthetic=synthetic)
    if len(chunks) <= 1:
        yield from map(make, chunks)
        return
    processes = min(len(chunks), os.cpu_count() or 1)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        results = _in_order(pool, make, chunks, most=2 * processes)
        yield from tqdm(results, total=len(chunks), unit_scale=CHUNK, unit=" images", disable=None)


def _in_order(
    pool: ProcessPoolExecutor,
    make: Callable[[range], Elements],
    chunks: list[range],
    most: int,
) -> Iterator[Elements]:
    """Results in the order of the chunks, with at most ``most`` under way: memory stays small."""
    under_way: deque[Future[Elements]] = deque()
    for chunk in chunks:
        if len(under_way) == most:
            yield under_way.popleft().result()
        under_way.append(pool.submit(make, chunk))
    while under_way:
        yield under_way.popleft().result()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.synthetic", description=__doc__.splitlines()[0]
    )
    parser.add_argument("out", type=Path, help="a folder that does not exist yet, or is empty")
    parser.add_argument(
        "--images", type=_between(int, 0, MOST_IMAGES), default=300, help="images (300)"
    )
    parser.add_argument("--seed", type=int, default=0, help="decides everything (0)")
    parser.add_argument(
        "--without-images", action="store_true", help="write annotations, and no JPEG"
    )
    parser.add_argument(
        "--regions",
        type=_between(float, 0, MOST_REGIONS),
        default=12.0,
        help="mean number of regions a Visual Genome image (12; in the real one 50)",
    )
    parser.add_argument(
        "--questions",
        type=_between(float, 0, MOST_QUESTIONS),
        default=8.0,
        help="mean number of balanced questions a GQA image (8; in the real one 12)",
    )
    parser.add_argument(
        "--sentences",
        type=_between(float, 0, 1000),
        default=12.0,
        help="mean number of referring sentences a COCO train2014 image, RefCOCO, RefCOCO+ and "
        "RefCOCOg together (12)",
    )
    parser.add_argument(
        "--caption_length_bias",
        type=_between(float, 1, 100),
        default=CAPTION_LENGTH_BIAS,
        help="how brief descriptions are: at 5, the default, two thirds are a noun alone; at 1 all "
        "that fit are as likely, up to two adjectives longer than needed",
    )
    return parser


def _between(kind: Callable[[str], float], least: int, most: int) -> Callable[[str], float]:
    """A converter for argparse."""

    def convert(text: str) -> float:
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not between {least} and {most}")
        return value

    return convert


if __name__ == "__main__":
    sys.exit(main())
