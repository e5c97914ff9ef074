"""Text that strangers send, made fit for a terminal; and how much room it takes there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from unicodedata import category, east_asian_width

OBEYED = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Characters that a terminal obeys: all control characters but the tab, line separators, and changes of direction."""


def visible(text: str) -> str:
    r"""The text with escapes for the characters that a terminal would obey.

    >>> visible("\x1b[2Jgone")
    '\\x1b[2Jgone'
    """
    return OBEYED.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def to_text(payload: bytes) -> str:
    r"""The text of a payload, whatever it holds.

    >>> to_text(b"caf\xc3\xa9, caf\xe9")
    'café, caf\\xe9'
    """
    return visible(payload.decode("utf-8", "backslashreplace"))


def width(text: str) -> int:
    """Columns that a terminal uses for this: two for wide characters, none for marks on other characters."""
    if text.isascii():
        return len(text)
    return sum([0 if category(one) in ("Mn", "Me", "Cf") else 1 + (east_asian_width(one) in "WF") for one in text])


def fit(text: Iterable[str], columns: int) -> int:
    """How many of these characters have room in so many columns."""
    count = 0
    for one in text:
        columns -= width(one)
        if columns < 0:
            break
        count += 1
    return count
