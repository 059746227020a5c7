"""Generates the synthetic dataset in several processes."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from pathlib import Path

from tqdm import tqdm

from pipelines.synthetic.layout import (
    Elements,
    SyntheticDataset,
    complete_lvis,
    generate_images,
    make_folders,
    open_json_files,
    pickle_references,
    write_lists,
)
from shards.process_pool import process_pool

#: Images that a process generates at a time.
CHUNK = 100


def generate_dataset(root: Path, dataset: SyntheticDataset) -> None:
    """Writes all files of a dataset below ``root``, a folder without any of them.

    The bytes are the same for any number of processes.
    """
    make_folders(root, dataset.write_images)
    files = open_json_files(root)
    for elements in _generate_chunks(root, dataset):
        for (name, list_index), encoded in elements.items():
            files[name].add(encoded, list_index)
    for file in files.values():
        file.close()
    pickle_references(root)
    complete_lvis(root)
    write_lists(root, dataset)


def _generate_chunks(root: Path, dataset: SyntheticDataset) -> Iterator[Elements]:
    """Yields the JSON elements of all images in order, made by one process per CPU core."""
    starts = range(0, dataset.num_images, CHUNK)
    chunks = [range(start, min(start + CHUNK, dataset.num_images)) for start in starts]
    generate = partial(generate_images, root, dataset=dataset)
    if len(chunks) <= 1:
        yield from map(generate, chunks)
        return
    processes = min(len(chunks), os.cpu_count() or 1)
    with process_pool(processes) as pool:
        results = _ordered_results(pool, generate, chunks, max_pending=2 * processes)
        yield from tqdm(results, total=len(chunks), unit_scale=CHUNK, unit=" images", disable=None)


def _ordered_results(
    pool: ProcessPoolExecutor,
    generate: Callable[[range], Elements],
    chunks: list[range],
    max_pending: int,
) -> Iterator[Elements]:
    """Yields results in the order of the chunks; ``max_pending`` at a time bounds the memory."""
    pending: deque[Future[Elements]] = deque()
    for chunk in chunks:
        if len(pending) == max_pending:
            yield pending.popleft().result()
        pending.append(pool.submit(generate, chunk))
    while pending:
        yield pending.popleft().result()
