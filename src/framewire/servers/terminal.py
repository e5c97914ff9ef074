r"""Where lines are typed and others appear: a pipe, or a terminal with a line editor.

On a terminal the last row belongs to what is being typed. Whatever appears is written over that row, and the row again
below it, with one write: what is being typed is never torn::

    [ann] hello                         [ann] hello
    [Me] hello, a_          ──>         [bob] here I am!
                                        [Me] hello, a_
"""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import threading
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator
from contextlib import suppress
from selectors import EVENT_READ
from typing import Any, Protocol

from ..loop import Loop
from .text import OBEYED, fit, width

try:
    import termios
except ImportError:  # Windows
    termios = None  # type: ignore[assignment]

READ_SIZE = 64 * 1024

ERASE = "\r\x1b[J"
"""Empties the row of the cursor and all below."""

CLEAR = "\x1b[H\x1b[2J"


class Typist(Protocol):
    """Who hears what is typed."""

    def typed(self, lines: list[str]) -> None:
        """Lines were completed; bytes that are no UTF-8 may be in them as surrogates."""

    def ended(self) -> None:
        """There will be no more."""


def new_screen(loop: Loop, typist: Typist, prompt: str) -> Screen:
    """What suits standard input and output."""
    if termios is not None and is_terminal(sys.stdin) and obeys_escapes(sys.stdout):
        return Terminal(loop, typist, prompt)
    return Plain(loop, typist, prompt if is_terminal(sys.stdin) and is_terminal(sys.stdout) else "")


def is_terminal(stream: Any) -> bool:
    return stream is not None and stream.isatty()


def obeys_escapes(stream: Any) -> bool:
    """Whether this is a terminal that erases, moves its cursor and has colours."""
    return os.name == "posix" and is_terminal(stream) and os.environ.get("TERM", "dumb") != "dumb"


class Screen:
    """Standard input and output, as one of the two that follow. It is between `begin` and `end` that they are used."""

    def __init__(self, loop: Loop, typist: Typist, prompt: str) -> None:
        self.loop = loop
        self.typist = typist
        self.prompt = prompt
        self.failure: OSError | None = None
        """Why nothing can be written any more; the loop is stopped then."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # not every encoding has everybody's letters

    def begin(self) -> None:
        raise NotImplementedError

    def end(self) -> None:
        """Leave all as it was."""

    def show(self, lines: list[str]) -> None:
        """Let lines appear."""
        raise NotImplementedError

    def pause(self) -> None:
        """Read no more than has been begun."""

    def resume(self) -> None:
        """Read again."""

    def write(self, text: str) -> None:
        if sys.stdout is not None and self.failure is None:
            try:
                sys.stdout.write(text)
                sys.stdout.flush()
            except OSError as error:
                self.failure = error
                self.loop.stop()


class Plain(Screen):
    """Pipes and files, and terminals that are too plain for more: lines come in, lines go out.

    A thread of its own reads, since a selector can wait neither for a file nor, on Windows, for anything but sockets.
    It reads the next piece when the last one was taken.
    """

    def __init__(self, loop: Loop, typist: Typist, prompt: str) -> None:
        super().__init__(loop, typist, prompt)
        self._rest = b""
        self._taken = threading.Semaphore()
        self._paused = self._waiting = False

    def begin(self) -> None:
        self.write(self.prompt)
        threading.Thread(target=self._read, daemon=True).start()

    def end(self) -> None:
        if self.prompt:
            self.write("\n")

    def show(self, lines: list[str]) -> None:
        text = "".join([f"{line:<{len(self.prompt)}}\n" for line in lines])
        self.write(f"\r{text}{self.prompt}" if self.prompt else text)

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        if self._waiting:
            self._waiting = False
            self._taken.release()

    def _read(self) -> None:
        data = b"\n"
        while data:
            self._taken.acquire()
            try:
                data = os.read(sys.stdin.fileno(), READ_SIZE) if sys.stdin is not None else b""
            except OSError:
                data = b""
            self.loop.call_soon_threadsafe(self._take, data)

    def _take(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if self._rest and (not data or len(self._rest) >= READ_SIZE):  # the end, or what no line can be
            lines.append(self._rest)
            self._rest = b""
        if lines:
            self.typist.typed([line.decode("utf-8", "surrogateescape") for line in lines])
            self.write(self.prompt)
        if not data:
            self.typist.ended()
        elif self._paused:
            self._waiting = True
        else:
            self._taken.release()


class Terminal(Screen):
    """A terminal whose last row is an `Editor`."""

    def __init__(self, loop: Loop, typist: Typist, prompt: str) -> None:
        super().__init__(loop, typist, prompt)
        self._editor = Editor(prompt)
        self._decode = getincrementaldecoder("utf-8")("replace").decode
        self._fd = sys.stdin.fileno()
        self._watching = False
        self._before: list[Any] | None = None  # the modes of the terminal

    def begin(self) -> None:
        self._take()
        self.loop.watch(self._fd, EVENT_READ, self._typed)
        self._watching = True
        self.loop.on_signal(signal.SIGWINCH, self._draw)
        self.loop.on_signal(signal.SIGTSTP, self._suspend)
        self._draw()

    def end(self) -> None:
        if self._before is not None:
            self._unwatch()
            self._give_back()
            self.write("\n")

    def show(self, lines: list[str]) -> None:
        self._draw("".join([f"{line}\n" for line in lines]))

    def _draw(self, above: str = "") -> None:
        row, column = self._editor.view(self._columns())
        forward = f"\x1b[{column}C" if column else ""
        self.write(f"{ERASE}{above}{row}\r{forward}")

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(sys.stdout.fileno()).columns or 80
        except OSError:
            return 80

    def _typed(self) -> None:
        try:
            data = os.read(self._fd, READ_SIZE)
        except OSError:  # the terminal is gone
            data = b""
        text = self._decode(data)
        lines = self._editor.feed(text)
        self._draw(CLEAR * ("\x0c" in text) + "".join([f"{self.prompt}{line}\n" for line in lines]))
        if said := [line for line in lines if line]:
            self.typist.typed(said)
        if not data or self._editor.ended:
            self._unwatch()
            self.typist.ended()

    def _unwatch(self) -> None:
        if self._watching:
            self._watching = False
            self.loop.unwatch(self._fd)

    def _suspend(self) -> None:
        """Stop, as the terminal's user wants it, and go on when continued."""
        self._give_back()
        ours = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, ours)
        self._take()
        self._draw()

    def _take(self) -> None:
        """Have keys come one by one, and nothing shown that is not written here."""
        self._before = termios.tcgetattr(self._fd)
        modes = termios.tcgetattr(self._fd)
        modes[3] &= ~(termios.ICANON | termios.ECHO | termios.IEXTEN)
        modes[6][termios.VMIN], modes[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._fd, termios.TCSANOW, modes)

    def _give_back(self) -> None:
        before, self._before = self._before, None
        if before is not None:
            with suppress(termios.error):  # it is gone
                termios.tcsetattr(self._fd, termios.TCSANOW, before)


KEY = re.compile(r"[^\x00-\x1f\x7f]+|\x1b(?:\[[ -?]*[^ -?]|O.|[^\[O])|[^\x1b]", re.DOTALL)
"""Characters to insert; what a key with a name sends (ECMA-48, section 5.4); a control character."""


class Editor:
    r"""A line being typed, and the keys that change it: those of most shells.

    >>> editor = Editor("> ")
    >>> editor.feed("hello wrld\x1b[D\x1b[D\x1b[Do\nand")
    ['hello world']
    >>> editor.view(80)
    ('> and', 5)

    Nothing here reads or writes anything.
    """

    def __init__(self, prompt: str) -> None:
        self.prompt = prompt
        self.ended = False
        """Whether Ctrl-D has come where nothing was typed."""
        self._text = ""
        self._at = 0  # the cursor
        self._first = 0  # the first character that is shown
        self._pending = ""  # of a key's sequence
        self._history: list[str] = []
        self._chosen = 0  # of the history, or its length: the line being typed
        self._draft = ""  # which waits while another is chosen

    def feed(self, keys: str) -> list[str]:
        """Type these; return the lines that were completed."""
        lines: list[str] = []
        keys = self._pending + keys
        at = 0
        while not self.ended and (match := KEY.match(keys, at)):
            at = match.end()
            key = match[0]
            if key in ("\n", "\r"):
                lines.append(self._complete())
            elif key in ACTIONS:
                ACTIONS[key](self)
            elif key == "\t":
                self._insert(" ")
            elif key >= " ":
                self._insert(OBEYED.sub("", key))
        self._pending = keys[at:]
        return lines

    def view(self, columns: int) -> tuple[str, int]:
        """The prompt and as much of the line as such a terminal has room for; and the column of the cursor."""
        room = max(columns - 1 - width(self.prompt), 2)
        text, at = self._text, self._at
        if width(text) <= room:
            self._first = 0
        elif at < self._first or width(text[self._first : at]) > room:
            self._first = at - fit(reversed(text[:at]), room // 2)
        shown = text[self._first :]
        shown = shown[: fit(shown, room)]
        return self.prompt + shown, width(self.prompt) + width(text[self._first : at])

    def _complete(self) -> str:
        line = self._text
        if line and self._history[-1:] != [line]:
            self._history.append(line)
        self._chosen = len(self._history)
        self._set("")
        return line

    def _set(self, text: str) -> None:
        self._text, self._at = text, len(text)

    def _insert(self, text: str) -> None:
        self._text = self._text[: self._at] + text + self._text[self._at :]
        self._at += len(text)

    def _delete(self, first: int, last: int) -> None:
        self._text = self._text[:first] + self._text[last:]
        self._at = first

    def _before(self) -> int:
        """Where the character in front of the cursor begins, with the marks that it bears."""
        at = max(self._at - 1, 0)
        while at and not width(self._text[at]):
            at -= 1
        return at

    def _behind(self) -> int:
        at = min(self._at + 1, len(self._text))
        while at < len(self._text) and not width(self._text[at]):
            at += 1
        return at

    # What keys do.

    def _left(self) -> None:
        self._at = self._before()

    def _right(self) -> None:
        self._at = self._behind()

    def _home(self) -> None:
        self._at = 0

    def _end(self) -> None:
        self._at = len(self._text)

    def _backspace(self) -> None:
        self._delete(self._before(), self._at)

    def _delete_right(self) -> None:
        self._delete(self._at, self._behind())

    def _delete_or_end(self) -> None:
        if self._text:
            self._delete_right()
        else:
            self.ended = True

    def _delete_to_begin(self) -> None:
        self._delete(0, self._at)

    def _delete_to_end(self) -> None:
        self._delete(self._at, len(self._text))

    def _delete_word(self) -> None:
        before = self._text[: self._at].rstrip()
        self._delete(len(before) - len(before.split(" ")[-1]), self._at)

    def _up(self) -> None:
        self._choose(self._chosen - 1)

    def _down(self) -> None:
        self._choose(self._chosen + 1)

    def _choose(self, chosen: int) -> None:
        """Show another line of the history."""
        if not 0 <= chosen <= len(self._history):
            return
        if self._chosen == len(self._history):
            self._draft = self._text
        self._chosen = chosen
        self._set(self._draft if chosen == len(self._history) else self._history[chosen])


def _keys(*keys: tuple[str, Callable[[Editor], None]]) -> Iterator[tuple[str, Callable[[Editor], None]]]:
    for names, action in keys:
        for name in names.split():
            if len(name) == 1:
                yield chr(ord(name) & 0x1F), action  # with Ctrl
            else:
                yield "\x1b" + name, action


ACTIONS: dict[str, Callable[[Editor], None]] = {
    "\x7f": Editor._backspace,
    **dict(
        _keys(
            ("B [D OD", Editor._left),
            ("F [C OC", Editor._right),
            ("A [H OH [1~ [7~", Editor._home),
            ("E [F OF [4~ [8~", Editor._end),
            ("P [A OA", Editor._up),
            ("N [B OB", Editor._down),
            ("H", Editor._backspace),
            ("D", Editor._delete_or_end),
            ("[3~", Editor._delete_right),
            ("U", Editor._delete_to_begin),
            ("K", Editor._delete_to_end),
            ("W", Editor._delete_word),
        )
    ),
}
"""What a control character does, or the sequence of a key with a name (as xterm and the Linux console send them)."""
