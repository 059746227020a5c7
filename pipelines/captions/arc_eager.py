"""Dependency trees by arc-eager transitions: the parser of spaCy's model, computed with numpy.

A text is parsed with a stack of its tokens and a queue of those that follow, by actions that a
network scores (Honnibal and Johnson, 2015). Each step takes one action for every text of a batch.
Scores equal those of spaCy up to the rounding of float32.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipelines.captions.token_vectors import Floats, Ints, parameter

if TYPE_CHECKING:
    from spacy.pipeline import DependencyParser

ROOT = "ROOT"

_MOVES = "SDLRB"  # as spaCy names them; an arc has an action for each label
_SHIFT, _REDUCE, _LEFT, _RIGHT, _BREAK = range(len(_MOVES))
_NONE = 0  # instead of a token; tokens count from 1


class Trees(NamedTuple):
    """The dependency trees of texts."""

    heads: Ints  # of each token of all texts, its index there; a root is its own head
    labels: Ints  # of each token of all texts, an index of `ArcEager.labels`
    leads: Floats  # of each text, the smallest lead of an action over the second best one


def best_and_lead(scores: Floats) -> tuple[Ints, Floats]:
    """Returns the column of the best score of each row, and its lead over the second best.

    >>> best_and_lead(np.array([[1, 4, 2], [7, 0, 7]], np.float32))
    (array([1, 0]), array([2., 0.], dtype=float32))
    """
    rows = np.arange(len(scores))
    best = scores.argmax(axis=1)
    others = scores.copy()
    others[rows, best] = -np.inf
    return best, scores[rows, best] - others.max(axis=1)


class _States:
    """How far the texts of a batch are parsed: stacks, queues, and the arcs of their tokens."""

    def __init__(self, lengths: Ints) -> None:
        texts, count = np.arange(len(lengths)), int(lengths.sum())
        starts = lengths.cumsum() - lengths
        # In the queue, the tokens of each text are followed by two entries for none; in the stack,
        # there are three of them below.
        self.queue = np.zeros(count + 2 * len(lengths), np.intp)
        self.queue[np.arange(count) + 2 * np.repeat(texts, lengths)] = np.arange(1, count + 1)
        self.front = starts + 2 * texts
        self.stack = np.zeros(count + 3 * len(lengths), np.intp)
        self.top = starts + 3 * texts + 2
        self.heads, self.actions, self.last_left, self.last_right, self.previous_right = np.zeros(
            (5, count + 1), np.intp
        )
        self.is_sentence_start, self.is_unshifted = np.zeros((2, count + 1), np.bool_)
        self.is_sentence_start[starts[lengths > 0] + 1] = True

    def unfinished(self, texts: Ints) -> Ints:
        """Returns those of the texts that have tokens on their stack or in their queue."""
        tokens = self.stack[self.top[texts]] | self.queue[self.front[texts]]
        unfinished: Ints = texts[tokens != _NONE]
        return unfinished

    def push(self, texts: Ints, tokens: Ints) -> None:
        """Moves the first tokens of queues to the stacks."""
        self.front[texts] += 1
        self.top[texts] += 1
        self.stack[self.top[texts]] = tokens

    def pop(self, texts: Ints) -> None:
        """Removes the top of stacks."""
        self.top[texts] -= 1

    def unshift(self, texts: Ints, tokens: Ints) -> None:
        """Moves the top of stacks back to the queues; they cannot be shifted again."""
        self.top[texts] -= 1
        self.front[texts] -= 1
        self.queue[self.front[texts]] = tokens
        self.is_unshifted[tokens] = True

    def add_left_arcs(self, heads: Ints, children: Ints, actions: Ints) -> None:
        """Adds arcs to children before their head, which replace arcs that they have."""
        # If a child has a head, that is before it, and it is the last child there.
        previous = self.heads[children]
        last = self.last_right[previous]
        self.last_right[previous] = np.where(previous == _NONE, last, self.previous_right[children])
        self.heads[children] = heads
        self.actions[children] = actions
        self.last_left[heads] = children
        self.is_unshifted[heads] = False

    def add_right_arcs(self, heads: Ints, children: Ints, actions: Ints) -> None:
        """Adds arcs to children after their head, which have none."""
        self.previous_right[children] = self.last_right[heads]
        self.heads[children] = heads
        self.actions[children] = actions
        self.last_right[heads] = children


class ArcEager:
    """The parser: its weights and its actions."""

    def __init__(self, parser: "DependencyParser") -> None:
        hidden = parser.model.get_ref("tok2vec").layers[-1]
        lower, upper = parser.model.get_ref("lower"), parser.model.get_ref("upper")
        self._hidden_weights = parameter(hidden, "W").T
        self._hidden_bias = parameter(hidden, "b")
        # Ordered by feature, candidate and unit, so that maxima are those of whole blocks.
        weights = parameter(lower, "W")
        self._features, self._units, _, inputs = weights.shape
        self._lower_weights = weights.transpose(3, 0, 2, 1).reshape(inputs, -1)
        self._lower_bias = parameter(lower, "b").T.reshape(-1)
        self._no_token = parameter(lower, "pad")[0].transpose(0, 2, 1).reshape(-1)
        self._upper_weights = parameter(upper, "W").T
        self._upper_bias = parameter(upper, "b")

        names = [parser.moves.get_class_name(i) for i in range(parser.moves.n_moves)]
        self._moves = np.array([_MOVES.index(name[0]) for name in names])
        columns = [np.flatnonzero(self._moves == move) for move in range(len(_MOVES))]
        self._columns = [slice(of_move[0], of_move[-1] + 1) for of_move in columns]
        self.labels = sorted({name[2:] or ROOT for name in names})
        self._labels = np.array([self.labels.index(name[2:] or ROOT) for name in names])

    def __call__(self, vectors: Floats, lengths: Ints) -> Trees:
        """Returns the trees of texts.

        Args:
            vectors: of each token of all texts, (tokens, width).
            lengths: the number of tokens of each text.
        """
        sums = self._sums(vectors)
        states = _States(lengths)
        leads = np.full(len(lengths), np.inf, np.float32)
        texts = np.flatnonzero(lengths)
        while len(texts):
            leads[texts] = np.minimum(leads[texts], self._step(states, texts, sums))
            texts = states.unfinished(texts)
        first = np.repeat(lengths.cumsum() - lengths, lengths)
        tokens = np.arange(1, len(vectors) + 1)
        heads = np.where(states.heads[1:] == _NONE, tokens, states.heads[1:]) - 1 - first
        return Trees(heads, self._labels[states.actions[1:]], leads)

    def _sums(self, vectors: Floats) -> Floats:
        """Returns what each token adds to the sums of the lower layer, as each of the features.

        Row ``token * features + feature``; the first token is none.
        """
        sums = np.empty((len(vectors) + 1, len(self._no_token)), np.float32)
        sums[_NONE] = self._no_token
        hidden = vectors @ self._hidden_weights + self._hidden_bias
        np.matmul(hidden, self._lower_weights, out=sums[1:])
        return sums.reshape(len(sums) * self._features, -1)

    def _step(self, states: _States, texts: Ints, sums: Floats) -> Floats:
        """Takes the best valid action of each text, and returns its lead over the others."""
        front, top = states.front[texts], states.top[texts]
        b0, b1 = states.queue[front], states.queue[front + 1]
        s0, s1, s2 = states.stack[top], states.stack[top - 1], states.stack[top - 2]
        children = (states.last_left[b0], states.last_left[s0], states.last_right[s0])
        scores = self._scores((b0, b1, s0, s1, s2, *children), sums)

        may_attach = (s0 != _NONE) & (b0 != _NONE) & ~states.is_sentence_start[b0]
        may_shift = may_attach & (b1 != _NONE) & ~states.is_unshifted[b0]
        may_break = (b1 == b0 + 1) & ~states.is_sentence_start[b1]
        valid = ((s0 == _NONE) | may_shift, s0 != _NONE, may_attach, may_attach, may_break)
        for columns, is_valid in zip(self._columns, valid, strict=True):
            scores[~is_valid, columns] = -np.inf
        actions, lead = best_and_lead(scores)

        moves = self._moves[actions]
        left, right, reduced = moves == _LEFT, moves == _RIGHT, moves == _REDUCE
        states.add_left_arcs(b0[left], s0[left], actions[left])
        states.add_right_arcs(s0[right], b0[right], actions[right])
        pushed = right | (moves == _SHIFT)
        states.push(texts[pushed], b0[pushed])
        unshifted = reduced & (states.heads[s0] == _NONE) & (s1 != _NONE)
        states.unshift(texts[unshifted], s0[unshifted])
        states.pop(texts[left | (reduced & ~unshifted)])
        states.is_sentence_start[b1[moves == _BREAK]] = True
        return lead

    def _scores(self, context: tuple[Ints, ...], sums: Floats) -> Floats:
        """Returns the scores of all actions, (texts, actions), given the tokens of each feature."""
        total = sums[context[0] * self._features]
        for feature, tokens in enumerate(context[1:], start=1):
            total += sums[tokens * self._features + feature]
        total += self._lower_bias
        hidden = np.maximum(total[:, : self._units], total[:, self._units :])
        scores: Floats = hidden @ self._upper_weights + self._upper_bias
        return scores
