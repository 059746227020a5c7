"""Images, records and files that are in a set twice: checks of parts of small sets."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas import Caption, Provenance, Question, Sample
from shards.format.manifest import SameFile
from shards.reading.shard_set import ShardSet
from shards.verification.datasets import Datasets, datasets_of
from shards.verification.errors import ErrorKind, VerificationError
from shards.verification.identity_checks import (
    SampleFacts,
    check_answers,
    check_file_names,
    check_image_files,
    check_records,
    not_checked,
)
from shards.verification.recipe import RecipeRequirements
from shards.verification.set_checks import IndexedShard
from tests.shard_sets import write_samples

CLOSED = datasets_of({"vg": {}, "gqa": {}, "coco": {"refs": {"refcoco": ""}}}, ())
OPEN = datasets_of({"mdetr_json": {}, "vg": {}}, ())


def sample(key: str, file: str = "", records: Sequence[str] = (), answer: Any = None) -> Sample:
    """Returns an image with a question about each record; ``answer`` is that of all."""
    captions = [
        Caption("a", [], [], [Provenance("gqa", record, (0, 1))], question=Question("1", answer))
        for record in records
    ]
    return Sample(key, 9, 9, file or f"{key}.jpg", captions)


class SmallSet:
    """A shard with some samples for each split; splits that begin with "train" are trained on."""

    def __init__(self, folder: Path, **samples: Sequence[Sample]) -> None:
        write_samples(folder, [[(s, None) for s in of_split] for of_split in samples.values()])
        self.shards = ShardSet.open(folder)
        manifest = self.shards.manifest
        roles = {split: "train" if split.startswith("train") else "eval" for split in samples}
        manifest.roles = roles  # type: ignore[assignment]
        for entry, split in zip(manifest.shards, samples, strict=True):
            entry.split = split
        self.facts: dict[int, SampleFacts] = {}
        self.indexed: dict[int, IndexedShard] = {}
        for shard, of_split in enumerate(samples.values()):
            self.facts[shard] = SampleFacts.empty()
            for row, each in enumerate(of_split):
                self.facts[shard].add(each, row, CLOSED)
            self.indexed[shard] = IndexedShard([each.key for each in of_split], 0, 0)

    def set_files(self, *files: Sequence[int]) -> None:
        """Sets the files of the images of each shard, as CRC-32 and size in one number."""
        for shard, of_shard in enumerate(files):
            of_images = np.array(of_shard, np.uint64)
            self.indexed[shard] = self.indexed[shard]._replace(files=of_images)

    def image_files(
        self, datasets: Datasets | None = CLOSED, joins_photos: bool = True
    ) -> list[tuple[str, str, str]]:
        requirements = RecipeRequirements(self.shards.manifest)
        requirements.datasets = datasets
        if joins_photos:
            rules = type("Rules", (), {"same_photo": True})
            requirements._recipe = type("Recipe", (), {"rules": rules})  # type: ignore[assignment]
        return texts(check_image_files(self.shards, self.indexed, requirements))


def texts(errors: Any) -> list[tuple[str, str, str]]:
    listed: list[VerificationError] = list(errors)
    names = {kind: kind.name for kind in ErrorKind}
    return [(names[error.kind], error.key, error.message) for error in listed]


def keys(*numbers: int, namespace: str = "vg") -> list[Sample]:
    return [sample(f"{namespace}/{number}") for number in numbers]


# --- facts of samples -----------------------------------------------------------------------------


def test_facts_of_a_sample() -> None:
    facts = SampleFacts.empty()
    question = sample("vg/8", "8.jpg", ["1", "2"], answer="yes")
    question.captions.append(Caption("a", [], [], [], question=Question("3", "no")))
    question.captions.append(Caption("a", [], [], [Provenance("vg", "1", (0, 1))]))
    facts.add(question, 5, CLOSED)
    facts.add(sample("vg/9", "a/8.jpg", ["1"]), 6, CLOSED)
    assert facts.answers == Counter({("gqa", True): 2, ("gqa", False): 1})
    assert (facts.record_rows.tolist(), facts.file_rows.tolist()) == ([5, 5, 5, 6], [5, 6])
    one, _, _, again = facts.records
    assert one == again
    assert len(set(facts.records)) == 3
    assert len(set(facts.files)) == 2
    assert facts.are_named.tolist() == [1, 0]


@pytest.mark.parametrize("datasets", [None, OPEN])
def test_no_facts_where_any_source_may_state_them(datasets: Datasets | None) -> None:
    facts = SampleFacts.empty()
    facts.add(sample("vg/8", "8.jpg", ["1"]), 0, datasets)
    assert facts == SampleFacts.empty()


# --- files of images ------------------------------------------------------------------------------


def test_one_file_in_splits_of_both_roles_is_a_leak(tmp_path: Path) -> None:
    small = SmallSet(tmp_path, train=keys(1, 2, 3), val=keys(4, 3, 5), test=keys(6))
    small.set_files([7, 8, 9], [7, 9, 0], [8])
    leaks = [
        ("LEAK", "vg/1", "its file is that of vg/4 of val"),
        ("LEAK", "vg/2", "its file is that of vg/6 of test"),
    ]
    for datasets in (None, OPEN):
        assert small.image_files(datasets) == leaks
    same = [("SAME_BYTES", f"vg/{a}", f"its file is that of vg/{b}") for a, b in ((4, 1), (6, 2))]
    assert small.image_files() == [leaks[0], same[0], leaks[1], same[1]]


def test_one_file_within_a_role(tmp_path: Path) -> None:
    """An error for images of one dataset, of several only where photos are joined."""
    small = SmallSet(tmp_path, train=[*keys(1, 2, 3), *keys(4, namespace="coco")], train2=keys(5))
    small.set_files([7, 0, 7, 7], [0])
    of_vg = ("SAME_BYTES", "vg/3", "its file is that of vg/1")
    of_coco = ("SAME_BYTES", "coco/4", "its file is that of vg/1")
    assert small.image_files() == [of_vg, of_coco]
    assert small.image_files(joins_photos=False) == [of_vg]
    assert small.image_files(OPEN) == small.image_files(None) == []


@pytest.mark.parametrize(
    ("stated", "is_whole", "with_errors"),
    [
        (2, True, []),
        (2, False, []),
        (1, True, ["vg/2"]),
        (1, False, ["vg/2"]),
        (3, True, ["vg/2"]),
        (3, False, []),  # the third may be in the shard whose index cannot be read
    ],
)
def test_files_that_the_manifest_states(
    stated: int, is_whole: bool, with_errors: list[str], tmp_path: Path
) -> None:
    small = SmallSet(tmp_path, train=keys(1, 2, 3), train2=keys(4))
    small.set_files([7, 7, 9], [5])
    small.shards.manifest.same_files = [SameFile(0, 7, stated)]
    if not is_whole:
        del small.indexed[1]
    assert [key for _, key, _ in small.image_files()] == with_errors
    [message] = not_checked(small.shards, small.indexed)
    assert message.startswith("whether 2 images are different ones")
    assert message.endswith("(vg/1, vg/2)")


@pytest.mark.parametrize("is_whole", [True, False])
def test_file_that_only_the_manifest_has(is_whole: bool, tmp_path: Path) -> None:
    small = SmallSet(tmp_path, train=keys(1, 2), train2=keys(3))
    small.set_files([7, 0xAB << 32 | 9], [0])  # of a single image
    small.shards.manifest.same_files = [SameFile(0xAB, 9, 2)]
    if not is_whole:
        del small.indexed[1]
    message = "it states that 2 images have one file, with the CRC-32 000000ab"
    assert small.image_files() == [("SAME_BYTES", "", message)] * is_whole
    small.set_files([7, 8], *[[0]] * is_whole)
    assert list(not_checked(small.shards, small.indexed)) == []
    small.indexed.clear()
    assert small.image_files() == []


# --- records, names of files, answers -------------------------------------------------------------


def test_record_in_several_images(tmp_path: Path) -> None:
    """Not the same image in two evaluation splits, which have the same records."""
    train = [sample("vg/1", records=["1", "2"]), sample("vg/2", records=["3"])]
    val = [sample("vg/3"), sample("vg/4", records=["2", "4", "0"]), sample("vg/5", records=["5"])]
    test = [sample("vg/5", records=["5"]), sample("vg/6", records=["3", "4"])]
    small = SmallSet(tmp_path, train=train, val=val, test=test)
    file = [entry.file for entry in small.shards.shards]
    expected = {
        ("RECORD", "vg/4", f"gqa/2 is in vg/1 of {file[0]} too"),
        ("RECORD", "vg/6", f"gqa/3 is in vg/2 of {file[0]} too"),
        ("RECORD", "vg/6", f"gqa/4 is in vg/4 of {file[1]} too"),
    }
    errors = texts(check_records(small.shards, small.indexed, small.facts))
    assert len(errors) == 3 and set(errors) == expected
    many = [sample(key, records=list("hcagbdfe")) for key in ("vg/1", "vg/2")]
    small = SmallSet(tmp_path, train=many)
    for _, key, message in texts(check_records(small.shards, small.indexed, small.facts)):
        assert (key, message.partition(" ")[0]) == ("vg/2", "gqa/a")
    small = SmallSet(tmp_path, train=train, val=val, test=test)
    (tmp_path / file[0]).unlink()
    errors = texts(check_records(small.shards, small.indexed, small.facts))
    assert ("RECORD", "vg/4", f"a record is in vg/1 of {file[0]} too") in errors


def test_name_of_a_file_of_several_images(tmp_path: Path) -> None:
    train = [sample("vg/1", "1.jpg"), sample("vg/2", "1.jpg"), sample("coco/3", "x.jpg")]
    val = [sample("vg/1", "1.jpg"), sample("coco/4", "x.jpg"), sample("vg/5", "y.jpg")]
    small = SmallSet(tmp_path, train=train, val=val)
    errors = texts(check_file_names(small.shards, small.indexed, small.facts))
    assert sorted(errors) == [
        ("FILE_NAME", "coco/4", "coco/3 states the same file"),
        ("FILE_NAME", "vg/2", "vg/1 states the same file"),
    ]
    small = SmallSet(tmp_path / "other", train=[train[1], train[0]])
    errors = texts(check_file_names(small.shards, small.indexed, small.facts))
    assert errors == [("FILE_NAME", "vg/2", "vg/1 states the same file")]


@pytest.mark.parametrize(("named", "is_error"), [(0, False), (1, False), (2, True)])
def test_published_name_of_another_namespace(named: int, is_error: bool, tmp_path: Path) -> None:
    """It is an error of an image of COCO where most of COCO's images have published names."""
    published = [sample(f"coco/{i}", f"{i:012d}.jpg") for i in range(20, 20 + named)]
    small = SmallSet(
        tmp_path, train=[sample("coco/8", "9.jpg"), *published], val=[sample("vg/9", "9.jpg")]
    )
    errors = texts(check_file_names(small.shards, small.indexed, small.facts))
    assert errors == [("FILE_NAME", "coco/8", "vg/9 states the same file")] * is_error
    unnamed = [sample("vg/9", "x.jpg"), sample("coco/8", "x.jpg"), *published]
    small = SmallSet(tmp_path / "x", train=unnamed)
    assert texts(check_file_names(small.shards, small.indexed, small.facts)) == []
    both = SmallSet(tmp_path / "b", val=[sample("vg/9", "9.jpg")], test=keys(9, namespace="coco"))
    both.facts[1] = both.facts[0]
    assert texts(check_file_names(both.shards, both.indexed, both.facts)) == []


@pytest.mark.parametrize(
    ("split", "answers", "message"),
    [
        ("val", [None, None], ""),
        ("val", ["yes", "no"], ""),
        ("val", [None, "yes"], "1 of 2 questions of gqa in val lack an answer"),
        ("train", ["yes", "no"], ""),
        ("train", [None, None], "2 of 2 questions of gqa in train lack an answer"),
    ],
)
def test_questions_that_lack_an_answer(
    split: str, answers: list[Any], message: str, tmp_path: Path
) -> None:
    """Those of all shards of a split are counted together."""
    samples = {
        name: [sample(f"vg/{i}", records=[str(i)], answer=answer)]
        for i, (name, answer) in enumerate(zip(("train", "train2"), answers, strict=True))
    }
    small = SmallSet(tmp_path, **samples)
    for entry in small.shards.shards:
        entry.split = split
    small.shards.manifest.roles = {split: "train" if split == "train" else "eval"}
    errors = texts(check_answers(small.shards, small.facts))
    assert errors == ([("QUESTION", "", message)] if message else [])
    datasets = list("hcagbdfe")
    small.facts = {0: SampleFacts.empty()._replace(answers=Counter())}
    for dataset in datasets:
        small.facts[0].answers[dataset, False] = small.facts[0].answers[dataset, True] = 1
    order = [
        message.split()[5] for _, _, message in texts(check_answers(small.shards, small.facts))
    ]
    assert order == sorted(datasets)
