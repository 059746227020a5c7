r"""Generates a synthetic dataset: images, and raw annotation files in the published layouts.

    mdetr-synthetic --output build/demo/raw --num-images 300 --seed 0

The same options give the same bytes of every file. Below the output folder, the layout `grounding`
has coco/, refcoco/, lvis/, vg/, gqa/, flickr30k/ and ids/ (`pipelines.synthetic.layout`). The
datasets overlap as the real ones do (`pipelines.synthetic.plan`), and have corrupted records as the
real files do (`pipelines.synthetic.corruption`). The layout `clevr` has clevr/
(`pipelines.synthetic.clevr`), the layout `detection` objects365/, v3det/ and openimages/
(`pipelines.synthetic.detection`). SYNTHETIC.txt marks the folder as generated. With --packed, the
same files are in archives, as the real ones are published (`pipelines.synthetic.packed`); recipes
read both.

Annotations of Visual Genome's real size (108,000 images and 5.4 million regions, 943,000
balanced training questions, 320,000 referring sentences), without images:

    mdetr-synthetic --output DIR --num-images 166154 --no-images \
        --regions 50 --questions 12.12 --sentences 4.94

That takes about four minutes on two cores, 0.3 GB of memory per process, and 5 GB of disk.
"""

import argparse
import sys
from collections.abc import Callable, Sequence

from pipelines.synthetic import SYNTHETIC_MARK
from pipelines.synthetic.detection import generate_detection
from pipelines.synthetic.generate import generate_dataset
from pipelines.synthetic.layout import SyntheticDataset
from pipelines.synthetic.packed import pack_dataset
from pipelines.synthetic.plan import MAX_IMAGES
from pipelines.synthetic.scene import STYLES
from schemas.package_version import package_version
from shards.atomic_folder import atomic_folder
from shards.commands.arguments import local_path
from shards.terminal import error_text

_MARK = """Images and annotations that mdetr-synthetic generated, in the layouts of published
datasets. They are not those datasets, nor made from them.
"""

#: More regions or questions per image could exceed the image's interval of ids.
MAX_REGIONS, MAX_QUESTIONS = 1000, 400
#: Options that apply to the layout `grounding` only.
GROUNDING_OPTIONS = {
    "write_images": "--no-images",
    "scenes": "--scenes",
    "regions": "--regions",
    "questions": "--questions",
    "sentences": "--sentences",
    "caption_length_bias": "--caption-length-bias",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, 1 if the folder cannot be written, or 130 if interrupted.

    Raises:
        SystemExit: 2 for usage errors, 0 after ``--help`` and ``--version``.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    options = {
        name: value for name in GROUNDING_OPTIONS if (value := getattr(arguments, name)) is not None
    }
    if arguments.layout != "grounding" and options:
        unused = ", ".join(GROUNDING_OPTIONS[name] for name in options)
        parser.error(f"--layout {arguments.layout} does not use {unused}")
    try:
        with atomic_folder(arguments.output) as folder:
            if arguments.layout == "clevr":
                # Its scenes share code with CLEVR's reader, which imports Beam: four seconds.
                from pipelines.synthetic.clevr import generate_clevr

                generate_clevr(folder, arguments.num_images, arguments.seed)
            elif arguments.layout == "detection":
                generate_detection(folder, arguments.num_images, arguments.seed)
            else:
                dataset = SyntheticDataset(arguments.num_images, arguments.seed, **options)
                generate_dataset(folder, dataset)
            if arguments.packed:
                pack_dataset(folder)
            (folder / SYNTHETIC_MARK).write_text(_MARK)
    except OSError as error:
        print(f"{parser.prog}: error: {error_text(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    defaults = SyntheticDataset(num_images=300)
    parser = argparse.ArgumentParser(
        prog="mdetr-synthetic",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {package_version()}")
    parser.add_argument(
        "--output",
        type=local_path,
        metavar="DIR",
        required=True,
        help="folder to create, or an empty one",
    )
    parser.add_argument(
        "--layout",
        choices=("grounding", "clevr", "detection"),
        default="grounding",
        help="COCO, RefCOCO/+/g, LVIS, Visual Genome, GQA and Flickr30k Entities (the default), "
        "CLEVR, or Objects365, V3Det and OpenImages",
    )
    parser.add_argument(
        "--num-images",
        type=_between(int, 0, MAX_IMAGES),
        default=defaults.num_images,
        metavar="N",
        help="number of images (%(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=defaults.seed, metavar="S", help="random seed (%(default)s)"
    )
    parser.add_argument(
        "--packed",
        action="store_true",
        help="write the zips, and a tar, that the real datasets are published in",
    )
    grounding = parser.add_argument_group("options of the layout grounding")
    grounding.add_argument(
        "--no-images",
        action="store_const",
        const=False,
        dest="write_images",
        help="write the annotations only",
    )
    grounding.add_argument(
        "--scenes",
        choices=tuple(STYLES),
        help="what images show: 4 to 9 objects of 14 shapes, 11 colors, 4 textures and 3 sizes "
        "(varied, the default), or 3 to 5 objects of 5 shapes, 6 colors and 2 sizes (simple)",
    )
    grounding.add_argument(
        "--regions",
        type=_between(float, 0, MAX_REGIONS),
        metavar="MEAN",
        help=f"regions of a Visual Genome image ({defaults.regions:g}; in the real dataset 50)",
    )
    grounding.add_argument(
        "--questions",
        type=_between(float, 0, MAX_QUESTIONS),
        metavar="MEAN",
        help=f"balanced questions of a GQA image ({defaults.questions:g}; in the real dataset 12)",
    )
    grounding.add_argument(
        "--sentences",
        type=_between(float, 0, 1000),
        metavar="MEAN",
        help="referring sentences of a COCO train2014 image, in RefCOCO, RefCOCO+ and RefCOCOg "
        f"together ({defaults.sentences:g})",
    )
    grounding.add_argument(
        "--caption-length-bias",
        type=_between(float, 1, 100),
        metavar="X",
        help="preference for short descriptions: at 1, all that fit are equally likely, with up to "
        f"two adjectives more than needed; at {defaults.caption_length_bias:g}, the default, two "
        "thirds are a noun alone",
    )
    return parser


def _between(convert: Callable[[str], float], least: float, most: float) -> Callable[[str], float]:
    """Returns a converter for argparse that accepts numbers of an interval."""

    def number(text: str) -> float:
        value = convert(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not between {least} and {most}")
        return value

    return number


if __name__ == "__main__":
    sys.exit(main())
