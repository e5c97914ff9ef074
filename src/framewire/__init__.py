"""framewire turns a byte stream into messages and back.

>>> import framewire
>>> decoder = framewire.Decoder("ascii10")
>>> decoder.feed(b"5         hel") + decoder.feed(b"lo5         world")
[b'hello', b'world']
>>> framewire.Encoder("ascii10").encode(b"hello")
b'5         hello'
"""

from ._core import CORE, CORE_ERROR, Decoder, Encoder, Spans
from .blocking import FramedSocket, FrameReader, FrameWriter, connect
from .connection import Connection
from .errors import FrameTooLarge, FramingError, HeaderError, IncompleteFrame
from .spec import (
    DEFAULT_MAX_SIZE,
    Ascii,
    Delimited,
    FixedSize,
    LengthField,
    MultiprocessingPipe,
    Netstring,
    Spec,
    Varint,
    parse_spec,
)

__all__ = [
    "CORE",
    "CORE_ERROR",
    "DEFAULT_MAX_SIZE",
    "Ascii",
    "Connection",
    "Decoder",
    "Delimited",
    "Encoder",
    "FixedSize",
    "FrameReader",
    "FrameTooLarge",
    "FrameWriter",
    "FramedSocket",
    "FramingError",
    "HeaderError",
    "IncompleteFrame",
    "LengthField",
    "MultiprocessingPipe",
    "Netstring",
    "Spans",
    "Spec",
    "Varint",
    "__version__",
    "connect",
    "parse_spec",
]

__version__ = "0.1.0"
