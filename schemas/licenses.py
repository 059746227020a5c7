"""The license that an image table states of an image, and addresses of the web."""

import re

import msgspec

_WEB_ADDRESS = re.compile(r"https?://[^\s\x00-\x1f\x7f\"<>\\]{1,2000}", re.IGNORECASE)


class License(msgspec.Struct, array_like=True, frozen=True, order=True, gc=False):
    """A license by the name and the URL that a raw file states; both empty if it states none."""

    name: str = ""
    url: str = ""


# Reasons of rows of rejected.parquet about a license or an address of an image, which is used.
MALFORMED_LICENSE = "malformed license"  # of a row of a table of licenses, or of the whole table
UNKNOWN_LICENSE_ID = "unknown license"  # that images state, and the table of their file lacks
NOT_A_WEB_ADDRESS = "not a web address"
LICENSE_REASONS = frozenset({MALFORMED_LICENSE, UNKNOWN_LICENSE_ID, NOT_A_WEB_ADDRESS})

#: The license of an image of which no table states one.
UNKNOWN_LICENSE = License()


def is_web_address(text: str) -> bool:
    """Returns whether a text is a link that can be shown: http or https, and no other scheme.

    >>> is_web_address("https://example.org/7.jpg"), is_web_address("javascript:alert(7)")
    (True, False)
    """
    return _WEB_ADDRESS.fullmatch(text) is not None
