"""Words that are ignored when two captions are compared."""

# Function words that do not help to identify an object: two captions that differ only in these
# describe the same object. Prepositions of place (on, in, above, left of ...), numbers and
# negations are deliberately not in the list.
STOP_WORDS = frozenset(
    """
    a an the this that these those there here some
    i me my mine we us our you your him his her hers it its them their who whose which
    am is are was were be been being has have had having do does did can could will would
    and or but as of with for 's ’s
    very also just so then
    """.split()  # noqa: SIM905
)

# The published code removes these from NLTK's list, because they distinguish objects.
_NEVER_STOP_WORDS = frozenset({"above", "below", "between", "further", "he", "she", "they"})


def parse_stop_words(content: str) -> frozenset[str]:
    """Returns the words of a stop word file, without those that distinguish objects.

    >>> sorted(parse_stop_words("the of above"))
    ['of', 'the']
    """
    return frozenset(content.split()) - _NEVER_STOP_WORDS
