"""The card that is uploaded with a model."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.errors import EntryNotFoundError

from mdetr_model.modeling.answer_types import UNIFIED_GQA_ANSWER_HEADS
from mdetr_model.modeling.model_card import model_card
from tests.mdetr_model.small import tiny_config, tiny_model

METRICS = {"any-box": {"all": {"recall@1": 0.8333, "recall@5": 1}}, "images": 3, "split": "val"}


class Hub:
    """Records the files that transformers uploads to a repository."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def create_repo(self, repo_id: str, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(repo_id=repo_id)

    def create_commit(self, operations: list[Any], **_: Any) -> str:
        for operation in operations:
            source = operation.path_or_fileobj
            self.files[operation.path_in_repo] = Path(source).read_bytes()
        return "uploaded"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A repository without a card."""
    recorder = Hub()

    def no_card(*_: Any, **__: Any) -> ModelCard:
        raise EntryNotFoundError("no README.md")

    monkeypatch.setattr("transformers.utils.hub.hf_api", lambda: recorder)
    monkeypatch.setattr(ModelCard, "load", no_card)
    return recorder


def test_pushed_model_has_a_card_with_metrics_and_data(hub: Hub) -> None:
    tiny_model().push_to_hub("someone/tiny", metrics=METRICS, datasets=["coco", "vg"])
    assert {"README.md", "config.json", "model.safetensors"} <= hub.files.keys()
    card = ModelCard(hub.files["README.md"].decode())
    assert card.data.datasets == ["coco", "vg"]
    assert card.data.pipeline_tag == "zero-shot-object-detection"
    results = {each.metric_type: each.metric_value for each in card.data.eval_results}
    assert results == {"any-box all recall@1": 0.8333, "any-box all recall@5": 1, "images": 3}
    assert "| any-box all recall@1 | 0.8333 |" in card.text and "- vg" in card.text


def test_pushed_model_without_content_has_a_card(hub: Hub) -> None:
    tiny_model().push_to_hub("someone/tiny")
    card = ModelCard(hub.files["README.md"].decode())
    assert card.data.library_name == "transformers" and "# tiny" in card.text
    assert card.text.count("Not stated.") == 2


def test_card_of_a_repository_is_kept_or_replaced(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModelCard, "load", lambda *_, **__: ModelCard("---\ntags: [a]\n---\nMine."))
    tiny_model().push_to_hub("someone/tiny")
    assert hub.files["README.md"].endswith(b"Mine.")
    tiny_model().push_to_hub("someone/tiny", datasets=["coco"])
    assert b"- coco" in hub.files["README.md"]


def test_card_of_a_model_for_questions() -> None:
    config = tiny_config(answer_heads=UNIFIED_GQA_ANSWER_HEADS)
    card = ModelCard(model_card(config, "gqa"))
    assert card.data.pipeline_tag == "visual-question-answering"
