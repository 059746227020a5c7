"""A model and its processor in one folder."""

import shutil
from pathlib import Path

# From the package, which registers all of them also where only a command is run: a processor finds
# its image processor that way.
from mdetr_model import (
    MdetrConfig,
    MdetrForGrounding,
    MdetrForQuestionAnswering,
    MdetrProcessor,
)


def write_model(folder: Path, model: MdetrForGrounding, processor: MdetrProcessor) -> None:
    """Writes both, in place of what the folder may hold: complete, or not at all.

    Raises:
        OSError: the folder cannot be written.
    """
    temporary, old = (folder.with_name(f".{folder.name}.{end}") for end in ("tmp", "old"))
    for left_over in (temporary, old):
        if left_over.exists():
            shutil.rmtree(left_over)
    model.save_pretrained(temporary)
    processor.save_pretrained(temporary)
    if folder.exists():
        folder.replace(old)
    temporary.replace(folder)
    if old.exists():
        shutil.rmtree(old)


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
