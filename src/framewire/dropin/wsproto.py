"""wsproto's frames on framewire: the same classes, events and bytes, parsed and unmasked in the compiled core.

Who makes wsproto's objects are servers (uvicorn, Hypercorn, trio-websocket), so it is wsproto that is told::

    import framewire.dropin.wsproto
    framewire.dropin.wsproto.install()        # uninstall() undoes it; "with patched():" does both

Connections that are made from then on use it; those that are there go on with what they have. The processor time of a
server for a message that it receives falls to a quarter at 64 bytes, and to a sixth at 1 MiB (over TCP to a quarter:
there most of the rest is receiving as such); to somewhat over half where each message is answered before the next one
comes (``bench/dropin_wsproto.py``). `FrameDecoder`, `FrameProtocol` and `XorMaskerSimple` can also be used without an
``install``, as those of ``wsproto.frame_protocol``.

There are two seams, which are replaced together unless asked otherwise:

- decoder: ``FrameDecoder`` and ``FrameProtocol``, that is, all that is received and all that is sent.
- masker: ``XorMaskerSimple``, for whoever uses it, or the host's own decoder.

Before you report a fault to wsproto, see whether it stays after `uninstall`. The class names say whose they are:
``wsproto.frame_protocol.FrameDecoder.__module__`` is the name of this module while it is in place.

What differs from wsproto 1.0 to 1.3:

- A `FrameDecoder` that has refused a header refuses it again; the host's takes what follows for the next one.
- The private parts of the decoder (``buffer``, ``header``, ``masker``, ...) are not kept up: extensions find ``client``
  and ``extensions`` in it.
- With every version it is as from 1.3 on: payloads that come are ``bytes``, and a ``memoryview`` can be sent.
- A key that has not four bytes is a ValueError where the masker is made, not where it is used.
- The decoder does not look for ``XorMaskerSimple``: one of somebody else's, put there instead, has no effect on it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from .._core import CORE
from . import _versions
from ._patch import Patch

if TYPE_CHECKING or CORE == "py":
    from ._wsproto_py import WsprotoReader, wsproto_frame, wsproto_mask
else:
    from .._core_c import WsprotoReader, wsproto_frame, wsproto_mask

__all__ = [
    "SEAMS",
    "VERSIONS",
    "FrameDecoder",
    "FrameProtocol",
    "XorMaskerSimple",
    "install",
    "installed",
    "patched",
    "uninstall",
]

VERSIONS = _versions.WSPROTO
"""The versions of wsproto, first and last, that this module is known to fit."""

SEAMS = ("decoder", "masker")
"""What `install` can replace."""

# Any: its types are not there wherever ours are checked.
wsproto: Any = import_module("wsproto")
connection: Any = import_module("wsproto.connection")
frame_protocol: Any = import_module("wsproto.frame_protocol")
Standard: Any = frame_protocol.FrameProtocol  # not what an install() puts there
CloseReason, Opcode = frame_protocol.CloseReason, frame_protocol.Opcode
ParseFailed, RsvBits = frame_protocol.ParseFailed, frame_protocol.RsvBits

_OPCODES = tuple(Opcode(value) if value in set(Opcode) else None for value in range(16))
_CONTROL_SIZE = 125
_BYTES_MASKED = _versions.known(wsproto.__version__, ((0,), (1, 2)))  # that is what a masker returned then


class FrameDecoder(WsprotoReader):
    """Turns bytes into frames, as ``wsproto.frame_protocol.FrameDecoder``.

    ::

        81 85 37 fa 21 3d 7f 9f 4d 51 58      Frame(Opcode.TEXT, b"hello", frame_finished=True, message_finished=True)
        02 03 61                              Frame(Opcode.BINARY, b"a", False, False): what has come of "abc"
                 62 63                        Frame(Opcode.CONTINUATION, b"bc", True, False)

    Args:
        client: Whether this is the client's end, to which nothing comes masked; to a server everything does.
        extensions: The extensions that are in use; each is asked for the header of a frame, for each part of its
            payload, and at its end.
    """

    def __init__(self, client: bool, extensions: list[Any] | None = None) -> None:
        super().__init__(client, extensions or [], frame_protocol.Frame, _OPCODES)

    # What the reader asks.

    def _refused(self, first: int, second: int, size: int) -> NoReturn:
        opcode, code = first & 0x0F, second & 0x7F
        control = first & 0x08
        if _OPCODES[opcode] is None:
            raise ParseFailed(f"Invalid opcode {opcode:#x}")
        if control and not first & 0x80:
            raise ParseFailed("Invalid attempt to fragment control frame")
        if control and code > _CONTROL_SIZE:
            raise ParseFailed("Control frame with payload len > 125")
        if code == 126 and size <= 125:
            raise ParseFailed("Payload length used 2 bytes when 1 would have sufficed")
        if code == 127 and size <= 65535:
            raise ParseFailed("Payload length used 8 bytes when 2 would have sufficed")
        if size >> 63:
            raise ParseFailed("8-byte payload length with non-zero MSB")
        if first & 0x70 and not self.extensions:
            raise ParseFailed("Reserved bit set unexpectedly")
        if second & 0x80:
            raise ParseFailed("client received unexpected masked frame")
        raise ParseFailed("server received unexpected unmasked frame")

    def _inbound_header(self, first: int, size: int) -> None:
        opcode = _OPCODES[first & 0x0F]
        found = RsvBits(bool(first & 0x40), bool(first & 0x20), bool(first & 0x10))
        expected = [False, False, False]
        for extension in self.extensions:
            result = extension.frame_inbound_header(self, opcode, found, size)
            if isinstance(result, CloseReason):
                raise ParseFailed("error in extension", result)
            for bit, used in enumerate(result):
                if used:
                    expected[bit] = True
        if any(bit and not known for bit, known in zip(found, expected, strict=True)):
            raise ParseFailed("Reserved bit set unexpectedly")

    def _inbound_payload(self, payload: bytes, finished: bool, fin: bool) -> bytes:
        for extension in self.extensions:
            result = extension.frame_inbound_payload_data(self, payload)
            if isinstance(result, CloseReason):
                raise ParseFailed("error in extension", result)
            payload = bytes(result)
        if finished:
            for extension in self.extensions:
                result = extension.frame_inbound_complete(self, fin)
                if isinstance(result, CloseReason):
                    raise ParseFailed("error in extension", result)
                if result is not None:
                    payload += result
        return payload


class FrameProtocol(Standard):  # type: ignore[misc]
    """Frames in both directions, as ``wsproto.frame_protocol.FrameProtocol``, of which it is a subclass.

    Args:
        client: Whether this is the client's end, which masks what it sends.
        extensions: The extensions that were negotiated; only those that are enabled are used.
    """

    extensions: list[Any]

    def __init__(self, client: bool, extensions: list[Any]) -> None:
        super().__init__(client, extensions)
        self._frame_decoder = FrameDecoder(self.client, self.extensions)

    def _parse_more_gen(self) -> Generator[Any, None, None]:
        self.extensions = [extension for extension in self.extensions if extension.enabled()]
        process, messages, close = self._frame_decoder.process_message, self._message_decoder, Opcode.CLOSE
        while (frame := process(messages)) is None or frame[0] is not close:
            yield frame
        yield self._process_close(frame)

    def _serialize_frame(self, opcode: int, payload: bytes | bytearray = b"", fin: bool = True) -> bytearray:
        if type(payload) is not bytes:
            payload = bytearray(payload)
        first = 0x80 | opcode if fin else int(opcode)
        if self.extensions:
            rsv = RsvBits(False, False, False)
            for extension in reversed(self.extensions):
                rsv, payload = extension.frame_outbound(self, opcode, rsv, bytes(payload), fin)
            first |= rsv[0] << 6 | rsv[1] << 5 | rsv[2] << 4
        if first & 0x08 and len(payload) > _CONTROL_SIZE:
            raise ValueError("payload too long for control frame")
        return wsproto_frame(first, payload, frame_protocol.os.urandom(4) if self.client else None)


class XorMaskerSimple:
    """Masks or unmasks a payload that comes in parts, as ``wsproto.frame_protocol.XorMaskerSimple``.

    Args:
        masking_key: Four bytes.

    Raises:
        ValueError: If there are not four.
    """

    def __init__(self, masking_key: bytes | bytearray) -> None:
        if len(masking_key) != 4:
            raise ValueError(f"a masking key has 4 bytes, not {len(masking_key)}")
        self._masking_key = bytes(masking_key)

    def process(self, data: bytes | bytearray) -> bytearray:
        """The next part, with the key applied."""
        key = self._masking_key
        if type(data) is not bytes:
            data = bytearray(data)
        if turn := len(data) % 4:
            self._masking_key = key[turn:] + key[:turn]
        masked = wsproto_mask(data, key)
        return bytes(masked) if _BYTES_MASKED else masked  # type: ignore[return-value]


def _decoder_changes() -> list[tuple[Any, str, Any]]:
    _versions.check("wsproto", wsproto.__version__, VERSIONS)
    return [
        (frame_protocol, "FrameDecoder", FrameDecoder),
        (frame_protocol, "FrameProtocol", FrameProtocol),
        (connection, "FrameProtocol", FrameProtocol),
    ]


def _masker_changes() -> list[tuple[Any, str, Any]]:
    _versions.check("wsproto", wsproto.__version__, VERSIONS)
    return [(frame_protocol, "XorMaskerSimple", XorMaskerSimple)]


_patches = {"decoder": Patch(_decoder_changes), "masker": Patch(_masker_changes)}


def install(*, decoder: bool = True, masker: bool = True) -> None:
    """Have wsproto use these classes from now on. The last call counts: what it does not ask for is put back.

    Args:
        decoder: Replace ``FrameDecoder`` and ``FrameProtocol``.
        masker: Replace ``XorMaskerSimple``.

    Raises:
        UnsupportedVersion: If this is a wsproto that is not known to fit; nothing was changed.
        RuntimeError: If what is to be put back was replaced by somebody else; nothing was changed.
        ValueError: If nothing is asked for.
    """
    if not (decoder or masker):
        raise ValueError("install() of nothing: decoder or masker must be true (uninstall() puts both back)")
    for wanted, patch in sorted(zip((decoder, masker), _patches.values(), strict=True), key=lambda pair: bool(pair[0])):
        if wanted:
            patch.install()
        else:
            patch.uninstall()


def uninstall() -> None:
    """Put back the very objects that `install` has replaced; without an `install` it does nothing.

    Raises:
        RuntimeError: If somebody else has replaced one of them since, and would lose it.
    """
    for patch in _patches.values():
        patch.uninstall()


def installed() -> tuple[str, ...]:
    """The seams that are in place now, of `SEAMS`; none: an empty tuple, which is false."""
    return tuple(seam for seam, patch in _patches.items() if patch.installed())


@contextmanager
def patched(*, decoder: bool = True, masker: bool = True) -> Iterator[None]:
    """Have the replacements in place inside a ``with`` block, and afterwards what was there before it.

    Raises:
        UnsupportedVersion, RuntimeError, ValueError: As `install`.
    """
    before = installed()
    install(decoder=decoder, masker=masker)
    try:
        yield
    finally:
        if before:
            install(**{seam: seam in before for seam in SEAMS})
        else:
            uninstall()
