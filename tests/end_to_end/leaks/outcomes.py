"""The results of trials, and their summary."""

import dataclasses
from collections import Counter


@dataclasses.dataclass
class Outcome:
    """The result of a trial: ``clean``, ``warned``, ``refused: REASON``, or its errors."""

    seed: int
    result: str
    errors: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    excluded: int = 0
    unknowable: int = 0


def summary(outcomes: list[Outcome], show: int) -> list[str]:
    """Returns lines with the number of each result, and the first errors of each kind."""
    lines = [f"{len(outcomes)} recipes from seed {outcomes[0].seed}"]
    results = Counter(outcome.result for outcome in outcomes)
    lines += [f"{count:7} {result}" for result, count in sorted(results.items())]
    excluded = sum(outcome.excluded for outcome in outcomes)
    unknowable = sum(outcome.unknowable for outcome in outcomes)
    lines += [
        f"{excluded:7} captions of held-out images, excluded from train",
        f"{unknowable:7} held-out images in train that no published file links",
        "",
    ]
    kinds = Counter(kind for outcome in outcomes for kind, _ in dict(outcome.errors).items())
    lines.append(f"{kinds.total():7} recipes with errors, by kind")
    for kind, count in kinds.most_common():
        lines.append(f"{count:7} {kind}")
        examples = [
            (outcome.seed, detail)
            for outcome in outcomes
            for kind_of_error, detail in outcome.errors
            if kind_of_error == kind
        ]
        lines += [f"          seed {seed}: {detail}" for seed, detail in examples[:show]]
    return lines
