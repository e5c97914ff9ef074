"""How far it is: a line on the terminal, and nothing where there is none."""

from __future__ import annotations

import sys
from time import monotonic

from ..status_line import StatusLine

BAR = 24
INTERVAL = 0.1


class Progress(StatusLine):
    """``decode 32 B   [######------------------]  24 %``, on standard error; gone when it is over."""

    def __init__(self) -> None:
        super().__init__()
        self._shows = sys.stderr is not None and sys.stderr.isatty()
        self._next = 0.0

    def show(self, what: str, share: float) -> None:
        if self._shows and (now := monotonic()) >= self._next:
            self._next = now + INTERVAL
            self.write(f"{what:<26} [{'#' * int(share * BAR):-<{BAR}}] {100 * share:3.0f} %")
