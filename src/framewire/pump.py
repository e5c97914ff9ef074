"""From files to a file, through a decoder: what ``encode``, ``decode`` and ``convert`` do.

Strategy. A decoder's window is filled from the input, the payloads that this completes are turned into output by one
function call, and one write sends them on. What is done for a batch may cost microseconds; nothing but the cores and
``bytes`` methods may run for each payload, unless the output asks for it (``--as hex``).
"""

from __future__ import annotations

import argparse
import os
import select
import stat
import sys
from collections.abc import Iterator
from io import FileIO
from time import monotonic
from typing import NoReturn, cast

from . import Decoder
from .arguments import FAILURE, Failure, reason, say
from .errors import FrameTooLarge, FramingError
from .lines import Batch, Render
from .status_line import StatusLine

PROGRESS_SIZE = 32 * 2**20
"""An input has to be larger than this for a progress display."""

PROGRESS_INTERVAL = 0.1


class Pump:
    """From the input files, through a decoder and `render`, to the output.

    Args:
        render: Turns a batch of payloads into what is written; a ValueError refuses one of them.
        lines: The decoder is one of lines: the last may lack its line break.
    """

    def __init__(self, args: argparse.Namespace, decoder: Decoder, render: Render, *, lines: bool = False) -> None:
        self._paths: list[str] = args.files or ["-"]
        self._output = Output(args.output)
        self._decoder = decoder  # and not a FrameReader, which would keep the last line to itself
        self._render = render
        self._lines = lines
        self._max_size: int | None = args.max_size
        if args.output is not None and any(_same_file(path, args.output) for path in self._paths):
            args.usage_error(f"{args.output} is an input and the output; it would be lost")

    def run(self) -> int:
        status = 0
        with self._output:
            for path in self._paths:
                name = "standard input" if path == "-" else path
                try:
                    with _open(0 if path == "-" else path, "rb") as source:
                        self._output.open()  # only now: a misspelt input leaves an old output as it is
                        self._run_one(source)
                except (FramingError, Refused) as error:
                    say(f"{name}: {error}")
                    status = FAILURE
                except BrokenPipeError:
                    raise
                except OSError as error:
                    say(f"{name}: {reason(error)}")
                    status = FAILURE
        return status

    def _run_one(self, source: FileIO) -> None:
        self._decoder.reset()
        count = 0
        with Progress(source, self._output) as progress:
            try:
                for payloads in self._batches(source):
                    size = len(payloads)
                    try:
                        data = self._render(payloads)
                    except ValueError:
                        self._refuse(payloads, count)
                    self._output.write(data)
                    count += size
                    progress.show(count)
            except FrameTooLarge:
                if not self._lines:
                    raise
                raise Refused(f"line {count + 1} is over the limit of {self._max_size} bytes") from None

    def _batches(self, source: FileIO) -> Iterator[Batch]:
        decoder = self._decoder
        while size := _read(source, decoder.get_buffer()):
            payloads = decoder.buffer_updated(size)
            if payloads:
                yield payloads
        if self._lines and decoder.buffered_size:
            yield decoder.feed(b"\n")
        if payloads := decoder.feed_eof():
            yield payloads
            decoder.feed_eof()  # raises, if an error stands behind them

    def _refuse(self, payloads: Batch, count: int) -> NoReturn:
        """Write the payloads before the one that cannot be written, and say which it is."""
        try:
            for payload in payloads:
                self._output.write(self._render([payload]))
                count += 1
        except ValueError as error:
            raise Refused(f"{'line' if self._lines else 'frame'} {count + 1}: {error}") from None
        raise AssertionError("a batch was refused, and every payload of it accepted")


class Refused(Exception):
    """A payload that cannot be written in the format of the output."""


class Output:
    """Standard output, or the file of that name: written at once, whole, and closed with its errors heard."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._name = path or "standard output"
        self._file: FileIO | None = None

    def open(self) -> None:
        if self._file is None:
            try:
                self._file = _open(self._path or 1, "wb")
            except OSError as error:
                raise Failure(f"{self._name}: {reason(error)}") from None

    def write(self, data: bytes) -> None:
        self.open()
        assert self._file is not None
        left: bytes | memoryview = data
        try:
            while (written := self._file.write(left)) != len(left):
                if written is None:  # a pipe that somebody has made non-blocking
                    select.select([], [self._file], [])
                else:
                    left = memoryview(left)[written:]
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Failure(f"{self._name}: {reason(error)}") from None

    def isatty(self) -> bool:
        return self._file is not None and self._file.isatty()

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError as failed:
                raise Failure(f"{self._name}: {reason(failed)}") from None


class Progress(StatusLine):
    """A line on the terminal that tells how far a large file has been read; nothing where that would be in the way."""

    def __init__(self, source: FileIO, output: Output) -> None:
        super().__init__()
        self._source = source
        self._next = float("inf")
        if sys.stderr is None or not sys.stderr.isatty() or output.isatty():
            return
        status = os.fstat(source.fileno())
        if stat.S_ISREG(status.st_mode) and status.st_size > PROGRESS_SIZE:
            self._size = status.st_size
            self._begin = source.tell()
            self._started = monotonic()
            self._next = self._started + PROGRESS_INTERVAL

    def show(self, frame_count: int) -> None:
        if (now := monotonic()) >= self._next:
            self._next = now + PROGRESS_INTERVAL
            at = self._source.tell()
            speed = (at - self._begin) / (now - self._started) / 1e6
            self.write(f"{min(100 * at // self._size, 100):3d} %  {speed:,.0f} MB/s  {frame_count:,} frames")


def _open(file: str | int, mode: str) -> FileIO:
    return cast(FileIO, open(file, mode, buffering=0, closefd=not isinstance(file, int)))


def _read(source: FileIO, window: memoryview) -> int:
    size = source.readinto(window)
    while size is None:
        select.select([source], [], [])
        size = source.readinto(window)
    return size


def _same_file(path: str, output: str) -> bool:
    try:
        one, other = os.stat(0 if path == "-" else path), os.stat(output)
    except OSError:
        return False
    return stat.S_ISREG(one.st_mode) and os.path.samestat(one, other)
