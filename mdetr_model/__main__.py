"""``python -m mdetr_model train|evaluate|ground|convert ...``; with torchrun, the first two."""

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
        prog="python -m mdetr_model", description="MDETR: find in an image what a caption names."
    )
    commands = parser.add_subparsers(dest="command", required=True)

    train = commands.add_parser(
        "train",
        help="train a model on shards",
        description="Train on shards what a configuration says. Several processes: "
        "torchrun --nproc-per-node=N -m mdetr_model train ...",
    )
    train.add_argument("config", help="a TOML file, or the name of a configuration shipped here")
    train.add_argument("--output", type=Path, required=True, help="checkpoints, logs, the model")
    train.add_argument(
        "--root", type=Path, default=Path(), help="where relative paths of a configuration begin"
    )
    train.add_argument(
        "--resume",
        default="never",
        help="'auto': from the latest checkpoint in OUTPUT, if there is one; a checkpoint's path; "
        "default: never, and a folder with checkpoints is refused",
    )
    train.set_defaults(run=_train)

    evaluate = commands.add_parser(
        "evaluate",
        help="measure a model on shards",
        description="Measure a model on a split of a shard set, beside blind baselines.",
    )
    evaluate.add_argument(
        "task", choices=["grounding", "referring", "detection", "answering", "lvis"]
    )
    evaluate.add_argument("--model", type=Path, required=True, help="a model folder")
    evaluate.add_argument("--shards", required=True, help="a shard set: folder or URL")
    evaluate.add_argument("--split", default="val")
    evaluate.add_argument("--output", type=Path, required=True, help="metrics and predictions")
    evaluate.add_argument(
        "--batch", type=int, default=8, help="pairs at a time, or classes of an image; default: 8"
    )
    evaluate.add_argument("--workers", type=int, default=2, help="processes that read and decode")
    evaluate.add_argument("--images", type=int, default=0, help="draw so many predictions")
    evaluate.add_argument(
        "--annotations", type=Path, help="for lvis, and only for it: LVIS's file about the split"
    )
    evaluate.set_defaults(run=_evaluate)

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
    convert.add_argument(
        "--answers",
        type=Path,
        help="what the answer heads of GQA's checkpoints stand for: gqa_answer2id_by_type.json, or "
        "gqa_answer2id.json for the unified head; 'evaluate answering' needs it",
    )
    convert.set_defaults(run=_convert)

    ground = commands.add_parser(
        "ground",
        help="find what a caption names in an image",
        description="Print the phrases of a caption with their boxes and scores, and draw them.",
    )
    ground.add_argument("image", type=Path)
    ground.add_argument("caption")
    ground.add_argument("--model", type=Path, required=True, help="folder of a converted model")
    ground.add_argument("--threshold", type=float, default=0.7, help="least score; default: 0.7")
    ground.add_argument(
        "--output", type=Path, help="the image to write; default: IMAGE's name, .grounded.png"
    )
    ground.set_defaults(run=_ground)
    return parser


def _train(arguments: argparse.Namespace) -> None:
    from mdetr_model.training.config import load
    from mdetr_model.training.trainer import train

    config = load(arguments.config).below(arguments.root)
    train(config, arguments.output, arguments.resume)


def _evaluate(arguments: argparse.Namespace) -> None:
    if (arguments.task == "lvis") != (arguments.annotations is not None):
        raise ValueError("--annotations is needed for lvis, and for no other task")
    if arguments.task == "lvis" and arguments.images:
        raise ValueError("--images draws captions, of which lvis has none")
    if arguments.task == "lvis":
        from mdetr_model.evaluation.class_detection import evaluate_classes

        evaluate_classes(
            arguments.model,
            arguments.shards,
            arguments.split,
            arguments.annotations,
            arguments.output,
            together=arguments.batch,
            workers=arguments.workers,
        )
        return
    from mdetr_model.evaluation.evaluate import evaluate

    evaluate(
        arguments.task,
        arguments.model,
        arguments.shards,
        arguments.split,
        arguments.output,
        batch=arguments.batch,
        workers=arguments.workers,
        images=arguments.images,
    )


def _convert(arguments: argparse.Namespace) -> None:
    from mdetr_model.conversion.convert import convert

    config = convert(
        arguments.checkpoint,
        arguments.output,
        arguments.weights,
        arguments.tokenizer,
        arguments.answers,
    )
    image, text = config.image_config.model_type, config.text_config.num_hidden_layers
    print(f"{arguments.output}: {image}, text encoder of {text} layers, ", end="")
    print(f"{config.num_queries} queries, answer heads: {len(config.answer_heads)}")
    if arguments.tokenizer is None:
        print("Without --tokenizer there is no processor; 'ground' needs one.")


def _ground(arguments: argparse.Namespace) -> None:
    from mdetr_model.inference.ground import drawing, ground, open_image, table
    from mdetr_model.model_folder import read_model

    image = open_image(arguments.image)
    model, processor = read_model(arguments.model)
    found = ground(image, arguments.caption, model, processor, arguments.threshold)
    print(table(found))
    output = arguments.output or Path(f"{arguments.image.stem}.grounded.png")
    drawing(image, arguments.caption, found).save(output)
    print(output)


if __name__ == "__main__":
    sys.exit(main())
