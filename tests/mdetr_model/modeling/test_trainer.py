"""transformers' Trainer trains, evaluates and resumes a model, in one process and in two."""

import json
import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from PIL import Image
from torch.utils.data import Dataset
from transformers import EvalPrediction, RobertaTokenizer, Trainer, TrainingArguments

from mdetr_model.modeling.image_processing_mdetr import MdetrImageProcessor
from mdetr_model.modeling.modeling_mdetr import MdetrForGrounding, MdetrForQuestionAnswering
from mdetr_model.modeling.processing_mdetr import MdetrProcessor
from tests.mdetr_model.small import TEXT, tiny_model

CAPTIONS = ("a cat", "two dogs on a red sofa", "a man", "x")
BOXES = [0, 1, 2, 3, 0, 1, 2]


def tiny_processor() -> MdetrProcessor:
    letters = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "Ġ", *"abcdefghijklmnopqrstuvwxyz"]
    tokenizer = RobertaTokenizer(vocab={word: i for i, word in enumerate(letters)}, merges=[])
    return MdetrProcessor(
        MdetrImageProcessor(size={"shortest_edge": 32, "longest_edge": 64}), tokenizer
    )


class Pairs(Dataset[dict[str, Any]]):
    """Images of several sizes, with captions that have 0 to 3 boxes."""

    def __len__(self) -> int:
        return len(BOXES)

    def __getitem__(self, index: int) -> dict[str, Any]:
        pixels = np.random.default_rng(index).integers(0, 255, (50, 40 + 9 * index, 3), np.uint8)
        text = CAPTIONS[index % 4]
        return {
            "image": Image.fromarray(pixels),
            "text": text,
            "boxes": [(2, 3, 20 + box, 30) for box in range(BOXES[index])],
            "spans": [[(0, len(text))]] * BOXES[index],
        }


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    images, texts = ([sample[name] for sample in samples] for name in ("image", "text"))
    processor = tiny_processor()
    labels = processor.make_labels(
        texts,
        [sample["spans"] for sample in samples],
        [sample["boxes"] for sample in samples],
        [(image.height, image.width) for image in images],
    )
    return {**processor(images=images, text=texts, return_tensors="pt"), "labels": labels}


def trainer(
    model: MdetrForGrounding, folder: Path, evaluations: list[EvalPrediction], **options: Any
) -> Trainer:
    def compute_metrics(evaluation: EvalPrediction) -> dict[str, float]:
        evaluations.append(evaluation)
        return {}

    arguments = TrainingArguments(
        str(folder),
        per_device_train_batch_size=2,
        per_device_eval_batch_size=2,
        report_to=[],
        remove_unused_columns=False,
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        save_steps=2,
        **options,
    )
    return Trainer(
        model,
        arguments,
        train_dataset=Pairs(),
        eval_dataset=Pairs(),
        data_collator=collate,
        compute_metrics=compute_metrics,
    )


def train_resume_and_evaluate(folder: Path) -> dict[str, Any]:
    evaluations: list[EvalPrediction] = []
    model = tiny_model(grid_loss_coef=1.0, word_loss_coef=1.0)
    trainer(model, folder, evaluations, max_steps=2).train()
    resumed = trainer(
        tiny_model(grid_loss_coef=1.0, word_loss_coef=1.0), folder, evaluations, max_steps=3
    )
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 3
    loss = resumed.evaluate()["eval_loss"]
    [evaluation] = evaluations
    labels: Any = evaluation.label_ids
    return {
        "boxes": (labels["box_mask"] == 1).sum(1).tolist(),
        "boxes_not_padded": (labels["boxes"] >= 0).all(-1).sum(1).tolist(),
        "named_boxes": (labels["positive_map"] > 0).any(-1).sum(1).tolist(),
        "rows": [len(values) for values in evaluation.predictions],
        "loss": loss,
    }


def check(result: dict[str, Any]) -> None:
    assert result["boxes"] == result["boxes_not_padded"] == result["named_boxes"] == BOXES
    assert result["rows"] and set(result["rows"]) == {len(BOXES)}
    assert np.isfinite(result["loss"])


def test_trainer_of_one_process_keeps_the_boxes_of_each_caption(tmp_path: Path) -> None:
    check(train_resume_and_evaluate(tmp_path))


def _rank(rank: int, folder: str, port: int) -> None:
    from accelerate.state import AcceleratorState, PartialState

    torch.set_num_threads(1)
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState._reset_state()
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    result = train_resume_and_evaluate(Path(folder))
    if rank == 0:
        Path(folder, "result.json").write_text(json.dumps(result))
    torch.distributed.destroy_process_group()


def test_trainer_of_two_processes_keeps_the_boxes_of_each_caption(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    mp.start_processes(_rank, args=(str(tmp_path), port), nprocs=2, start_method="fork")
    check(json.loads((tmp_path / "result.json").read_text()))


def test_predictions_of_a_trainer_are_post_processed(tmp_path: Path) -> None:
    model = tiny_model()
    predictions: Any = trainer(model, tmp_path, []).predict(Pairs()).predictions  # type: ignore[arg-type]
    names = ("logits", "pred_boxes", "proj_queries", "proj_tokens", "input_ids")
    outputs = SimpleNamespace(**dict(zip(names, predictions, strict=True)))
    results = tiny_processor().post_process_grounded_object_detection(outputs, 0, text_threshold=0)
    assert len(results) == len(BOXES)
    texts = [CAPTIONS[index % 4] for index in range(len(BOXES))]
    for result, text in zip(results, texts, strict=True):
        assert set(result["text_labels"]) == {text}


def _lone_rank(rank: int, folder: str) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    if rank == 0:
        batch = collate([Pairs()[1], Pairs()[2]])
        Path(folder, "loss").write_text(str(tiny_model()(**batch).loss.item()))
    torch.distributed.destroy_process_group()


def test_one_rank_can_compute_losses_for_evaluation(tmp_path: Path) -> None:
    mp.start_processes(_lone_rank, args=(str(tmp_path),), nprocs=2, start_method="fork")
    loss = tiny_model()(**collate([Pairs()[1], Pairs()[2]])).loss.item()
    assert float((tmp_path / "loss").read_text()) == pytest.approx(loss, abs=1e-6)


@pytest.mark.parametrize("kind", [MdetrForGrounding, MdetrForQuestionAnswering])
def test_every_output_has_a_row_for_each_caption_or_is_ignored(kind: type) -> None:
    model = tiny_model(kind, grid_loss_coef=1.0, word_loss_coef=1.0, answer_heads=[("total", 3)])
    batch = collate([Pairs()[1], Pairs()[2], Pairs()[3]])
    if kind is MdetrForQuestionAnswering:
        batch["labels"]["answers"] = {"total": torch.zeros(3, dtype=torch.long)}
    outputs = model(**batch, output_attentions=True, output_hidden_states=True)
    ignored = set(model.config.keys_to_ignore_at_inference)
    assert ignored & outputs.keys() >= {"layer_logits", "loss_dict", "grid_mask"}
    for name in outputs.keys() - ignored - {"loss"}:
        values = outputs[name].values() if isinstance(outputs[name], dict) else [outputs[name]]
        assert all(len(value) == 3 for value in values), name


assert TEXT["vocab_size"] >= 32  # the letters of `tiny_processor`
