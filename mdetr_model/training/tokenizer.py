"""A tokenizer trained on captions, of RoBERTa's kind, for models trained from scratch."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, RobertaTokenizer

from mdetr_model.distributed import DistributedContext
from shards.atomic_folder import atomic_folder

# In the order of their ids; all but the last are those of roberta-base.
SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
MIN_VOCAB_SIZE = len(SPECIAL_TOKENS) + 256  # every byte is a token, so that none is unknown


def train_tokenizer(captions: Iterable[str], vocab_size: int) -> RobertaTokenizer:
    """Trains a byte-level BPE on captions; their order does not matter.

    ``AutoTokenizer`` reads the folders that it is saved to.

    Args:
        captions: the training text.
        vocab_size: maximum number of tokens; there are fewer where the captions have no more pairs
            to merge. A text encoder's ``vocab_size`` has to be the tokenizer's ``len``.

    Raises:
        ValueError: ``vocab_size`` is too small for all bytes and the special tokens.
    """
    if vocab_size < MIN_VOCAB_SIZE:
        raise ValueError(
            f"a vocabulary of {vocab_size} tokens: {MIN_VOCAB_SIZE} are needed for all bytes"
        )
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    # Loaded from files, RobertaTokenizer would have only the special tokens.
    trained = json.loads(tokenizer.to_str())["model"]
    merges: Any = [tuple(pair) for pair in trained["merges"]]
    return RobertaTokenizer(vocab=trained["vocab"], merges=merges)


def tokenizer_of_run(
    folder: Path,
    captions: Callable[[], Iterable[str]],
    vocab_size: int,
    context: DistributedContext,
    *,
    resumed: bool,
) -> PreTrainedTokenizerBase:
    """Returns the tokenizer of a run that trains one.

    It is trained when the run begins and kept in ``folder``, which all ranks share, so that a
    resumed run does not read all captions again.
    """
    if context.is_main and not (resumed and folder.exists()):
        with atomic_folder(folder, replace=True) as temporary:
            train_tokenizer(captions(), vocab_size).save_pretrained(temporary)
    context.barrier()
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    return tokenizer
