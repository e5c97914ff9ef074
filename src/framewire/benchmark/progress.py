"""How far it is: a line on the terminal, and nothing where there is none."""

from __future__ import annotations

import sys
from time import monotonic

BAR = 24
INTERVAL = 0.1


class Progress:
    """``decode 32 B   [######------------------]  24 %``, on standard error; gone when it is over."""

    def __init__(self) -> None:
        self._shows = sys.stderr is not None and sys.stderr.isatty()
        self._next = 0.0
        self._width = 0

    def show(self, what: str, share: float) -> None:
        if self._shows and (now := monotonic()) >= self._next:
            self._next = now + INTERVAL
            self._print(f"{what:<26} [{'#' * int(share * BAR):-<{BAR}}] {100 * share:3.0f} %")

    def _print(self, text: str) -> None:
        print(f"\r{text:<{self._width}}", end="\r" if not text else "", file=sys.stderr, flush=True)
        self._width = len(text)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._width:
            self._print("")
