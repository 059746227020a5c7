"""Measures parsing, and compares parses with those of spaCy.

    python benchmarks/parsing.py time                    # CPU time of a token, before and after
    python benchmarks/parsing.py check --texts 500000    # differences, of phrases and variations

Both read the phrases of Visual Genome in the raw files of ``MDETR_REFERENCE`` (default
``../shared``). Variations are phrases with words replaced, removed, inserted and exchanged, and
phrases in a row. *Before* is the same program with the networks as spaCy computes them.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when numpy is imported

import gc
import json
import random
import statistics
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.captions.arc_eager import best_and_lead
from pipelines.captions.networks import Prediction
from pipelines.captions.parsing import BATCH_SIZE, Parse, _Model

REPOSITORY = Path(__file__).resolve().parent.parent
REFERENCE = Path(os.environ.get("MDETR_REFERENCE", REPOSITORY.parent / "shared"))
MARKS = [*".,;:!?'\"-()/", "...", "'s", "n't"]
RULES = ["attribute_ruler", "lemmatizer"]


def phrases() -> list[str]:
    """Returns the distinct phrases of Visual Genome in the reference's raw files, shuffled."""
    with tarfile.open(REFERENCE / "golden/mixed/raw.tar.xz") as tar:
        member = next(m for m in tar.getmembers() if m.name.endswith("region_graphs.json"))
        file = tar.extractfile(member)
        assert file is not None
        images = json.load(file)
    distinct = sorted({region["phrase"] for image in images for region in image["regions"]})
    random.Random(0).shuffle(distinct)
    return distinct


def variation(texts: list[str], words: list[str], source: random.Random) -> str:
    """Returns a random text with one to three changes."""
    chosen = source.choice(texts).split() or source.choices(words, k=3)
    for _ in range(source.randint(1, 3)):
        place = source.randrange(len(chosen))
        other = source.randrange(len(chosen))
        change = source.randrange(7)
        if change == 0:
            chosen[place] = source.choice(words)
        elif change == 1:
            chosen.insert(place, source.choice(words))
        elif change == 2 and len(chosen) > 1:
            del chosen[place]
        elif change == 3:
            chosen[place], chosen[other] = chosen[other], chosen[place]
        elif change == 4:
            chosen += source.choice(texts).split()
        elif change == 5:
            chosen[place] += source.choice(MARKS)
        else:
            chosen[place] = source.choice((str.upper, str.title, str.lower))(chosen[place])
    return source.choice((" ", " ", " ", "  ")).join(chosen)


def by_spacy(model: _Model, texts: list[str]) -> Iterator[Parse]:
    """Yields parses with predictions of spaCy, in batches."""
    docs = map(model._nlp.make_doc, texts)
    for doc in model._nlp.pipe(docs, batch_size=256, disable=RULES):
        columns = doc.to_array(["ORTH", "IDX", "TAG", "DEP", "HEAD"]).T
        columns[4] += np.arange(len(doc), dtype=np.uint64)  # offsets, modulo 2**64
        yield from model._to_parses([doc], [Prediction(*columns.tolist())])


def steps(model: _Model, texts: list[str]) -> dict[str, Callable[[], object]]:
    """Returns what is measured: each part, given the results of those before it, and all."""
    nlp, networks = model._nlp, model._networks
    # As the parser gets them.
    batches = [texts[first : first + BATCH_SIZE] for first in range(0, len(texts), BATCH_SIZE)]
    docs = [[nlp.make_doc(text) for text in batch] for batch in batches]
    small = [batch[first : first + 256] for batch in docs for first in range(0, len(batch), 256)]
    for batch in small:
        nlp.get_pipe("tok2vec").set_annotations(batch, nlp.get_pipe("tok2vec").predict(batch))
    lengths = [np.array([len(doc) for doc in batch]) for batch in docs]
    forms = [
        [(t.orth, t.norm, bool(t.whitespace_)) for doc in batch for t in doc] for batch in docs
    ]
    vectors = [
        networks._token_vectors(*inputs) for inputs in zip(docs, lengths, forms, strict=True)
    ]

    def for_each(function: Callable[..., object], *inputs: list[Any]) -> Callable[[], object]:
        return lambda: [function(*batch) for batch in zip(*inputs, strict=True)]

    def tags(batch: Any) -> object:
        return best_and_lead(batch @ networks._tag_weights + networks._tag_bias)

    return {
        "tokenizer": lambda: [nlp.make_doc(text) for text in texts],
        "vectors, before": for_each(nlp.get_pipe("tok2vec").predict, small),
        "vectors": for_each(networks._token_vectors, docs, lengths, forms),
        "tags, before": for_each(nlp.get_pipe("tagger").predict, small),
        "tags": for_each(tags, vectors),
        "trees, before": for_each(nlp.get_pipe("parser").predict, small),
        "trees": for_each(networks._arc_eager, vectors, lengths),
        "all, before": lambda: list(by_spacy(model, texts)),
        "all": lambda: list(model(texts)),
    }


def measure(texts: list[str], runs: int) -> None:
    model = _Model()
    tokens = sum(len(parse.words) for parse in model(texts))
    list(by_spacy(model, texts))
    seconds: dict[str, list[float]] = {}
    parts = steps(model, texts)
    gc.disable()
    for _ in range(runs):
        for name, step in parts.items():
            started = time.process_time()
            step()
            seconds.setdefault(name, []).append(time.process_time() - started)
    print(f"{len(texts):,} texts, {tokens:,} tokens; medians of {runs}")
    for name, runs_of_step in seconds.items():
        median = statistics.median(runs_of_step)
        print(
            f"{name:<20}{median / tokens * 1e6:>8.1f} us/token{len(texts) / median:>12,.0f} texts/s"
        )


def check(texts: list[str], count: int) -> None:
    """Compares parses with those of spaCy's whole pipeline; orders and batches differ."""
    source = random.Random(1)
    words = sorted({word for text in texts for word in text.split()})
    model, spacy_model = _Model(), _Model()  # with caches of their own
    different: list[str] = []
    for first in range(0, count, 10_000):
        some = [*texts[first : first + 10_000]]
        some += [
            variation(texts, words, source) for _ in range(min(10_000, count - first) - len(some))
        ]
        expected = dict(zip(some, by_spacy(spacy_model, some), strict=True))
        source.shuffle(some)
        different += [
            text for text, parse in zip(some, model(some), strict=True) if parse != expected[text]
        ]
        print(f"{first + len(some):,} texts, {len(different)} differ", flush=True)
    for text in different:
        print(repr(text))
    raise SystemExit(len(different) > 0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["time", "check"])
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.command == "time":
        measure(phrases()[: arguments.texts], arguments.runs)
    else:
        check(phrases(), arguments.texts)


if __name__ == "__main__":
    main()
