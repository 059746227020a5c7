"""Random audits: every planted leak is found, none is invented, and a clean file is clean.

``python -m tests.shards.audit.test_random_audits --cases 1000`` runs more of them.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from shards.__main__ import main
from shards.audit.audit import Audit, AuditResult
from shards.audit.eval_sets import read_eval_sets
from shards.audit.files.detection import open_annotation_file
from shards.audit.files.statements import Reading
from shards.audit.hashes import HashedImages, ImageFolder
from shards.audit.identities import read_identities
from tests.shards.audit.cases import Case, make_case


@pytest.mark.parametrize("first", range(0, 120, 20))
def test_planted_leaks_are_found_and_none_is_invented(first: int, tmp_path: Path) -> None:
    for seed in range(first, first + 20):
        check(seed, tmp_path)


def check(seed: int, parent: Path) -> None:
    folder = parent / str(seed)
    folder.mkdir()
    case = make_case(seed, folder)
    output, clean = folder / "leaks.json", folder / "clean"
    arguments = ["audit", str(case.file), *case.options]
    status = main([*arguments, "--output", str(output), "--write", str(clean)])
    result = json.loads(output.read_text())
    leaks = {(x["image"], x["eval_set"], x["eval_image"], x["join"]) for x in result["leaks"]}
    assert leaks == case.leaks, seed
    leaking = {name for name, *_ in leaks}
    assert status == (1 if leaking else 0), seed
    _check_counts(case, result, leaking)
    _check_missed(case, leaks)
    _check_sets_of_several_datasets(case, {entry.name for entry in case.entries})
    remaining = [entry.record for entry in case.entries if entry.name not in leaking]
    if remaining and case.records is not None:
        written = case.records(clean)
        assert written == _as_read(case, remaining), seed
        assert main(["audit", str(clean), *case.options]) == 0, seed


def _as_read(case: Case, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not case.format.startswith("parquet"):
        return records
    return [{k: str(v) for k, v in record.items() if v is not None} for record in records]


def _check_counts(case: Case, result: dict[str, Any], leaking: set[str]) -> None:
    names = {entry.name for entry in case.entries}
    assert result["total"]["images"] == len(names)
    assert result["leaking"]["images"] == len(leaking)
    parts = [result[part] for part in ("leaking", "clean", "not_checked")]
    assert {k: sum(part[k] for part in parts) for k in result["total"]} == result["total"]
    for counts in result["eval_sets"].values():
        parts = [*counts["leaking"].values(), counts["clean"], *counts["not_checked"]]
        assert sum(part["images"] for part in parts) == len(names)
        assert sum(part["captions"] for part in parts) == result["total"]["captions"]


def _check_missed(case: Case, leaks: set[tuple[str, str, str, str]]) -> None:
    """Checks that an image that is in a set, but is not found there, is not called clean."""
    for name, not_clean in case.not_clean.items():
        missed = not_clean - {image for image, eval_set, *_ in leaks if eval_set == name}
        assert audit(case, missed).sets[name].clean.images == 0


def _check_sets_of_several_datasets(case: Case, names: set[str]) -> None:
    """Checks that one set of all evaluation images is checked like a set for each dataset."""
    pairs = zip(case.options, case.options[1:], strict=False)
    locations = [value.partition("=")[2] for option, value in pairs if option == "--against"]
    by_dataset = audit(case, names, [f"{x.partition(':')[0]}={x}" for x in locations])
    as_one = audit(case, names, [f"all={location}" for location in locations])
    assert as_one.clean == by_dataset.clean
    assert as_one.leaking == by_dataset.leaking


def audit(case: Case, names: set[str], against: list[str] | None = None) -> AuditResult:
    """Returns the result of an audit of some images of a file, maybe against other sets."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--against", action="append")
    parser.add_argument("--namespace", default="")
    parser.add_argument("--identities", type=Path)
    parser.add_argument("--eval-images", type=Path)
    options = parser.parse_args(case.options)
    identities = read_identities(options.identities) if options.identities else ()
    eval_sets = read_eval_sets(against or options.against)
    hashes = None
    if options.eval_images:
        hashes = HashedImages(eval_sets, [ImageFolder(options.eval_images)])
    audit = Audit(eval_sets, identities, hashes)
    reading = Reading(options.namespace, with_images=hashes is not None)
    for statement in open_annotation_file(str(case.file), reading).statements():
        if statement.name in names:
            audit.add(statement)
    return audit.result()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    with tempfile.TemporaryDirectory() as parent:
        for seed in range(parser.parse_args().cases):
            check(seed, Path(parent))
