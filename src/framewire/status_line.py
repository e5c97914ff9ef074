"""A line on the terminal that tells how far something is: written over, and gone at the end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self


class StatusLine:
    """The line, on standard error: of a ``with`` block, at whose end it is wiped out."""

    def __init__(self) -> None:
        self._width = 0

    def write(self, text: str) -> None:
        """Show this text in the place of the last one."""
        print(f"\r{text:<{self._width}}", end="\r" if not text else "", file=sys.stderr, flush=True)
        self._width = len(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._width:
            self.write("")
