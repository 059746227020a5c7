"""From character spans to tokens."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mdetr_model.modeling.losses import soft_token_targets
from mdetr_model.modeling.positive_map import NUM_TOKEN_POSITIONS, TokenRule, positive_map
from tests.mdetr_model import golden

# "<s> a  café's </s>": the second space is a token of no characters, é is two tokens.
OFFSETS = np.array([(0, 0), (0, 1), (2, 2), (3, 6), (6, 7), (6, 7), (7, 9), (0, 0)])


def columns(spans: list[list[tuple[int, int]]], rule: TokenRule = "paper") -> list[list[int]]:
    return [np.flatnonzero(row).tolist() for row in positive_map(OFFSETS, spans, rule).rows]


def test_mdetr_rule_equals_published_rows(reference: Path) -> None:
    tokenizer = golden.tokenizer(reference)
    columns_by_box, expected = [], []
    for row in golden.function(reference, "positive_map")["rows"]:
        encoded = tokenizer(row["caption"], return_offsets_mapping=True, verbose=False)
        assert row["input_ids"] in (None, encoded["input_ids"])
        rows = positive_map(
            np.array(encoded["offset_mapping"]), row["tokens_positive"], "mdetr"
        ).rows
        columns_by_box += [np.flatnonzero(tokens).tolist() for tokens in rows]
        expected += row["columns"]
        targets = soft_token_targets(torch.from_numpy(rows), "normalized")
        assert targets.amax(-1).tolist() == row["value"]
    assert columns_by_box == expected


def test_paper_rule_takes_tokens_that_share_a_character() -> None:
    spans = [[(3, 9)], [(0, 1), (7, 9)], [(4, 5)], [(6, 7)], [(1, 3)], []]
    assert columns(spans) == [[3, 4, 5, 6], [1, 6], [3], [4, 5], [], []]


def test_mdetr_rule_misses_second_token_of_last_character() -> None:
    assert columns([[(3, 7)]]) == [[3, 4, 5]]
    assert columns([[(3, 7)]], "mdetr") == [[3, 4]]


def test_mdetr_rule_skips_up_to_two_spaces() -> None:
    assert columns([[(1, 4)], [(0, 2)], [(1, 2)], [(0, 20)]], "mdetr") == [[3], [1], [], []]


def test_spans_without_a_token_are_counted() -> None:
    spans = [[(3, 6), (40, 45)], [(1, 2)], [(0, 0)]]
    for mapped in (positive_map(OFFSETS, spans), positive_map(OFFSETS, spans, "mdetr")):
        assert mapped.dropped_spans == 3
        assert mapped.rows.any(-1).tolist() == [True, False, False]


def test_empty_boxes_or_tokens_give_empty_map() -> None:
    assert positive_map(OFFSETS, []).rows.shape == (0, NUM_TOKEN_POSITIONS)
    empty = positive_map(np.zeros((0, 2)), [[(0, 3)]])
    assert not empty.rows.any() and empty.dropped_spans == 1


@pytest.mark.parametrize("rule, columns", (("paper", 255), ("mdetr", 256)))
def test_tokens_after_last_position_are_dropped(rule: TokenRule, columns: int) -> None:
    """The last one means "no object": only the published rule has tokens there."""
    offsets = np.array([(i, i + 1) for i in range(400)])
    mapped = positive_map(offsets, [[(250, 300)], [(columns, 300)]], rule)
    assert np.flatnonzero(mapped.rows[0]).tolist() == list(range(250, columns))
    assert mapped.dropped_spans == 1 and not mapped.rows[1].any()


words = st.lists(st.integers(1, 6), min_size=1, max_size=30)


@given(words, st.data())
def test_rows_sum_to_one_and_both_rules_agree_on_whole_words(
    lengths: list[int], data: st.DataObject
) -> None:
    ends = np.cumsum(np.array(lengths) + 1) - 1
    offsets = np.stack([ends - lengths, ends], axis=1)
    word = st.integers(0, len(lengths) - 1)
    chosen = data.draw(st.lists(st.lists(st.tuples(word, word).map(sorted), min_size=1)))
    spans = [[(int(offsets[a, 0]), int(offsets[b, 1])) for a, b in of_box] for of_box in chosen]
    paper, mdetr = positive_map(offsets, spans), positive_map(offsets, spans, "mdetr")
    assert paper.dropped_spans == mdetr.dropped_spans == 0
    np.testing.assert_array_equal(paper.rows, mdetr.rows)
    for row, of_box in zip(paper.rows, chosen, strict=True):
        assert set(np.flatnonzero(row)) == {w for a, b in of_box for w in range(a, b + 1)}
    sums = soft_token_targets(torch.from_numpy(paper.rows), "normalized").sum(-1)
    torch.testing.assert_close(sums, torch.ones(len(spans)), rtol=0, atol=2e-6)
