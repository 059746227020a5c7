"""A model and its processor in one folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers.utils import logging

from mdetr_model.modeling import (
    MdetrConfig,
    MdetrForGrounding,
    MdetrForQuestionAnswering,
    MdetrProcessor,
)
from mdetr_model.pretrained_files import check_is_mdetr, pretrained_files
from shards.atomic_folder import atomic_folder
from shards.terminal import listed


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
    """Reads a model to evaluate, with folded batch norms, and its processor.

    Raises:
        OSError: there is no such folder, or it lacks a model or its processor.
        ValueError: one of its files is damaged, or of another model.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    if not (folder / "processor_config.json").is_file():
        if (folder / "model").is_dir():
            raise FileNotFoundError(f"{folder} is no model; did you mean {folder / 'model'}?")
        raise FileNotFoundError(
            f"{folder} has no processor; convert the checkpoint with --tokenizer to write one"
        )
    with pretrained_files(folder), _without_progress_bar():
        check_is_mdetr(folder)
        processor = MdetrProcessor.from_pretrained(folder)
        answer_heads = MdetrConfig.from_pretrained(folder).answer_heads
        model_class = MdetrForQuestionAnswering if answer_heads else MdetrForGrounding
        model, info = model_class.from_pretrained(folder, output_loading_info=True)
        if info["missing_keys"]:
            raise ValueError(f"the weights lack {listed(sorted(info['missing_keys']))}")
        model.fold_frozen_batch_norms()
        return model, processor


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """Hides transformers' bar of the weights, which are on this machine and load in seconds."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
