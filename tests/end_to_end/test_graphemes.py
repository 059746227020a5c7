"""Texts in several scripts, from the raw files of each source to spans and a verified set."""

from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest

from shards.reading.shard_set import ShardSet
from shards.verification.verify import verify
from tests import tiny
from tests.graphemes import EMOJIS, WORDS

Graphemes = list[str]


def sentences() -> list[Graphemes]:
    """Returns sentences by their graphemes, of two to eight words, some with emojis around."""
    words = list(WORDS.values())
    texts = [[*word, " ", *"sign"] for word in words]
    texts += [[*"the ", *word, *" on a ", *other] for word, other in pairwise(words)]
    texts += [[*word, "'", "s", "-", *word, ".", " ", *"red"] for word in words]
    for emoji in EMOJIS.values():
        texts += [[emoji, *" red shape"], [emoji, *"a dog", emoji, " ", emoji], [*"a ", emoji]]
    return texts


def sources(root: Path, texts: list[str]) -> dict[str, Any]:
    """Writes RefCOCO, Visual Genome and GQA with each text once, each in an image of its own."""
    ids = range(1, len(texts) + 1)
    by_id = dict(zip(ids, texts, strict=True))
    coco = tiny.write_coco(
        root,
        [tiny.coco_image(id_) for id_ in ids],
        [tiny.coco_annotation(id_, id_) for id_ in ids],
        [tiny.reference(id_, id_, {id_: text}) for id_, text in by_id.items()],
    )
    vg_ids = {id_ + 1000: text for id_, text in by_id.items()}
    vg = tiny.write_vg(
        root,
        [tiny.vg_image(id_) for id_ in vg_ids],
        [
            tiny.vg_graph(
                id_,
                tiny.vg_region(
                    id_,
                    text,
                    objects=[{"x": 20, "y": 20, "w": 20, "h": 20, "synsets": ["x.n.01"]}],
                    synsets=[{"entity_idx_start": 1, "entity_idx_end": 3, "synset_name": "x.n.01"}],
                ),
            )
            for id_, text in vg_ids.items()
        ],
    )
    gqa_ids = {str(id_ + 2000): text for id_, text in by_id.items()}
    questions = {
        f"q{id_}": tiny.gqa_question(
            id_,
            f"is {text}?",
            semantic=[{"operation": "select", "argument": f"{text[:4].strip()} (7)"}],
            annotations={"question": {}, "answer": {}, "fullAnswer": {}},
            types={"semantic": "obj", "structural": "verify"},
        )
        for id_, text in gqa_ids.items()
    }
    graphs = {id_: tiny.scene_graph(**{"7": (5, 5, 20, 20)}) for id_ in gqa_ids}
    return {"coco": coco, "vg": vg, "gqa": tiny.write_gqa(root, questions, graphs)}


@pytest.mark.parametrize("rules", ["paper", "mdetr"])
def test_spans_end_on_grapheme_borders_and_the_set_is_whole(rules: str, tmp_path: Path) -> None:
    texts = sentences()
    by_text = {"".join(graphemes): graphemes for graphemes in texts}
    tables = sources(tmp_path, list(by_text))
    train = {"shards": 1, "combine": False}
    assert tiny.build(tmp_path, rules=rules, splits={"train": train}, sources=tables) == 0
    assert [row for row in tiny.rejected(tmp_path) if row.records] == []
    spans = 0
    for sample in tiny.samples(tmp_path).values():
        for caption in sample["captions"]:
            text = caption["text"]
            graphemes = by_text.get(text) or [*"is ", *by_text[text[3:-1]], "?"]
            borders = set(accumulate(map(len, graphemes), initial=0))
            positive = [s for region in caption["regions"] for s in region["tokens_positive"]]
            # As published, a root phrase of an emoji names nothing in Visual Genome.
            is_vg = caption["provenance"][0]["dataset"] == "vg"
            assert positive or text.startswith("is ") or (is_vg and rules == "mdetr")
            spans += len(positive)
            assert {b for s in positive + caption["tokens_negative"] for b in s} <= borders, text
    assert spans > 2 * len(texts)
    assert verify(ShardSet.open(tmp_path / "shards")).errors.listed == []


@pytest.mark.parametrize("last", ["\u0600", "\u06dd", "e\u0301", "\u200d", "\U0001f1eb"])
def test_last_character_and_the_full_stop_are_no_split_grapheme(last: str, tmp_path: Path) -> None:
    """A mark that is before its number in print (U+0600) would be one grapheme with a full stop."""
    texts = {1: f"cat {last}", 2: f"dog {last}"}
    boxes = [tiny.coco_annotation(i, 9, (60 * i, 10, 40, 30)) for i in texts]
    references = [tiny.reference(9, i, {i: text}) for i, text in texts.items()]
    source = tiny.write_coco(tmp_path, [tiny.coco_image(9)], boxes, references)
    assert tiny.build(tmp_path, sources={"coco": source}) == 0
    [caption] = tiny.samples(tmp_path)["coco/9"]["captions"]
    assert caption["text"] == f"cat {last}. dog {last}."
    assert verify(ShardSet.open(tmp_path / "shards")).errors.listed == []
