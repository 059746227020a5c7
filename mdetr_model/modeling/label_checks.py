"""Labels that lack something are refused by its name."""

from collections.abc import Mapping
from typing import Any


def check_labels(outputs: Any, labels: Mapping[str, Any]) -> None:
    """Raises a ``ValueError`` that names what the outputs have to be compared with and cannot."""
    wanted = ["boxes", "box_mask", "positive_map"]
    if getattr(outputs, "is_final", None) is not None:
        wanted.append("is_final")
    answers = getattr(outputs, "answers", None)
    if answers is not None:
        wanted.append("answers")
    missing = [name for name in wanted if name not in labels]
    if answers is not None and "answers" in labels:
        missing += [f"answers[{head!r}]" for head in answers if head not in labels["answers"]]
    if missing:
        raise ValueError(
            f"labels lack {', '.join(missing)}; this model's losses need {', '.join(wanted)}"
            + (f", the answers of the heads {', '.join(answers)}" if answers else "")
        )
