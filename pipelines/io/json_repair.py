r"""Two errors that other tools write into JSON: numbers that are not finite, and lone surrogates.

Python writes ``NaN`` and ``Infinity``, which JSON does not have, and half of a character beyond
U+FFFF as ``"\ud83d"``, which is not Unicode text. msgspec refuses a whole file for one of them.
After the repair, only the record that has one is affected: a number that is not finite is ``null``,
and a string with a lone surrogate is not UTF-8, so that decoding its record fails.
"""

import mmap
import re
import tempfile

# A string, or a number that JSON does not have. Backslashes are in strings only.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|-?Infinity|NaN', re.DOTALL)
_PAIR = rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_ESCAPE = re.compile(_PAIR + rb"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.", re.DOTALL)
_COLON = re.compile(rb"\s*:")

#: What a lone surrogate becomes in a key: a character that no text has.
REPAIRED_KEY = "\ufffe"
_SAME_LENGTH = rb"\ufffe"  # a character for a surrogate, both of which have 6 bytes
_NOT_UTF8 = b"\xff"
_COPY_BYTES = 16 << 20  # copied at once


def repaired(content: bytes) -> bytes:
    r"""Returns JSON without the two errors; equal bytes if it has none.

    >>> repaired(rb'{"area": NaN, "name": "\ud83d \ud83d\ude00", "\ud83d": 1}')
    b'{"area": null, "name": "\xff \\ud83d\\ude00", "\\ufffe": 1}'
    """

    def repair(match: re.Match[bytes]) -> bytes:
        token = match[0]
        if not token.startswith(b'"'):
            return b"null"
        is_key = _COLON.match(content, match.end()) is not None
        surrogate = _SAME_LENGTH if is_key else _NOT_UTF8
        return _ESCAPE.sub(lambda escape: surrogate if escape[1] else escape[0], token)

    return _TOKEN.sub(repair, content)


def scannable(content: mmap.mmap) -> mmap.mmap | None:
    """Returns a copy of a file in which valid JSON of the same length replaces both errors.

    So the file can be scanned for the positions of its records; `repaired` then repairs each. The
    copy is in a temporary file. None if there is nothing to replace.
    """
    patches = [
        (match.start(), patched)
        for match in _TOKEN.finditer(content)
        if (patched := _of_same_length(match[0])) != match[0]
    ]
    if not patches:
        return None
    with tempfile.TemporaryFile() as file:
        for start in range(0, len(content), _COPY_BYTES):
            file.write(content[start : start + _COPY_BYTES])
        for start, patched in patches:
            file.seek(start)
            file.write(patched)
        file.flush()
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _of_same_length(token: bytes) -> bytes:
    if not token.startswith(b'"'):
        return b"0".ljust(len(token))
    if b"\\" not in token:
        return token
    return _ESCAPE.sub(lambda escape: _SAME_LENGTH if escape[1] else escape[0], token)
