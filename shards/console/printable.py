"""Text for a terminal: with names from outside, and with numbers."""


def printable(text: str) -> str:
    r"""The text as one line, with control characters as they are written in Python.

    >>> print(printable("a\nb \x1b[1mé"))
    a\nb \x1b[1mé
    """
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def counted(n: int, name: str) -> str:
    """
    >>> counted(1, "shard"), counted(2000, "shard")
    ('1 shard', '2,000 shards')
    """
    return f"{n:,} {name}" if n == 1 else f"{n:,} {name}s"
