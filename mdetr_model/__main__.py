"""``python -m mdetr_model convert|ground ...``: published checkpoints, and words to boxes."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the exit status is 0 if it did what it was asked."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except (OSError, ValueError) as error:
        print(f"mdetr {arguments.command}: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mdetr_model", description="MDETR: find in a picture what a caption names."
    )
    commands = parser.add_subparsers(dest="command", required=True)

    convert = commands.add_parser(
        "convert",
        help="turn a published MDETR checkpoint into a model folder",
        description="Turn a published MDETR checkpoint into a model folder with the same outputs. "
        "Nothing in the file is executed.",
    )
    convert.add_argument("checkpoint", type=Path, help="a .pth file")
    convert.add_argument("output", type=Path, help="folder of the model")
    convert.add_argument(
        "--weights",
        choices=["model", "model_ema"],
        help="which of the file's weights; default: model_ema where the file has it",
    )
    convert.add_argument(
        "--tokenizer",
        help="folder of the RoBERTa tokenizer, or its name on the Hugging Face hub; with it the "
        "processor is written too, which 'ground' needs",
    )
    convert.set_defaults(run=_convert)

    ground = commands.add_parser(
        "ground",
        help="find what a caption names in a picture",
        description="Print the phrases of a caption with their boxes and scores, and draw them.",
    )
    ground.add_argument("image", type=Path)
    ground.add_argument("caption")
    ground.add_argument("--model", type=Path, required=True, help="folder of a converted model")
    ground.add_argument("--threshold", type=float, default=0.7, help="least score; default: 0.7")
    ground.add_argument(
        "--output", type=Path, help="the picture to write; default: IMAGE's name, .grounded.png"
    )
    ground.set_defaults(run=_ground)
    return parser


def _convert(arguments: argparse.Namespace) -> None:
    from mdetr_model.convert import convert

    config = convert(arguments.checkpoint, arguments.output, arguments.weights, arguments.tokenizer)
    image, text = config.image_config.model_type, config.text_config.num_hidden_layers
    print(f"{arguments.output}: {image}, text encoder of {text} layers, ", end="")
    print(f"{config.num_queries} queries, answer heads: {len(config.answer_heads)}")
    if arguments.tokenizer is None:
        print("Without --tokenizer there is no processor; 'ground' needs one.")


def _ground(arguments: argparse.Namespace) -> None:
    from mdetr_model.ground import drawing, ground, open_picture, table

    picture = open_picture(arguments.image)
    found = ground(picture, arguments.caption, arguments.model, arguments.threshold)
    print(table(found))
    output = arguments.output or Path(f"{arguments.image.stem}.grounded.png")
    drawing(picture, arguments.caption, found).save(output)
    print(output)


if __name__ == "__main__":
    sys.exit(main())
