"""``websockets`` on framewire: the same connections, the same bytes, the same errors, fewer instructions a frame.

::

    import framewire.dropin.websockets
    framewire.dropin.websockets.install()        # uninstall() undoes it; "with patched():" does both

Every connection that begins after that, of clients and servers, under asyncio, threads or trio, has its frames read and
written by framewire. `installed` and ``websockets.frames.Frame.parse.__module__`` tell whether it is so, and each
install is logged at the level DEBUG. Three seams, of which one at a time can be installed:

========== ===================================== =======================================================================
seam       what is replaced                      what for
========== ===================================== =======================================================================
"frame"    ``Frame.parse``, ``Frame.serialize``  the default
"protocol" those, ``Protocol.parse`` and its     faster; websockets 16 and 17 (an older one gets the frame seam)
           ``receive_data``
"mask"     ``apply_mask``, that of ``legacy``    where websockets has come without its C extension; else it gains
           too if it is imported by then         nothing
========== ===================================== =======================================================================

What it gives end to end, as processor time of a server (asyncio, loopback, CPython 3.11, websockets 17; measured by
``bench/dropin_websockets.py``): for each message received 1.6 times less at the frame seam and 2.5 times less at the
protocol seam (64 B to 1 KiB), about 2 times less for 1 MiB; 1.1 and 1.3 times less where every message is answered
before the next one comes. It is not ten times: the rest is the event loop, websockets' queue of messages, and
``recv()``. With an extension (compression is websockets' default) or a logger at DEBUG a connection is served at the
frame seam; compressed messages of 64 B take 1.3 times less.

**The first step of a bug report to websockets is** ``uninstall()``: does it happen without framewire, too?

What is the host's stays the host's: its Frame and Opcode, its exceptions and their words, its keys from
``secrets.token_bytes``. Whatever is not a plain whole frame (an error, a close frame, the end of the stream, a subclass
with methods of its own) is read by its own code, from the first byte of the frame on. What differs:

- The bytes of a frame that is not whole yet stay in ``reader.buffer``; the host takes them out field by field.
- An interrupt (a signal's handler that raises) in the middle of a chunk loses nothing at the protocol seam.
- A connection that is open when ``install()`` or ``uninstall()`` is called changes with its next frame; at the protocol
  seam it goes on reading as it began.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from threading import RLock
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, cast

from .._core import CORE
from . import UnsupportedVersion, _versions
from ._patch import Patch

if TYPE_CHECKING:
    from .._wire import BytesLike
if TYPE_CHECKING or CORE == "py":
    from ._websockets_py import WebsocketsFraming, websockets_apply_mask
else:
    from .._core_c import WebsocketsFraming, websockets_apply_mask

__all__ = ["SEAMS", "VERSIONS", "FramewireMixin", "Seam", "install", "installed", "patched", "uninstall"]

Seam = Literal["mask", "frame", "protocol"]

VERSIONS = _versions.WEBSOCKETS
"""The versions of websockets, first and last, that this module is known to fit."""

PROTOCOL_VERSIONS: _versions.Versions = ((16,), VERSIONS[1])
"""Those whose ``Protocol.parse`` is done here."""

SEAMS = ("frame", "protocol", "mask")
"""What `install` can replace."""

Change = tuple[Any, str, Any]

_logger = logging.getLogger(__name__)


def _version() -> str:
    """The version of websockets, if it is one that is known to fit."""
    version: str = import_module("websockets.version").version
    _versions.check("websockets", version, VERSIONS)
    return version


def _does_protocol() -> bool:
    return _versions.known(_version(), PROTOCOL_VERSIONS)


def _framing(send_frame: Any = None) -> WebsocketsFraming:
    frames, protocol = import_module("websockets.frames"), import_module("websockets.protocol")
    return WebsocketsFraming(frames, protocol, send_frame or protocol.Protocol.send_frame)


# What stands in the place of the host's methods. They are generators, as those are: what drives them yields to the
# caller of receive_data() for more bytes.


def _frame_parse(framing: WebsocketsFraming) -> Any:
    frames, streams = import_module("websockets.frames"), import_module("websockets.streams")
    frame_class = frames.Frame
    host = vars(frame_class)["parse"].__func__
    host_read_exact = streams.StreamReader.read_exact
    take = framing.take

    def parse(
        cls: Any,
        read_exact: Callable[[int], Generator[None, None, Any]],
        *,
        mask: bool,
        max_size: int | None = None,
        extensions: Any = None,
    ) -> Generator[None, None, Any]:
        """As ``websockets.frames.Frame.parse``: reads one frame."""
        if getattr(read_exact, "__func__", None) is host_read_exact:
            reader = read_exact.__self__  # type: ignore[attr-defined]
            while (frame := take(cls, reader, mask, max_size, bool(extensions))) is None:
                yield
            if frame is not False:
                if extensions:
                    for extension in reversed(extensions):
                        frame = extension.decode(frame, max_size=max_size)
                if extensions or cls is not frame_class:
                    frame.check()
                return frame
        return (yield from host(cls, read_exact, mask=mask, max_size=max_size, extensions=extensions))

    return classmethod(parse)


def _frame_serialize(framing: WebsocketsFraming) -> Any:
    host = import_module("websockets.frames").Frame.serialize
    serialize_plain = framing.serialize

    def serialize(self: Any, *, mask: bool, extensions: Any = None) -> bytes:
        """As ``websockets.frames.Frame.serialize``: the bytes of this frame."""
        data = serialize_plain(self, mask, extensions)
        return host(self, mask=mask, extensions=extensions) if data is None else data

    return serialize


def _protocol_parse(framing: WebsocketsFraming) -> Any:
    host = import_module("websockets.protocol").Protocol.parse
    take_all = framing.take_all

    def parse(self: Any) -> Generator[None, None, None]:
        """As ``websockets.protocol.Protocol.parse``: reads frames until the connection ends."""
        self._framewire_parser = self.parser  # this generator, or one that stands on it
        while take_all(self):
            yield
        self._framewire_parser = None
        yield from host(self)

    return parse


def _protocol_receive_data(framing: WebsocketsFraming) -> Any:
    take_all = framing.take_all

    def receive_data(self: Any, data: BytesLike) -> None:
        """As ``websockets.protocol.Protocol.receive_data``, and saves the trip through the buffer and the parser."""
        if getattr(self, "_framewire_parser", None) is not self.parser:
            self.reader.feed_data(data)
        elif take_all(self, data):
            return
        next(self.parser)

    return receive_data


def _frame_changes() -> list[Change]:
    _version()
    framing = _framing()
    frame_class = import_module("websockets.frames").Frame
    return [(frame_class, "parse", _frame_parse(framing)), (frame_class, "serialize", _frame_serialize(framing))]


def _protocol_changes() -> list[Change]:
    framing, protocol_class = _framing(), import_module("websockets.protocol").Protocol
    return [
        *_frame_changes(),
        (protocol_class, "parse", _protocol_parse(framing)),
        (protocol_class, "receive_data", _protocol_receive_data(framing)),
    ]


def _mask_changes() -> list[Change]:
    _version()
    owners = [import_module("websockets.frames"), sys.modules.get("websockets.legacy.framing")]
    return [(owner, "apply_mask", websockets_apply_mask) for owner in owners if owner]


_lock = RLock()
_patches = {"mask": Patch(_mask_changes), "frame": Patch(_frame_changes), "protocol": Patch(_protocol_changes)}


def install(seam: Seam = "frame") -> None:
    """Have websockets use framewire. Once it is done, calling again changes nothing.

    Args:
        seam: Where: see above. Of "protocol", websockets 12 to 15 get "frame", and `installed` says so.

    Raises:
        UnsupportedVersion: If websockets is of a version that is not known to fit; nothing was changed.
        RuntimeError: If another seam is installed. Whoever chose that one may rely on it: ``uninstall()`` comes first.
        ValueError: If there is no such seam.
    """
    if seam not in _patches:
        raise ValueError(f"no such seam: {seam!r}; there are {', '.join(map(repr, _patches))}")
    with _lock:
        wanted = "frame" if seam == "protocol" and not _does_protocol() else seam
        before = installed()
        if before and before != wanted:
            raise RuntimeError(f"the seam {before!r} is installed and not {wanted!r}: uninstall() first")
        _patches[wanted].install()
        if not before:
            version = import_module("websockets.version").version
            _logger.debug("websockets %s uses framewire (core %s) at the seam %r", version, CORE, wanted)


def uninstall() -> None:
    """Put back the very objects that `install` has replaced; without an `install` it does nothing.

    Raises:
        RuntimeError: If somebody else has replaced one of them since, and would lose it; nothing was changed.
    """
    with _lock:
        seam = installed()
        if seam:
            _patches[seam].uninstall()
            _logger.debug("websockets is as it was, without framewire")


def installed() -> Seam | None:
    """The seam that is installed; None if websockets is as it was."""
    for seam, patch in _patches.items():
        if patch.installed():
            return cast(Seam, seam)
    return None


@contextmanager
def patched(seam: Seam = "frame") -> Iterator[None]:
    """Have websockets use framewire inside a ``with`` block, and afterwards what was there before it.

    Blocks of the same seam can be nested; inside or after an `install` of it one changes nothing.

    Raises:
        UnsupportedVersion, RuntimeError, ValueError: As `install`.
    """
    before = installed()
    install(seam)
    try:
        yield
    finally:
        if not before:
            uninstall()


class _RightAboveProtocol(type):
    """Sorts `FramewireMixin` right above ``Protocol``, wherever among the bases it was named: that is where the
    ``parse()`` of ServerProtocol and ClientProtocol goes on after the handshake."""

    def mro(cls) -> list[type]:
        order = super().mro()
        if len(order) > 2:  # not the mixin itself
            _check_mixin(order)
            order.remove(FramewireMixin)
            order.insert(order.index(import_module("websockets.protocol").Protocol), FramewireMixin)
        return order


def _check_mixin(order: list[type]) -> None:
    if not _does_protocol():
        raise UnsupportedVersion("FramewireMixin fits websockets 16 and 17")
    if import_module("websockets.protocol").Protocol not in order:
        raise TypeError("FramewireMixin is for classes that are derived from websockets.protocol.Protocol")


class FramewireMixin(metaclass=_RightAboveProtocol):
    """The protocol seam for one class, with nothing replaced: for users of websockets' Sans-I/O layer.

    ::

        class Server(FramewireMixin, websockets.server.ServerProtocol): ...

    Raises:
        UnsupportedVersion: If websockets is none of the versions 16 and 17; when the class is made.
        TypeError: If the class is not derived from a ``Protocol``; when it is made.
    """

    def parse(self) -> Generator[None, None, None]:
        """What goes on after the handshake."""
        return cast("Generator[None, None, None]", _mixin().parse(self))

    def receive_data(self, data: BytesLike) -> None:
        """As ``Protocol.receive_data``."""
        _mixin().receive_data(self, data)

    def send_frame(self: Any, frame: Any) -> None:
        """As ``Protocol.send_frame``."""
        data = None if self.debug else _mixin().serialize(frame, self.side.name == "CLIENT", self.extensions)
        if data is None:
            super().send_frame(frame)  # type: ignore[misc]
        else:
            self.writes.append(data)


@cache
def _mixin() -> SimpleNamespace:
    """What its methods do."""
    framing = _framing(FramewireMixin.send_frame)
    return SimpleNamespace(
        parse=_protocol_parse(framing),
        receive_data=_protocol_receive_data(framing),
        serialize=framing.serialize,
    )
