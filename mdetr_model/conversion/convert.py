"""Conversion of a published MDETR checkpoint to a model folder with the same outputs."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import RobertaTokenizerFast

from mdetr_model.conversion.configuration import config_from_checkpoint
from mdetr_model.conversion.key_mapping import convert_state_dict
from mdetr_model.conversion.published_checkpoint import (
    MAX_LISTED_NAMES,
    CheckpointError,
    listed,
    read_checkpoint,
)
from mdetr_model.data.answers import CLEVR, read_answers
from mdetr_model.model_folder import write_model
from mdetr_model.modeling import (
    MdetrConfig,
    MdetrForGrounding,
    MdetrForQuestionAnswering,
    MdetrImageProcessor,
    MdetrProcessor,
)
from shards import written_files


def convert(
    checkpoint: Path,
    output: Path,
    weights: str | None = None,
    tokenizer: str | None = None,
    answers: Path | None = None,
) -> MdetrConfig:
    """Writes the model of a published checkpoint to the folder ``output``.

    Args:
        checkpoint: a ``.pth`` file as the published training program writes it.
        output: receives ``config.json`` and ``model.safetensors``; new, empty, or written by this
            function.
        weights: "model" or "model_ema"; default: "model_ema" if the file has it, as in the
            published evaluation.
        tokenizer: folder or hub name of the RoBERTa tokenizer, which the checkpoint lacks; with it,
            the processor is written to ``output`` too.
        answers: the file of the answers of GQA's heads; see ``read_answers``.

    Returns:
        The configuration, as inferred from the file.

    Raises:
        CheckpointError: the file is not a checkpoint of MDETR; states what was expected and found.
        ValueError: the answers are not those of the checkpoint's heads.
        OSError: a file or the tokenizer cannot be read, or the output has files of others.
    """
    written_files.check_all(output)  # before the weights are read
    published, options = read_checkpoint(checkpoint, weights)
    config = config_from_checkpoint(published, options)
    config.answers = _answers(config, answers)
    # On the meta device, without memory for weights: the published ones are assigned.
    with torch.device("meta"):
        model = (MdetrForQuestionAnswering if config.answer_heads else MdetrForGrounding)(config)
    state = convert_state_dict(published, [head for head, _ in config.answer_heads])
    _check_tensors(state, model.state_dict())
    processor = None
    if tokenizer is not None:
        tokenizer_fast = RobertaTokenizerFast.from_pretrained(tokenizer)
        processor = MdetrProcessor(MdetrImageProcessor(), tokenizer_fast)
    model.load_state_dict(state, assign=True)
    write_model(output, model, processor)
    return config


def _answers(config: MdetrConfig, path: Path | None) -> dict[str, list[str]] | None:
    """Returns the answers of a file; without one, CLEVR's if the model has its heads."""
    heads = sorted(config.answer_heads)
    if path is not None:
        vocabulary = read_answers(path)
        if sorted(vocabulary.heads) != heads:
            raise ValueError(f"{path} is for the heads {vocabulary.heads}, the model has {heads}")
        return vocabulary.names
    return CLEVR.names if heads == sorted(CLEVR.heads) else None


def _check_tensors(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raises a ``CheckpointError`` unless names, shapes and types are those of the model."""
    problems = []
    if missing := sorted(expected.keys() - state.keys()):
        problems.append(f"missing tensors: {listed(missing)}")
    if unexpected := sorted(state.keys() - expected.keys()):
        problems.append(f"unexpected tensors: {listed(unexpected)}")
    for name in sorted(expected.keys() & state.keys()):
        if not state[name].is_floating_point():
            problems.append(f"{name} is of {state[name].dtype}")
        if state[name].shape != expected[name].shape:
            shape, expected_shape = tuple(state[name].shape), tuple(expected[name].shape)
            problems.append(f"{name} has shape {shape}, expected {expected_shape}")
    if problems:
        raise CheckpointError("\n".join(problems[:MAX_LISTED_NAMES]))
