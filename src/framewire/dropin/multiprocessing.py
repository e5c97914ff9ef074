"""``multiprocessing.connection`` on framewire: the same classes and functions, the same bytes, fewer instructions.

Import from here what a program imports from there::

    from framewire.dropin.multiprocessing import Client, Listener, Pipe

or, for what ``multiprocessing`` makes itself (queues, managers, pools), have it use `Connection` from now on::

    import framewire.dropin.multiprocessing
    framewire.dropin.multiprocessing.install()        # uninstall() undoes it; "with patched():" does both

The peer may be either: the wire is that of the standard library. Child processes that are spawned, not forked, have to
``install()`` for themselves; without it they get the standard class, as whoever is sent a connection does.

What differs from the standard class:

- A length that is negative and not -1 is an OSError; there it is an empty message.
- Memory follows the bytes that came : at most the larger of 64 KiB and twice as much is reserved; there a header
  reserves what it says.
- A stream that ends between a header and its body is an OSError; there it is an EOFError, as at a clean end.
- An exception in the middle of a message (from a signal's handler, or BlockingIOError) loses nothing that has come:
  the next call goes on. If a message has gone out in part, nothing more can be sent; there the stream is garbage.
- ``recv_bytes_into`` writes to the very byte of a buffer whose items are larger than that.

Not for Windows, whose pipes carry messages by themselves: `UnsupportedVersion`.
"""

from __future__ import annotations

import io
import math
import multiprocessing
import select
import sys
from multiprocessing import connection, reduction
from typing import TYPE_CHECKING, Any, NoReturn

from .._core import CORE
from ..errors import looks_like
from . import UnsupportedVersion, _versions
from ._patch import Patch

if TYPE_CHECKING or CORE == "py":
    from ._pipe_py import pipe_recv, pipe_recv_into, pipe_send
else:
    from .._core_c import pipe_recv, pipe_recv_into, pipe_send

if TYPE_CHECKING:
    from multiprocessing.connection import _Address

    from .._wire import BytesLike

    Standard = connection.Connection[Any, Any]
else:
    Standard = connection.Connection  # not what an install() puts there

__all__ = [
    "SEAMS",
    "VERSIONS",
    "Client",
    "Connection",
    "Listener",
    "Pipe",
    "from_connection",
    "install",
    "installed",
    "patched",
    "uninstall",
]

VERSIONS = _versions.CPYTHON
"""The CPython versions, first and last, whose ``multiprocessing.connection`` this module is known to fit."""

SEAMS = ("Connection",)
"""What `install` replaces in ``multiprocessing.connection``."""


def _check_platform() -> None:
    if sys.platform == "win32":
        raise UnsupportedVersion("framewire.dropin.multiprocessing is not for Windows, whose pipes keep messages apart")


class Connection(Standard):
    """One end of a connection, as ``multiprocessing.connection.Connection``.

    ::

        0x00000003 | a b c                                   a length of 4 bytes, signed, big-endian; the body
        0xFFFFFFFF | 0x0000000080000000 | 2 GiB of body      -1 and 8 bytes, unsigned, from 2 GiB on

    A message is sent with one write, if the system takes it whole. Not one byte behind the current message is ever
    read.

    Args:
        handle: A descriptor open for reading, writing or both. It now belongs to this object, which closes it.
        readable, writable: What it can be used for.

    Raises:
        ValueError, TypeError: As the standard class.
        UnsupportedVersion: On Windows.
    """

    if TYPE_CHECKING:  # of the private base class
        _handle: int
        _readable: bool
        _writable: bool

        def _check_closed(self) -> None: ...
        def _check_readable(self) -> None: ...

    _partial = b""  # what has come of a message whose receiving was interrupted
    _cut = False  # a message has gone out in part

    def __init__(self, handle: int, readable: bool = True, writable: bool = True) -> None:
        _check_platform()
        super().__init__(handle, readable, writable)

    def send_bytes(self, buf: BytesLike, offset: int = 0, size: int | None = None) -> None:
        """Send `size` bytes of any contiguous bytes-like object, from `offset` on, as one message.

        Raises:
            ValueError: If that is not inside the object.
            BlockingIOError: If the descriptor is non-blocking and full.
            OSError: If the connection is closed, read-only or lost, or an earlier message went out in part.
        """
        handle = self._handle
        if handle is None or not self._writable:
            self._check_closed()
            self._check_writable()
        pipe_send(self, handle, buf if type(buf) is bytes and not offset and size is None else _part(buf, offset, size))

    def send(self, obj: Any) -> None:
        """Send an object that can be pickled.

        Raises:
            BlockingIOError, OSError: As `send_bytes`.
        """
        self._check_closed()
        self._check_writable()
        pipe_send(self, self._handle, reduction.ForkingPickler.dumps(obj))

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """Receive one message.

        Args:
            maxlength: Most bytes in it. A longer one is an OSError, and nothing more can be received.

        Raises:
            EOFError: At the end of the stream, between two messages.
            BlockingIOError: If the descriptor is non-blocking and the message not there; what has come of it is kept.
            OSError: If the connection is closed, write-only or lost, the stream ends inside a message, or the length is
                over the limit, or none; after the last two nothing more can be received.
            ValueError: If `maxlength` is negative.
        """
        handle = self._handle
        if handle is None or not self._readable:
            self._check_closed()
            self._check_readable()
        if maxlength is not None and maxlength < 0:
            raise ValueError("negative maxlength")
        if self._partial:
            return pipe_recv(self, handle, maxlength, self._partial)
        return pipe_recv(self, handle, maxlength)

    def recv_bytes_into(self, buf: Any, offset: int = 0) -> int:
        """Receive one message into a writable buffer, from byte `offset` on; return its size.

        Raises:
            BufferTooShort: If it does not fit; the message is its first argument.
            EOFError, BlockingIOError, OSError: As `recv_bytes`.
            ValueError: If `offset` is outside the buffer.
        """
        self._check_closed()
        self._check_readable()
        with memoryview(buf) as whole:
            if offset < 0:
                raise ValueError("negative offset")
            if offset > whole.nbytes:
                raise ValueError("offset too large")
            if whole.readonly:
                raise TypeError("recv_bytes_into() needs a writable buffer")
            with whole.cast("B") if whole.nbytes else memoryview(bytearray()) as view, view[offset:] as target:
                result = pipe_recv_into(self, self._handle, target, self._partial)
        if isinstance(result, bytes):
            raise multiprocessing.BufferTooShort(result)
        return result

    def recv(self) -> Any:
        """Receive an object that the peer has sent with ``send``: unpickles it, so the peer must be trusted.

        Raises:
            EOFError, BlockingIOError, OSError: As `recv_bytes`.
        """
        return reduction.ForkingPickler.loads(self.recv_bytes())

    # What the standard class is made of, for those who call or override it.

    def _send_bytes(self, buf: BytesLike) -> None:
        pipe_send(self, self._handle, _part(buf, 0, None))

    def _recv_bytes(self, maxsize: int | None = None) -> io.BytesIO:
        buf = io.BytesIO(pipe_recv(self, self._handle, maxsize, self._partial))
        buf.seek(0, io.SEEK_END)  # as one that was written to
        return buf

    if hasattr(select, "poll"):

        def _poll(self, timeout: float | None) -> bool:
            poll = select.poll()
            poll.register(self._handle, select.POLLIN)
            return bool(poll.poll(None if timeout is None else math.ceil(max(timeout, 0) * 1000)))

    def _check_writable(self) -> None:
        if self._cut:
            raise OSError("an earlier message was interrupted and went out in part: nothing can follow it")
        super()._check_writable()  # type: ignore[misc]

    # What pipe_send() and pipe_recv() tell.

    def _resumed(self) -> None:
        self._partial = b""

    def _received_in_part(self, partial: bytes | None) -> None:
        if partial is None:
            self._readable = False
        else:
            self._partial = partial

    def _sent_in_part(self) -> None:
        self._cut = True
        self._writable = False

    def _refused(self, head: bytes) -> NoReturn:
        if self._writable:
            self._readable = False
        else:
            self.close()
        size = int.from_bytes(head[4:] or head, "big", signed=len(head) == 4)
        look = looks_like(head)
        raise OSError(f"bad message length: {size}" + (f" (these bytes look like {look}: {head!r})" if look else ""))

    def _ended(self, head_size: int, received: int, size: int) -> NoReturn:
        if not head_size:
            raise EOFError
        inside = f"its header, after {head_size} bytes" if size < 0 else f"its body, after {received} of {size} bytes"
        raise OSError(f"got end of file during message: in {inside}")


def _part(buf: BytesLike, offset: int, size: int | None) -> memoryview:
    """Bytes of a buffer, as the standard class takes them."""
    view = memoryview(buf)
    if view.itemsize > 1 or view.ndim != 1 or not view.c_contiguous:
        view = view.cast("B") if view.nbytes else memoryview(b"")  # TypeError if it is not contiguous
    n = view.nbytes
    if offset < 0:
        raise ValueError("offset is negative")
    if n < offset:
        raise ValueError("buffer length < offset")
    if size is None:
        size = n - offset
    elif size < 0:
        raise ValueError("size is negative")
    elif offset + size > n:
        raise ValueError("buffer length < offset + size")
    return view[offset : offset + size]


def from_connection(conn: connection.Connection[Any, Any]) -> Connection:
    """Take over a connection of the standard library: `conn` is closed, its descriptor lives on in the one returned.

    Raises:
        OSError: If it is closed.
        TypeError: If it is not a ``multiprocessing.connection.Connection``.
    """
    if isinstance(conn, Connection):
        return conn
    if not isinstance(conn, Standard):  # type: ignore[misc]
        raise TypeError(f"from_connection() takes a multiprocessing.connection.Connection, not {type(conn).__name__}")
    new = Connection(conn.fileno(), conn.readable, conn.writable)
    conn._handle = None  # type: ignore[attr-defined]
    return new


class Listener(connection.Listener):
    """As ``multiprocessing.connection.Listener``; `accept` returns a `Connection`."""

    def __init__(
        self,
        address: _Address | None = None,
        family: str | None = None,
        backlog: int = 1,
        authkey: bytes | None = None,
    ) -> None:
        _check_platform()
        super().__init__(address, family, backlog, authkey)

    def accept(self) -> Connection:
        """Wait for a client, and for its proof that it knows the key if there is one."""
        return from_connection(super().accept())


def Client(address: _Address, family: str | None = None, authkey: bytes | None = None) -> Connection:  # noqa: N802
    """As ``multiprocessing.connection.Client``; returns a `Connection`."""
    _check_platform()
    return from_connection(connection.Client(address, family, authkey))


def Pipe(duplex: bool = True) -> tuple[Connection, Connection]:  # noqa: N802
    """As ``multiprocessing.connection.Pipe``; returns two `Connection`: both ways, or the reading end and the other."""
    _check_platform()
    one, other = connection.Pipe(duplex)
    return from_connection(one), from_connection(other)


# Another process makes of it what is its multiprocessing.connection.Connection: it need not know framewire.
reduction.register(Connection, connection.reduce_connection)  # type: ignore[attr-defined]


def _changes() -> list[tuple[Any, str, Any]]:
    _check_platform()
    if sys.implementation.name != "cpython" or not VERSIONS[0] <= sys.version_info[:2] <= VERSIONS[1]:
        found = f"{sys.implementation.name} {'.'.join(map(str, sys.version_info[:2]))}"
        raise UnsupportedVersion(f"multiprocessing.connection of {found}; known are those of CPython 3.10 to 3.15")
    return [(connection, "Connection", Connection)]


_patch = Patch(_changes)
install = _patch.install
uninstall = _patch.uninstall
installed = _patch.installed
patched = _patch.patched
