"""``mdetr train|evaluate|report|ground|play|convert``; the first two also run under torchrun."""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from schemas.package_version import package_version
from schemas.toml_config import add_set_option
from shards.commands.arguments import (
    local_path,
    natural_number,
    port,
    positive_float,
    positive_int,
    score,
)
from shards.terminal import error_text, printable

PROGRAM = "mdetr"
TRAIN_LIBRARIES = (  # of the extra
    "hotcoco",
    "safetensors",
    "scipy",
    "tensorboard",
    "torch",
    "transformers",
)
TASKS = (
    "grounding",
    "referring",
    "grefcoco",
    "ref-l4",
    "detection",
    "rejection",
    "answering",
    "lvis",
)
PRECISIONS = ("float32", "tf32", "bfloat16", "float16")
GROUND_USAGE = """\
mdetr ground IMAGE CAPTION --model DIR [--threshold SCORE] [--output FILE]
       mdetr ground --image PATH ... --caption TEXT ... --model DIR --output FOLDER
       mdetr ground --pairs FILE --model DIR --output FOLDER"""


class UsageError(ValueError):
    """Options that conflict or are required together."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status.

    0: success. 1: failure. 2: wrong usage. 130: interrupted; ``train`` ends with 0, and can resume.
    """
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except (OSError, ValueError) as error:
        print(f"{PROGRAM}: error: {printable(error_text(error))}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except ModuleNotFoundError as error:
        if error.name not in TRAIN_LIBRARIES:
            raise
        needs = f"needs {error.name}, which is not installed"
        print(f'{PROGRAM}: error: {needs}: pip install ".[train]"', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="MDETR: detect the objects that a caption names."
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {package_version()}")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_train(commands)
    _add_evaluate(commands)
    _add_report(commands)
    _add_ground(commands)
    _add_play(commands)
    _add_convert(commands)
    return parser


def _add_train(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    train = commands.add_parser(
        "train",
        help="train a model on shards",
        description="Train a model on shards. On several GPUs or processes: "
        "torchrun --nproc-per-node=N -m mdetr_model train ...",
    )
    train.add_argument("config", help="name of a shipped configuration, or a TOML file")
    train.add_argument(
        "--output", type=local_path, required=True, help="folder of checkpoints, logs and the model"
    )
    train.add_argument(
        "--root",
        type=Path,
        default=Path(),
        help="base folder of relative paths in the configuration; default: .",
    )
    train.add_argument(
        "--resume",
        default="never",
        help="'auto': from the latest checkpoint in OUTPUT, if there is one; a checkpoint's path; "
        "default: 'never', which fails if OUTPUT has checkpoints",
    )
    train.add_argument(
        "--max-minutes",
        type=positive_float,
        default=math.inf,
        metavar="M",
        help="stop after M minutes, with a checkpoint to resume from; default: no limit",
    )
    train.add_argument(
        "--profile",
        type=natural_number,
        default=0,
        metavar="N",
        help="profile N steps: a trace and a table of operators in OUTPUT/profile; default: 0",
    )
    train.add_argument(
        "--dry-run",
        action="store_true",
        help="print what would be read, the number of steps, and an estimate of the memory; "
        "write nothing but the cache of remote sets",
    )
    add_set_option(train)
    train.set_defaults(run=_train)


def _add_evaluate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="evaluate a model on shards",
        description="Evaluate a model on a split of a shard set, along with text-only and "
        "random baselines.",
    )
    evaluate.add_argument("task", choices=TASKS)
    source = evaluate.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--model",
        help="model folder; for all but detection, rejection and answering also the folder, or "
        "the name in the hub, of Grounding DINO, MM-Grounding-DINO, LLMDet, OWL-ViT or OWLv2",
    )
    source.add_argument(
        "--predictions",
        type=Path,
        metavar="FILE",
        help="evaluate these predictions of another program on the same tasks; "
        "docs/predictions.md describes the file",
    )
    evaluate.add_argument(
        "--shards",
        help="shard set: folder or URL; required but for --predictions on lvis",
    )
    evaluate.add_argument("--split", default="val", help="default: val")
    evaluate.add_argument(
        "--output", type=local_path, required=True, help="folder of metrics and predictions"
    )
    evaluate.add_argument(
        "--batch-size",
        type=positive_int,
        default=8,
        metavar="N",
        help="pairs per forward pass; for lvis, classes per image; default: 8",
    )
    evaluate.add_argument(
        "--workers",
        type=natural_number,
        default=2,
        metavar="N",
        help="data loader processes; default: 2",
    )
    evaluate.add_argument(
        "--num-images",
        type=natural_number,
        default=0,
        metavar="N",
        help="draw predictions on N images; default: 0",
    )
    evaluate.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="of matrix products on a GPU: all but float32 use tensor cores; not for lvis; "
        "default: float32",
    )
    evaluate.add_argument(
        "--annotations", type=Path, help="LVIS's annotation file of the split; only for lvis"
    )
    evaluate.set_defaults(run=_evaluate)


def _add_report(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    report = commands.add_parser(
        "report",
        help="write a page about a trained model",
        description="Write one HTML page about a training run and its evaluation by 'evaluate "
        "grounding', and print a summary. It warns of a model that has not learned, with exit "
        "status 0.",
    )
    report.add_argument("--training", type=Path, required=True, help="folder of the training run")
    report.add_argument(
        "--evaluation", type=Path, required=True, help="folder of the metrics and predictions"
    )
    report.add_argument(
        "--shards", required=True, help="shard set of the evaluation: folder or URL"
    )
    report.add_argument("--split", default="val", help="its split; default: val")
    report.add_argument(
        "--output",
        type=local_path,
        required=True,
        help="HTML file to write; an earlier page is replaced",
    )
    report.set_defaults(run=_report)


def _add_ground(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    ground = commands.add_parser(
        "ground",
        help="detect what a caption names in images",
        usage=GROUND_USAGE,
        description="Of one image and one caption, print the phrases with boxes and scores, and "
        "draw them. Of several, write a drawing of each pair to FOLDER, and grounded.json with all "
        "boxes, scores and words.",
    )
    image = ground.add_argument("image", type=Path, metavar="IMAGE", help="an image file")
    caption = ground.add_argument("caption", metavar="CAPTION", help="what to detect")
    # Not nargs="?", which would not take a caption that follows options.
    image.required = caption.required = False
    ground.add_argument(
        "--image",
        dest="images",
        nargs="+",
        action="extend",
        type=Path,
        metavar="PATH",
        help="images, or folders for all of their images; each with every caption",
    )
    ground.add_argument(
        "--caption", dest="captions", nargs="+", action="extend", metavar="TEXT", help="captions"
    )
    ground.add_argument(
        "--pairs",
        type=Path,
        metavar="FILE",
        help="a text file: in each line an image (its path from the file's folder), a tab, and a "
        "caption",
    )
    _add_model_and_threshold(ground)
    ground.add_argument(
        "--output",
        type=local_path,
        metavar="PATH",
        help="of one image: the file to write, which must be new; default: IMAGE's name + "
        ".grounded.png, which is replaced. Else: a folder, new or empty",
    )
    ground.set_defaults(run=_ground)


def _add_play(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    play = commands.add_parser(
        "play",
        help="try images and captions in a web browser",
        description="Serve a page to a web browser on this machine, until Ctrl-C: choose an image, "
        "type a caption, and see what it names.",
    )
    _add_model_and_threshold(play)
    play.add_argument("--port", type=port, default=8000, help="0: any free port (default: 8000)")
    play.add_argument("--images", type=Path, metavar="FOLDER", help="images to choose from")
    play.set_defaults(run=_play)


def _add_model_and_threshold(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="model folder")
    parser.add_argument(
        "--threshold", type=score, default=0.7, metavar="SCORE", help="minimum score; default: 0.7"
    )


def _add_convert(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    convert = commands.add_parser(
        "convert",
        help="convert a published MDETR checkpoint to a model folder",
        description="Convert a published MDETR checkpoint to a model folder with the same outputs. "
        "Nothing in the file is executed.",
    )
    convert.add_argument("checkpoint", type=Path, help=".pth file")
    convert.add_argument("--output", type=local_path, required=True, help="model folder to write")
    convert.add_argument(
        "--weights",
        choices=["model", "model_ema"],
        help="which weights of the file; default: model_ema where it has them",
    )
    convert.add_argument(
        "--tokenizer",
        help="folder or hub name of the RoBERTa tokenizer; needed to write the processor, which "
        "'ground' and 'evaluate' need",
    )
    convert.add_argument(
        "--answers",
        type=Path,
        help="the answer vocabulary of GQA's checkpoints: gqa_answer2id_by_type.json, or "
        "gqa_answer2id.json for the unified head; 'evaluate answering' needs it",
    )
    convert.set_defaults(run=_convert)


# Imports are inside the commands, so that --help does not wait for torch.
def _train(arguments: argparse.Namespace) -> None:
    from mdetr_model.training.config import load_config
    from mdetr_model.training.dry_run import dry_run
    from mdetr_model.training.trainer import train

    config = load_config(arguments.config, arguments.overrides).resolve_paths(arguments.root)
    if arguments.dry_run:
        dry_run(config, arguments.output, arguments.resume)
        return
    train(
        config,
        arguments.output,
        arguments.resume,
        max_minutes=arguments.max_minutes,
        profiled_steps=arguments.profile,
    )


def _evaluate(arguments: argparse.Namespace) -> None:
    if (arguments.task == "lvis") != (arguments.annotations is not None):
        raise UsageError("--annotations is required for lvis, and for no other task")
    if arguments.task == "lvis" and arguments.num_images:
        raise UsageError("--num-images draws captions, but lvis has none")
    if arguments.predictions is not None and arguments.num_images:
        raise UsageError("--num-images draws what a model predicts: use --model")
    if arguments.shards is None and not (arguments.task == "lvis" and arguments.predictions):
        raise UsageError("--shards is required")
    if arguments.task == "lvis" and arguments.precision != "float32":
        raise UsageError("--precision is not for lvis, which is evaluated in float32")
    if arguments.task == "lvis":
        _evaluate_lvis(arguments)
    else:
        _evaluate_captions(arguments)


def _evaluate_lvis(arguments: argparse.Namespace) -> None:
    from mdetr_model.evaluation.evaluate_lvis import evaluate_lvis, evaluate_lvis_predictions

    if arguments.predictions is not None:
        evaluate_lvis_predictions(arguments.predictions, arguments.annotations, arguments.output)
        return
    evaluate_lvis(
        arguments.model,
        arguments.shards,
        arguments.split,
        arguments.annotations,
        arguments.output,
        batch_size=arguments.batch_size,
        workers=arguments.workers,
    )


def _evaluate_captions(arguments: argparse.Namespace) -> None:
    from mdetr_model.evaluation.detectors import is_other_detector
    from mdetr_model.evaluation.evaluate import DETECTOR_TASKS, evaluate, evaluate_detector

    options = {"batch_size": arguments.batch_size, "workers": arguments.workers}
    where = (arguments.shards, arguments.split, arguments.output)
    if arguments.predictions is None and not is_other_detector(arguments.model):
        evaluate(
            arguments.task,
            Path(arguments.model),
            *where,
            **options,
            num_images=arguments.num_images,
            precision=arguments.precision,
        )
        return
    if arguments.task not in DETECTOR_TASKS:
        raise UsageError(f"{arguments.task} evaluates MDETR only, not other detectors or files")
    if arguments.num_images:
        raise UsageError("--num-images draws what MDETR predicts, not other detectors")
    if arguments.precision != "float32":
        raise UsageError("--precision is that of MDETR, not of other detectors")
    evaluate_detector(arguments.task, arguments.predictions or arguments.model, *where, **options)


def _report(arguments: argparse.Namespace) -> None:
    from mdetr_model.report.command import write_report

    write_report(
        arguments.training,
        arguments.shards,
        arguments.split,
        arguments.evaluation,
        arguments.output,
    )


def _ground(arguments: argparse.Namespace) -> None:
    forms = (arguments.image, arguments.images or arguments.captions, arguments.pairs)
    if sum(form is not None for form in forms) != 1:
        raise UsageError("expected IMAGE and CAPTION, or --image and --caption, or --pairs")
    if arguments.image is not None:
        _ground_one(arguments)
    else:
        _ground_several(arguments)


def _ground_one(arguments: argparse.Namespace) -> None:
    from mdetr_model.inference.drawing import draw_objects, save_image
    from mdetr_model.inference.ground import check_caption, format_table, ground
    from mdetr_model.inference.images import image_extensions, open_image
    from mdetr_model.model_folder import read_model

    if arguments.caption is None:
        raise UsageError("expected a caption after IMAGE")
    if arguments.image.is_dir():
        raise UsageError(f"{arguments.image} is a folder: use --image, --caption and --output")
    default = Path(f"{arguments.image.stem}.grounded.png")
    output = arguments.output or default
    if output.suffix.lower() not in image_extensions():
        raise UsageError(f"--output {output}: expected the name of an image file, such as out.png")
    if output.exists() and output.name != default.name:
        raise FileExistsError(f"{output} exists already; remove it, or choose another --output")
    image = open_image(arguments.image)
    model, processor = read_model(arguments.model)
    check_caption(arguments.caption, processor)
    [objects] = ground(image, [arguments.caption], model, processor, arguments.threshold)
    print(format_table(objects))
    save_image(draw_objects(image, arguments.caption, objects), output)
    print(output)


def _ground_several(arguments: argparse.Namespace) -> None:
    from mdetr_model.inference.ground_pairs import ground_pairs
    from mdetr_model.inference.pairs import every_pair, read_pairs

    if arguments.pairs is None and not (arguments.images and arguments.captions):
        raise UsageError("--image and --caption are required together")
    if arguments.output is None:
        raise UsageError("--output FOLDER is required with several images or captions")
    if arguments.pairs is not None:
        pairs = read_pairs(arguments.pairs)
    else:
        pairs = every_pair(arguments.images, arguments.captions)
    ground_pairs(pairs, arguments.model, arguments.threshold, arguments.output)


def _play(arguments: argparse.Namespace) -> None:
    from mdetr_model.inference.play_server import PlayServer

    with PlayServer(
        arguments.model, arguments.images, arguments.threshold, arguments.port
    ) as server:
        server.serve_until_interrupted()


def _convert(arguments: argparse.Namespace) -> None:
    from mdetr_model.conversion.convert import convert

    config = convert(
        arguments.checkpoint,
        arguments.output,
        arguments.weights,
        arguments.tokenizer,
        arguments.answers,
    )
    print(
        f"{arguments.output}: {config.backbone_config.model_type}, "
        f"text encoder of {config.text_config.num_hidden_layers} layers, "
        f"{config.num_queries} queries, {len(config.answer_heads)} answer heads"
    )
    if arguments.tokenizer is None:
        print("No processor was written: 'ground' and 'evaluate' need one, see --tokenizer.")


if __name__ == "__main__":
    sys.exit(main())
