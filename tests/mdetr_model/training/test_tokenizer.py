"""A tokenizer trained on captions: independent of their order, and unchanged by saving."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, RobertaTokenizer, RobertaTokenizerFast

from mdetr_model.training.tokenizer import MIN_VOCAB_SIZE, train_tokenizer

COLORS = ("red", "blue", "green", "white", "black", "gray")
OBJECTS = ("bus", "tree", "tall man", "woman's hat", "café", "dog with a ball")
CAPTIONS = [f"a {color} {a} and the {b}" for color in COLORS for a in OBJECTS for b in OBJECTS]
BYTES = train_tokenizer([], MIN_VOCAB_SIZE)


@pytest.fixture(scope="module")
def tokenizer() -> RobertaTokenizer:
    return train_tokenizer(CAPTIONS, 300)


def test_special_tokens_have_the_ids_of_roberta_base(tokenizer: RobertaTokenizer) -> None:
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    assert tokenizer.convert_tokens_to_ids(names) == [0, 1, 2, 3, 4]
    assert (tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.mask_token_id) == (0, 2, 4)
    assert tokenizer("")["input_ids"] == [0, 2]


def test_frequent_words_become_tokens(tokenizer: RobertaTokenizer) -> None:
    assert len(tokenizer) == 300
    whole = train_tokenizer(CAPTIONS, 1000)
    assert MIN_VOCAB_SIZE < len(whole) < 1000
    words = ["a", "Ġgreen", "Ġbus", "Ġand", "Ġthe", "Ġtree"]
    assert whole.tokenize("a green bus and the tree") == words


def test_order_of_captions_does_not_matter(tokenizer: RobertaTokenizer) -> None:
    for seed in range(3):
        shuffled = random.Random(seed).sample(CAPTIONS, len(CAPTIONS))
        again = train_tokenizer(iter(shuffled), 300)
        assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


@pytest.mark.parametrize("auto", (AutoTokenizer, RobertaTokenizerFast))
def test_tokenizer_round_trips_through_a_folder(
    tokenizer: RobertaTokenizer, tmp_path: Path, auto: type
) -> None:
    tokenizer.save_pretrained(tmp_path)
    loaded = auto.from_pretrained(tmp_path)
    assert isinstance(loaded, RobertaTokenizer) and loaded.get_vocab() == tokenizer.get_vocab()
    texts = [*CAPTIONS, "ein Übermaß 日本 \N{ROCKET}", "", "  spaces  "]
    before, after = (t(texts, return_offsets_mapping=True).data for t in (tokenizer, loaded))
    assert before == after


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_decoded_without_loss(text: str) -> None:
    ids = BYTES(text, split_special_tokens=True, add_special_tokens=False)["input_ids"]
    assert BYTES.unk_token_id not in ids
    assert BYTES.decode(ids, clean_up_tokenization_spaces=False) == text


def test_vocabulary_holds_all_bytes() -> None:
    assert len(BYTES) == MIN_VOCAB_SIZE
    with pytest.raises(ValueError, match="a vocabulary of 260 tokens: 261 are needed"):
        train_tokenizer(CAPTIONS, 260)
