"""A tokenizer of captions like RoBERTa's, for models that are trained from nothing."""

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, RobertaTokenizer

from mdetr_model.distributed import Ranks

# In the order of their ids, which roberta-base shares but for the last.
SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
LEAST = len(SPECIAL_TOKENS) + 256  # every byte is a token, so that none is unknown


def train_tokenizer(captions: Iterable[str], vocab_size: int) -> RobertaTokenizer:
    """A byte-level BPE of the captions, whatever their order.

    Folders that it is saved to are read by ``AutoTokenizer``.

    Args:
        vocab_size: how many tokens it has at most; fewer where the captions have no more pairs to
            merge. Its ``len`` is what a text encoder's ``vocab_size`` has to be.

    Raises:
        ValueError: so few tokens cannot be all bytes and the special tokens.
    """
    if vocab_size < LEAST:
        raise ValueError(f"a vocabulary of {vocab_size} tokens: {LEAST} are needed for all bytes")
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    # Loaded from files instead, RobertaTokenizer would have none but the special tokens.
    trained = json.loads(tokenizer.to_str())["model"]
    merges: Any = [tuple(pair) for pair in trained["merges"]]
    return RobertaTokenizer(vocab=trained["vocab"], merges=merges)


def tokenizer_of_run(
    folder: Path,
    captions: Callable[[], Iterable[str]],
    vocab_size: int,
    ranks: Ranks,
    *,
    goes_on: bool,
) -> PreTrainedTokenizerBase:
    """The tokenizer of a training run that has its own; all ranks see the same folder.

    It is trained when the run begins and kept in the folder, so that a run that goes on need not
    read all captions again.
    """
    if ranks.is_first and not (goes_on and folder.exists()):
        temporary = folder.with_name(f".{folder.name}.tmp")
        for left_over in (temporary, folder):
            if left_over.exists():
                shutil.rmtree(left_over)
        train_tokenizer(captions(), vocab_size).save_pretrained(temporary)
        temporary.replace(folder)
    ranks.wait()
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    return tokenizer
