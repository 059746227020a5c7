"""A model and its processor in one folder."""

from pathlib import Path

# From the package, which registers all of them also where only a command is run: a processor finds
# its image processor that way.
from mdetr_model import (
    MdetrConfig,
    MdetrForGrounding,
    MdetrForQuestionAnswering,
    MdetrProcessor,
)
from shards.atomic import atomic_folder


def write_model(folder: Path, model: MdetrForGrounding, processor: MdetrProcessor) -> None:
    """Writes both, in place of what the folder may hold: complete, or not at all.

    Raises:
        OSError: the folder cannot be written.
    """
    with atomic_folder(folder, overwrite=True) as temporary:
        model.save_pretrained(temporary)
        processor.save_pretrained(temporary)


def read_model(folder: Path) -> tuple[MdetrForGrounding, MdetrProcessor]:
    """The model of a folder, for evaluation, and its processor.

    Raises:
        OSError: there is no such folder, or it lacks a model or its processor.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    if not (folder / "processor_config.json").is_file():
        raise FileNotFoundError(
            f"{folder} has no processor; convert a checkpoint with --tokenizer to have one"
        )
    processor = MdetrProcessor.from_pretrained(folder)
    answers = MdetrConfig.from_pretrained(folder).answer_heads
    kind = MdetrForQuestionAnswering if answers else MdetrForGrounding
    return kind.from_pretrained(folder).eval(), processor
