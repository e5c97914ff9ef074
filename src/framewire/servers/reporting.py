"""What a server tells whoever runs it, and how it is run: a log, a line of statistics, signals.

All of it goes to standard error, which it may share with a terminal: there the line of statistics stays the last one,
and what is logged appears above it.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import suppress
from time import monotonic, strftime
from typing import TYPE_CHECKING

from ..loop import Group, Loop, Stats

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from typing_extensions import Self

logger = logging.getLogger("framewire")

ERASE = "\r\x1b[K"
"""Brings the cursor of a terminal to the begin of its line, and empties that."""

MANY_FILES = 4096
"""Open files with which a server can call itself fit for thousands of connections."""


def setup_logging(verbosity: int = 0) -> None:
    """Write the log to standard error: ``09:05:07 127.0.0.1:48953 connected``.

    Args:
        verbosity: 0 for a line at each connect, disconnect and refusal; more for all there is, less for warnings only.
    """
    for handler in [handler for handler in logger.handlers if handler.get_name() == __name__]:
        logger.removeHandler(handler)
    handler = _StandardError()
    handler.set_name(__name__)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if verbosity == 0 else logging.DEBUG if verbosity > 0 else logging.WARNING)


class _StandardError(logging.Handler):
    """Writes to what standard error is at that moment; it may be redirected, closed, or nothing at all."""

    def emit(self, record: logging.LogRecord) -> None:
        if sys.stderr is not None:
            with suppress(OSError, ValueError):  # nobody reads it any more
                print(self.format(record), file=sys.stderr, flush=True)


class StatsLine:
    """Tells every few seconds what a loop does: ``3 connections, in 0 msg/s 0 B/s, out...``.

    A context manager: the line is there while the loop runs. On a terminal one line is refreshed; anything else gets a
    line each time, with the time of day.

    Args:
        loop: Whose connections these are.
        seconds: From one time to the next.
        groups: Whose drops count.
    """

    def __init__(self, loop: Loop, seconds: float, *groups: Group) -> None:
        self._loop = loop
        self._seconds = seconds
        self._groups = groups
        self._stream: TextIO | None = sys.stderr
        self._refreshes = self._stream is not None and self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._shown = ""
        self._before = loop.stats()
        self._then = monotonic()
        self._timer = loop.call_later(seconds, self._tell)

    def __enter__(self) -> Self:
        if self._refreshes:
            for handler in logger.handlers:
                handler.addFilter(self._step_aside)
        return self

    def __exit__(self, *raised: object) -> None:
        self._timer.cancel()
        if self._refreshes:
            for handler in logger.handlers:
                handler.removeFilter(self._step_aside)
            self._print(ERASE if self._shown else "")

    def _tell(self) -> None:
        self._timer = self._loop.call_later(self._seconds, self._tell)
        stats, now = self._loop.stats(), monotonic()
        text = describe(self._before, stats, now - self._then, self._groups)
        self._before, self._then = stats, now
        if self._refreshes:
            self._shown = text
            self._draw()
        else:
            self._print(f"{strftime('%H:%M:%S')} {text}\n")

    def _draw(self) -> None:
        assert self._stream is not None
        width = 0
        with suppress(OSError):
            width = os.get_terminal_size(self._stream.fileno()).columns
        self._print(ERASE + self._shown[: (width or 80) - 1])  # one column less: it must not wrap

    def _step_aside(self, record: logging.LogRecord) -> bool:
        """Something is about to be logged: make room, and come back behind it."""
        if self._shown:
            self._print(ERASE)
            self._loop.call_soon(self._draw)
        return True

    def _print(self, text: str) -> None:
        if self._stream is not None and text:
            with suppress(OSError, ValueError):  # nobody reads it any more
                self._stream.write(text)
                self._stream.flush()


def describe(before: Stats, now: Stats, seconds: float, groups: tuple[Group, ...] = ()) -> str:
    """What happened between two moments, in a line."""
    parts = [counted(now.channel_count, "connection")]
    for name in ("received", "sent"):
        count, size = (
            (getattr(now, f"{name}_{unit}") - getattr(before, f"{name}_{unit}")) / max(seconds, 1e-3)
            for unit in ("count", "size")
        )
        parts.append(f"{'in' if name == 'received' else 'out'} {count:,.0f} msg/s {with_unit(size)}/s")
    parts.append(f"queued {with_unit(now.queued_size)}")
    parts.append(f"dropped {sum(group.dropped_count for group in groups):,}")
    if cut := sum(group.disconnected_count for group in groups):
        parts.append(f"cut off {cut:,}")
    return ", ".join(parts)


def counted(count: int, noun: str) -> str:
    """``1 connection``, ``1,234 connections``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def with_unit(size: float) -> str:
    """A number of bytes, to three digits: ``0 B``, ``1.5 kB``, ``20 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5 or unit == "GB":
            break
        size /= 1000
    return f"{size:.1f} {unit}" if size < 9.95 and unit != "B" else f"{size:,.0f} {unit}"


class StopSignals:
    """Has SIGINT and SIGTERM call `stop`, which shall bring about the end of a loop; the second one stops it at once.

    To be made before the server listens: who sees that it does may send a signal.
    """

    def __init__(self, loop: Loop, stop: Callable[[], object]) -> None:
        self._loop = loop
        self._stop = stop
        self._received: list[int] = []
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.on_signal(signum, self._on_signal, signum)

    @property
    def status(self) -> int:
        """The exit status: 130 after SIGINT, else 0."""
        return 128 + signal.SIGINT if signal.SIGINT in self._received else 0

    def _on_signal(self, signum: int) -> None:
        self._received.append(signum)
        if len(self._received) == 1:
            logger.info("%s: sending what is left; again to stop at once", signal.Signals(signum).name)
            self._stop()
        else:
            self._loop.stop()


def allow_many_files() -> None:
    """Let this process open as many files, hence connections, as it may; say so if these are few."""
    try:
        import resource
    except ImportError:  # Windows, where sockets are no files
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # macOS has a lower limit that it does not tell
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < MANY_FILES:
        logger.warning("no more than about %d connections: that is the limit of open files (ulimit -Hn)", soft)
