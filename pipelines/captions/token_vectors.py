"""Vectors of tokens in context: the network `tok2vec` of spaCy's model, computed with numpy.

The network embeds each token by features of its form (`MultiHashEmbed`), and then applies
convolutions over a token and its two neighbors, each with a residual connection
(`MaxoutWindowEncoder`). Vectors equal those of spaCy up to the rounding of float32.
"""

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from spacy.tokens import Doc
    from thinc.model import Model

    Layer = Model[Any, Any]

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.intp]
Form = tuple[int, int, int]  # hashes of word and norm, and whether a space follows

MAX_FORMS = 8192  # in the table, of 4 kB each

_PADDING = 0  # the row of the table for what is before and after a text
_VARIANCE_OFFSET = 1e-8  # of thinc's layer normalization


def parameter(layer: "Layer", name: str) -> Floats:
    """Returns a parameter of a layer, as a plain array."""
    return np.asarray(layer.get_param(name), np.float32)


class Convolution:
    """A maxout layer over a token and its neighbors, with normalized outputs."""

    def __init__(self, layer: "Layer") -> None:
        maxout, normalization = layer.layers[0].layers[1].layers[0].layers
        weights = parameter(maxout, "W")
        self._width, _, inputs = weights.shape
        # Ordered by candidate, then output, so that maxima are those of whole blocks.
        self._weights = weights.transpose(2, 1, 0).reshape(inputs, -1)
        self._bias = parameter(maxout, "b").T.reshape(-1)
        self._scale = parameter(normalization, "G")
        self._shift = parameter(normalization, "b")

    def __call__(self, vectors: Floats, rows: Ints) -> Floats:
        """Returns the outputs for some rows of vectors, neither the first nor the last."""
        windows = np.lib.stride_tricks.as_strided(
            vectors, (len(vectors) - 2, 3 * self._width), vectors.strides, writeable=False
        )
        return self.outputs(windows[rows - 1] @ self._weights)

    def shares(self, vectors: Floats) -> list[Floats]:
        """Returns what vectors add to the sums of the next row, their own, and the one before."""
        return [vectors @ weights for weights in np.split(self._weights, 3)]

    def outputs(self, sums: Floats) -> Floats:
        """Returns the outputs, given the weighted sums of inputs, which it changes."""
        width = self._width
        sums += self._bias
        outputs = np.maximum(sums[:, :width], sums[:, width : 2 * width])
        np.maximum(outputs, sums[:, 2 * width :], out=outputs)
        outputs -= outputs.mean(axis=1, keepdims=True)
        variances = np.einsum("ij,ij->i", outputs, outputs) / np.float32(width)
        outputs *= (1 / np.sqrt(variances + np.float32(_VARIANCE_OFFSET)))[:, None]
        outputs *= self._scale
        outputs += self._shift
        return outputs


class Forms(NamedTuple):
    """The rows of forms in arrays that no longer change."""

    rows: Ints
    embeddings: Floats  # zeros for padding
    shares: Sequence[Floats]  # of the embeddings in the sums of the first convolution


class FormTable:
    """A table of what depends on the form of a token only; one that is full begins anew."""

    def __init__(self, embed: "Layer", first: Convolution) -> None:
        self._columns: list[str] = embed.layers[0].attrs["columns"]
        self._hash_embeddings, self._maxout = (embed.layers[i].layers[0] for i in (2, 3))
        self._first = first
        self._lock = threading.Lock()  # a runner may parse in several threads
        self._rows: dict[Form, int] = {}
        self._embeddings: Floats = np.zeros((1, embed.get_dim("nO")), np.float32)
        self._shares = first.shares(self._embeddings)

    def find(self, docs: Sequence["Doc"], forms: Sequence[Form]) -> Forms:
        """Returns the forms of all tokens of texts, and adds those that are new."""
        with self._lock:
            try:
                rows = [self._rows[form] for form in forms]
            except KeyError:
                self._add(docs, forms)
                rows = [self._rows[form] for form in forms]
            return Forms(np.array(rows), self._embeddings, self._shares)

    def _add(self, docs: Sequence["Doc"], forms: Sequence[Form]) -> None:
        tokens = {form: token for token, form in enumerate(forms)}
        new = [form for form in tokens if form not in self._rows]
        if len(self._rows) + len(new) > MAX_FORMS:
            self._rows.clear()
            new = list(tokens)
        features = np.concatenate([doc.to_array(self._columns) for doc in docs])
        features = features[[tokens[form] for form in new]]
        embeddings = self._maxout.predict(self._hash_embeddings.predict(features))
        count = 1 + len(self._rows)
        self._rows.update(zip(new, range(count, count + len(new)), strict=True))
        self._embeddings = np.concatenate([self._embeddings[:count], embeddings])
        self._shares = [
            np.concatenate([share[:count], added])
            for share, added in zip(self._shares, self._first.shares(embeddings), strict=True)
        ]


class TokenVectors:
    """The network."""

    def __init__(self, model: "Layer") -> None:
        encode = model.get_ref("encode")
        self._padding: int = encode.attrs["pad"]
        self._first, *self._others = [Convolution(layer) for layer in encode.layers[0].layers]
        self._table = FormTable(model.get_ref("embed"), self._first)

    def __call__(self, docs: Sequence["Doc"], lengths: Ints, forms: Sequence[Form]) -> Floats:
        """Returns the vector of each token, (tokens, width).

        Args:
            docs: texts, at least one of them with a token.
            lengths: the number of tokens of each text.
            forms: the form of each token of all texts.
        """
        # As in spaCy, texts are surrounded by padding, and convolutions change it as well. With
        # each of them, the rows that matter end one row closer to the text.
        padding = self._padding
        texts = np.arange(len(lengths))
        tokens = np.arange(len(forms)) + padding * (1 + np.repeat(texts, lengths))
        table_rows = np.full(len(forms) + padding * (len(lengths) + 1), _PADDING)
        of_tokens, embeddings, (previous, current, following) = self._table.find(docs, forms)
        table_rows[tokens] = of_tokens
        distances = _distances(tokens, len(table_rows))
        vectors: Floats = embeddings[table_rows]

        rows = np.flatnonzero(distances < padding)
        sums = previous[table_rows[rows - 1]]
        sums += current[table_rows[rows]]
        sums += following[table_rows[rows + 1]]
        vectors[rows] += self._first.outputs(sums)
        for step, convolution in enumerate(self._others, start=2):
            rows = np.flatnonzero(distances <= padding - step)
            vectors[rows] += convolution(vectors, rows)
        result: Floats = vectors[tokens]
        return result


def _distances(tokens: Ints, count: int) -> Ints:
    """Returns how far each of ``count`` rows is from the closest of the rows ``tokens``."""
    rows = np.arange(count)
    next_token = np.searchsorted(tokens, rows)
    after = tokens[np.minimum(next_token, len(tokens) - 1)]
    before = tokens[np.maximum(next_token - 1, 0)]
    closest: Ints = np.minimum(abs(after - rows), abs(rows - before))
    return closest
