"""``mdetr-shards audit``: tells whether annotations of any origin train on evaluation images."""

import argparse

from shards.commands.arguments import Subparsers, check_new, local_path


def add_parser(commands: Subparsers) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "audit",
        help="look for evaluation images in annotations of any origin",
        description="Tells which images of an annotation file are in evaluation sets: MDETR JSON, "
        "COCO and LVIS JSON, JSON lines (ODVG), lists of ids or file names, Parquet, WebDataset "
        "tars, and shard sets. The format is recognized by the content.",
        epilog="Exit status: 0 no leaks, 1 leaks, 2 wrong usage or a file that cannot be read. "
        "docs/audit.md describes what is checked, and what cannot be.",
    )
    parser.add_argument(
        "file", metavar="FILE", help="a file, a folder of Parquet files or tars, or a shard set"
    )
    parser.add_argument(
        "--against",
        metavar="NAME=[NAMESPACE:]PATH",
        action="append",
        required=True,
        help="an evaluation set: a shard set (its splits to evaluate on), RefCOCO's refs(*).p, or "
        "any file that can be audited. NAMESPACE (coco, vg, gqa, flickr30k) is the dataset of ids "
        "for which neither the file nor NAME tells it. May be given several times",
    )
    parser.add_argument(
        "--namespace",
        metavar="NAMESPACE",
        default="",
        help="the dataset of the file's ids and file names, where the file does not state it",
    )
    parser.add_argument(
        "--identities",
        metavar="FILE",
        type=local_path,
        help="which images of COCO, Visual Genome and Flickr30k are one photo, as `mdetr-shards "
        "identities` writes it",
    )
    parser.add_argument(
        "--images", metavar="ROOT", type=local_path, help="the folder of the file's images"
    )
    parser.add_argument(
        "--eval-images",
        metavar="ROOT",
        type=local_path,
        action="append",
        default=[],
        help="a folder of images of the evaluation sets: images whose perceptual hashes are near "
        "leak, too. May be given several times",
    )
    parser.add_argument(
        "--output",
        metavar="LEAKS",
        type=local_path,
        help="write a table of the leaks, as .parquet or .json",
    )
    parser.add_argument(
        "--write",
        metavar="CLEAN",
        type=local_path,
        help="write the file without the leaking images, in the same format and order",
    )
    parser.set_defaults(run=run, failure_status=2)


def run(arguments: argparse.Namespace) -> int:
    """Prints the result, and writes what is asked for; returns the exit status."""
    from schemas.image_ids import known_namespace, namespace_of_dataset
    from shards.audit.audit import Audit
    from shards.audit.eval_sets import read_eval_sets
    from shards.audit.files.detection import open_annotation_file
    from shards.audit.files.statements import Reading
    from shards.audit.hashes import HashedImages, ImageFolder
    from shards.audit.identities import read_identities
    from shards.audit.report import check_output, lines, write_leaks
    from shards.garbage_collection import collection_paused
    from shards.terminal import count_noun, printable

    for output in filter(None, (arguments.output, arguments.write)):
        check_new(output)
    if arguments.output is not None:
        check_output(arguments.output)
        if arguments.write is not None and arguments.output.resolve() == arguments.write.resolve():
            raise ValueError("--output and --write name one file: the second would overwrite it")
    namespace = arguments.namespace
    if namespace:
        namespace = namespace_of_dataset(known_namespace(namespace))
    with_images = bool(arguments.eval_images)
    file = open_annotation_file(arguments.file, Reading(namespace, "train", with_images))
    eval_sets = read_eval_sets(arguments.against, with_images=with_images)
    identities = read_identities(arguments.identities) if arguments.identities else ()
    hashes = None
    if arguments.eval_images:
        images = ImageFolder(arguments.images) if arguments.images else None
        hashes = HashedImages(eval_sets, map(ImageFolder, arguments.eval_images), images)
    elif arguments.images:
        raise ValueError("--images is compared with --eval-images: give both")
    audit = Audit(eval_sets, identities, hashes)
    with collection_paused():
        for statement in file.statements():
            audit.add(statement)
        result = audit.result()
    total = result.total
    if not total.images:
        splits = ", ".join(f"{count:,} of {split}" for split, count in result.other_splits.items())
        raise ValueError(
            f"{arguments.file} names no image that is trained on"
            + (f"; its records: {splits[:300]}" if splits else "")
        )
    counts = f"{count_noun(total.images, 'image')}, {count_noun(total.captions, 'caption')}"
    print(f"{printable(arguments.file)}: {file.format}, {counts}\n")
    print("\n".join(lines(result, file.not_read)))
    if hashes is not None:
        for reason, count in sorted(hashes.unusable.items()):
            print(f"not compared by their pixels: {count_noun(count, 'image')}: {reason}")
    if arguments.output is not None:
        write_leaks(result, file.not_read, arguments.output)
    if arguments.write is not None:
        left_out = file.write(arguments.write, result.leaking_records)
        print(f"{printable(str(arguments.write))}: " + ", ".join(left_out))
    return 1 if result.leaking.images else 0
