"""Text from outside, such as a shard set's names, as a terminal may have it."""


def printable(text: str) -> str:
    r"""The text as one line, with control characters as they are written in Python.

    >>> print(printable("a\nb \x1b[1mé"))
    a\nb \x1b[1mé
    """
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
