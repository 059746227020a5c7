"""Compares decoders of JPEG, by CPU time and pixels, on the images of a shard set.

    python benchmarks/decoders.py SHARDS [--turbojpeg PATH_OF_libturbojpeg.so.0]

A decoder gives (H, W, 3) RGB at full size, and this project's resampling makes the shortest side
800 or 480 of it; *here* is `decode_transformed` as training calls it. Decoders that cannot be
imported are left out: simplejpeg, torchvision and PyTurboJPEG are not among the libraries of this
project. Each round has all decoders in turn.
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image

from mdetr_model.data.transforms import CropResizeFlip, decode_transformed, resized_size
from shards.reading.reader import ShardReader
from shards.reading.shard_set import ShardSet

Pixels = npt.NDArray[np.uint8]
Decoder = Callable[[bytes], Pixels]


def by_pillow(image: bytes) -> Pixels:
    with Image.open(io.BytesIO(image), formats=("JPEG", "PNG")) as opened:
        return np.array(opened.convert("RGB"))


def decoders(turbojpeg: Path | None) -> dict[str, Decoder]:
    available: dict[str, Decoder] = {"Pillow": by_pillow}
    try:
        simplejpeg = import_module("simplejpeg")
        available["simplejpeg"] = simplejpeg.decode_jpeg
        available["simplejpeg, fast"] = lambda image: simplejpeg.decode_jpeg(
            image, fastdct=True, fastupsample=True
        )
    except ImportError as error:
        print(error)
    try:
        library = import_module("torchvision.io")
        mode = library.ImageReadMode.RGB

        def by_torchvision(image: bytes) -> Pixels:
            encoded = torch.frombuffer(bytearray(image), dtype=torch.uint8)
            pixels: Pixels = library.decode_jpeg(encoded, mode).permute(1, 2, 0).numpy()
            return pixels

        available["torchvision"] = by_torchvision
    except ImportError as error:
        print(error)
    try:
        module = import_module("turbojpeg")
        turbo = module.TurboJPEG(str(turbojpeg) if turbojpeg else None)
        available["PyTurboJPEG"] = lambda image: turbo.decode(image, module.TJPF_RGB)
    except (ImportError, RuntimeError) as error:
        print(error)
    return available


def resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Returns the pixels resampled as `decode_transformed` does."""
    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    result = F.interpolate(planes, size[::-1], mode="bilinear", antialias=True)
    return result[0].permute(1, 2, 0).numpy()


def here(image: bytes, size: tuple[int, int], short: int) -> Pixels:
    geometry = CropResizeFlip((0, 0, *size), resized_size(size, short), flip=False)
    return decode_transformed(image, "", size, geometry)


def images(folder: Path, count: int) -> list[tuple[bytes, tuple[int, int]]]:
    """Returns images of 640x480 or 480x640, as most of COCO's are."""
    shards = ShardSet.open(folder)
    reader = ShardReader(shards)
    chosen = []
    for stored in reader.samples("train"):
        size = stored.sample.width, stored.sample.height
        if sorted(size) == [480, 640]:
            chosen.append((bytes(reader.image(stored.shard, stored.row).content), size))
        if len(chosen) == count:
            break
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shards", type=Path)
    parser.add_argument("--turbojpeg", type=Path)
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chosen = images(arguments.shards, arguments.images)
    ways: dict[str, Callable[[bytes, tuple[int, int]], Pixels]] = {}
    for name, decode in decoders(arguments.turbojpeg).items():
        ways[f"{name}, decoded"] = lambda image, size, d=decode: d(image)
        for short in (800, 480):
            ways[f"{name}, {short}"] = lambda image, size, d=decode, s=short: resized(
                d(image), resized_size(size, s)
            )
    for short in (800, 480):
        ways[f"here, {short}"] = lambda image, size, s=short: here(image, size, s)

    costs: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            begin = time.process_time()
            for image, size in chosen:
                way(image, size)
            costs[name].append((time.process_time() - begin) / len(chosen))
    size = statistics.mean(len(image) for image, _ in chosen)
    print(f"{len(chosen)} images of {size / 1e3:.0f} kB")
    for name, seconds in costs.items():
        reference = ways[f"Pillow, {name.split(', ')[-1]}"]
        difference = max(
            int(np.abs(ways[name](*item).astype(int) - reference(*item)).max()) for item in chosen
        )
        print(
            f"{name:28} {1e3 * statistics.median(seconds):5.2f} ms "
            f"({1e3 * min(seconds):.2f} to {1e3 * max(seconds):.2f})"
            f"   largest difference {difference}"
        )


if __name__ == "__main__":
    main()
