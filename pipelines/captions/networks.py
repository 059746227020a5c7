"""The networks of spaCy's model, which predict tags and dependency trees, computed with numpy."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipelines.captions.arc_eager import ArcEager, best_and_lead
from pipelines.captions.token_vectors import TokenVectors, parameter

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

# Rounding changes scores, which are of up to 50, by less than 3e-5: see benchmarks/README.md.
MIN_LEAD = 1e-3


class Prediction(NamedTuple):
    """What is predicted for a text; lists have an entry for each token."""

    words: list[int]  # hashes of spaCy's strings, as tags and dependencies
    starts: list[int]  # character offsets
    tags: list[int]
    deps: list[int]
    heads: list[int]  # a root is its own head


class Networks:
    """The networks of token vectors, tags and trees, with the weights of a pipeline of spaCy."""

    def __init__(self, nlp: "Language") -> None:
        from spacy.attrs import IDX, NORM, ORTH, SPACY

        self._columns = (ORTH, IDX, NORM, SPACY)
        tagger, strings = nlp.get_pipe("tagger"), nlp.vocab.strings
        self._token_vectors = TokenVectors(nlp.get_pipe("tok2vec").model)
        self._tag_weights = parameter(tagger.model.get_ref("output_layer"), "W").T
        self._tag_bias = parameter(tagger.model.get_ref("output_layer"), "b")
        self._tags = np.array([strings[label] for label in tagger.labels], np.uint64)
        self._arc_eager = ArcEager(nlp.get_pipe("parser"))
        self._deps = np.array([strings[label] for label in self._arc_eager.labels], np.uint64)
        # "prep||pobj": an arc that crosses others, which spaCy moves when the tree is complete.
        self._crosses = np.array(["||" in label for label in self._arc_eager.labels])

    def __call__(self, docs: Sequence["Doc"]) -> Iterator[Prediction | None]:
        """Yields the predictions for texts, each of them independent of the other texts.

        It is none if arcs cross, or if two choices differ in score by less than `MIN_LEAD`: then
        rounding would decide, which depends on the processor and the size of the batch.
        """
        columns = [doc.to_array(self._columns) for doc in docs]
        lengths = np.array([len(rows) for rows in columns])
        if not lengths.any():
            yield from (Prediction([], [], [], [], []) for _ in docs)
            return
        words, starts, norms, spaces = np.concatenate(columns).T.tolist()
        vectors = self._token_vectors(docs, lengths, list(zip(words, norms, spaces, strict=True)))
        tags, tag_leads = best_and_lead(vectors @ self._tag_weights + self._tag_bias)
        heads, labels, leads = self._arc_eager(vectors, lengths)
        texts = np.repeat(np.arange(len(docs)), lengths)
        is_certain = leads >= MIN_LEAD
        is_certain[texts[(tag_leads < MIN_LEAD) | self._crosses[labels]]] = False
        of_tokens = (
            words,
            starts,
            self._tags[tags].tolist(),
            self._deps[labels].tolist(),
            heads.tolist(),
        )
        ends = lengths.cumsum()
        for start, end, certain in zip(ends - lengths, ends, is_certain, strict=True):
            yield Prediction(*[values[start:end] for values in of_tokens]) if certain else None
