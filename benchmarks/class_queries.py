r"""Measures the time saved by encoding an image once for all classes, and captions once.

    PYTHONPATH=. python benchmarks/class_queries.py --side 480 --classes 16

Times the parts of the paper's ResNet-101 model, with random weights, for one image and a few
classes, and computes the cost of an image with LVIS's 1,203 classes: for each pair of image and
class separately, for batches of captions of an image, and as ``class_queries`` does it. Medians of
several rounds.
"""

import argparse
from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch

from mdetr_model.modeling.configuration_mdetr import MdetrConfig
from mdetr_model.modeling.modeling_mdetr import MdetrForGrounding

LVIS_CLASSES = 1203
TOKENS = 6  # of a class's name, with the two special ones


def model() -> MdetrForGrounding:
    torch.manual_seed(0)
    return MdetrForGrounding(MdetrConfig()).eval()


def seconds(rounds: int, call: Callable[[], object]) -> float:
    call()
    times = []
    for _ in range(rounds):
        begin = perf_counter()
        call()
        times.append(perf_counter() - begin)
    return median(times)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=480, help="the image's shorter side; 4:3")
    parser.add_argument("--classes", type=int, default=16, help="captions per forward pass")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    mdetr, number = model(), arguments.classes
    pixels = torch.randn(1, 3, arguments.side, arguments.side * 4 // 3)
    ids = torch.randint(5, 1000, (number, TOKENS))
    mask = torch.ones_like(ids)
    core = mdetr.mdetr
    image, grid_mask = core.encode_images(pixels)
    text = core.encode_captions(ids, mask)
    images = image.expand(number, -1, -1), grid_mask.expand(number, -1, -1)
    rounds = arguments.rounds
    image_time = seconds(rounds, lambda: core.encode_images(pixels))
    caption_time = seconds(rounds, lambda: core.encode_captions(ids, mask)) / number
    pair_time = seconds(rounds, lambda: core.fuse_and_decode(*images, text, mask)) / number
    print(f"{torch.get_num_threads()} threads, {image.shape[1]} grid locations; milliseconds:")
    print(f"  an image {1e3 * image_time:.1f}, a caption {1e3 * caption_time:.1f}", end="")
    print(f", the joint transformer for both {1e3 * pair_time:.1f}")
    separate = LVIS_CLASSES * (image_time + caption_time + pair_time)
    batched = image_time * LVIS_CLASSES / number + LVIS_CLASSES * (caption_time + pair_time)
    once = image_time + LVIS_CLASSES * pair_time
    print(f"seconds for an image and {LVIS_CLASSES} classes:")
    print(
        f"  each pair separately {separate:.0f}, {number} captions per image {batched:.0f}", end=""
    )
    print(f", both encoded once {once:.0f}: {once / separate:.2f} of the first")


if __name__ == "__main__":
    main()
