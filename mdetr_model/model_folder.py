"""A model and its processor in one folder."""

from pathlib import Path

from mdetr_model.modeling import (
    MdetrConfig,
    MdetrForGrounding,
    MdetrForQuestionAnswering,
    MdetrProcessor,
)
from shards.atomic_folder import atomic_folder


def write_model(folder: Path, model: MdetrForGrounding, processor: MdetrProcessor | None) -> None:
    """Writes both atomically; replaces a folder that this function wrote.

    transformers does not write into ``folder``: it would delete other models' weights from it.

    Raises:
        FileExistsError: the folder has files that this function did not write.
        OSError: the folder cannot be written.
    """
    with atomic_folder(folder, replace=True) as temporary:
        model.save_pretrained(temporary)
        if processor is not None:
            processor.save_pretrained(temporary)


def read_model(folder: Path) -> tuple[MdetrForGrounding, MdetrProcessor]:
    """Reads a model, in evaluation mode, and its processor.

    Raises:
        OSError: there is no such folder, or it lacks a model or its processor.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    if not (folder / "processor_config.json").is_file():
        raise FileNotFoundError(
            f"{folder} has no processor; convert the checkpoint with --tokenizer to write one"
        )
    processor = MdetrProcessor.from_pretrained(folder)
    answer_heads = MdetrConfig.from_pretrained(folder).answer_heads
    model_class = MdetrForQuestionAnswering if answer_heads else MdetrForGrounding
    return model_class.from_pretrained(folder).eval(), processor
