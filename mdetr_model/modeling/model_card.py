"""The card of a model in the hub: what it is, what it was trained on, and its metrics."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from transformers import PreTrainedConfig

# A sentence of the card that transformers uploads where a repository has none.
TEMPLATE_MARK = "This model card has been automatically generated"
PIPELINE = "zero-shot-object-detection"


def model_card(
    config: PreTrainedConfig,
    name: str,
    metrics: Mapping[str, Any] | None = None,
    datasets: Sequence[str] = (),
) -> str:
    """Returns ``README.md`` of a model.

    Args:
        config: of the model.
        name: of the model.
        metrics: numbers by name, nested in any depth, as in ``metrics.json`` of an evaluation.
        datasets: what the model was trained on, by name.
    """
    values = dict(_numbers(metrics or {}))
    evaluated_on = datasets[-1] if datasets else "unknown"
    data = ModelCardData(
        model_name=name,
        library_name="transformers",
        pipeline_tag="visual-question-answering" if config.answer_heads else PIPELINE,
        tags=["mdetr", "phrase-grounding"],
        datasets=None if not datasets else [*datasets],
        eval_results=[
            EvalResult(
                task_type=PIPELINE,
                dataset_type=evaluated_on,
                dataset_name=evaluated_on,
                metric_type=metric,
                metric_value=value,
            )
            for metric, value in values.items()
        ]
        or None,
    )
    lines = [
        "---",
        data.to_yaml(),
        "---",
        "",
        f"# {name}",
        "",
        "MDETR (arXiv 2104.12763): detects the objects that a caption refers to, and the words",
        "that name each of them.",
        "",
        f"Image encoder: {config.backbone_config.model_type}. Text encoder: "
        f"{config.text_config.model_type}, {config.text_config.num_hidden_layers} layers. "
        f"{config.num_queries} object queries.",
        "",
        "## Training data",
        "",
        *([f"- {dataset}" for dataset in datasets] or ["Not stated."]),
        "",
        "## Metrics",
        "",
        *(_table(values) if values else ["Not stated."]),
        "",
    ]
    return "\n".join(lines)


def _numbers(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yields the numbers of nested metrics, with the names on the way to each."""
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name} ")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", value


def _table(values: Mapping[str, float]) -> list[str]:
    rows = [f"| {name} | {value:.4g} |" for name, value in values.items()]
    return ["| metric | value |", "|---|---|", *rows]
