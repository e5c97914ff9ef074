r"""The ``framewire`` command: frames to lines, lines to frames, one framing to another, and what a server says.

Strategy. Every command is one pump: a decoder's window is filled from the input, the payloads that this completes are
turned into output by one function call, and one write sends them on. What is done for a batch may cost microseconds;
nothing but the cores and ``bytes`` methods may run for each payload, unless the output asks for it (``--as hex``).

Exit status: 0, or 1 for what is wrong with the data or a file (everything before it has been written), 2 for a wrong
command line, 130 after Ctrl-C, and 141 when nobody reads the output any more: what a shell shows for a program that
SIGINT or SIGPIPE ended.
"""

from __future__ import annotations

import argparse
import os
import re
import select
import stat
import sys
from binascii import hexlify
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from io import FileIO
from time import monotonic
from typing import NoReturn, TypeAlias, cast

from . import CORE, CORE_ERROR, DEFAULT_MAX_SIZE, Decoder, Encoder, Spec, __version__, connect, parse_spec
from .errors import FrameTooLarge, FramingError

Batch: TypeAlias = list[bytes]
Render: TypeAlias = Callable[[Batch], bytes]

FAILURE, INTERRUPTED, BROKEN_PIPE = 1, 128 + 2, 128 + 13

PROGRESS_SIZE = 32 * 2**20
"""An input has to be larger than this for a progress display."""

PROGRESS_INTERVAL = 0.1

FORMATS = [
    ("ascii10", "decimal length padded with spaces on the right to 10 bytes; ascii1 to ascii20"),
    ("ascii8-right, ascii4-zero", "the digits at the right, after spaces or after zeros"),
    ("u8, u16be, u16le ... u64le", "unsigned binary length of 8, 16, 24, 32, 40, 48, 56 or 64 bits"),
    ("u32be,offset=2,adjust=-4,strip=0", "the same inside a larger header"),
    ("varint, varint32", "base 128 length (LEB128), as in protobuf's delimited streams"),
    ("netstring", "12:hello world!,"),
    ("lines, crlf, nul", r"delimited by \n, by \r\n, by a zero byte"),
    (r"delimited:\r\n|\n", r"delimited by any of these; \ and | and , are escaped"),
    ("lines,keep", "the delimiter stays at the end of the payload"),
    ("fixed:64", "every frame 64 bytes"),
    ("multiprocessing", "the format of Python's multiprocessing.connection"),
]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (``sys.argv`` unless given); return its exit status.

    Raises:
        SystemExit: After ``--help`` and ``--version``, and with status 2 if the arguments make no sense.
    """
    try:
        try:
            args = build_parser().parse_args(argv)
            status: int = args.run(args)
            return status
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where it can still be answered for
    except BrokenPipeError:
        _drop_stdout()
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    except Failure as failure:
        say(str(failure))
        return FAILURE
    except OSError as error:
        _drop_stdout()
        say(f"standard output: {_reason(error)}")
        return FAILURE


class Failure(Exception):
    """Ends the command with status 1; its text is for the user."""


def say(text: str) -> None:
    if sys.stderr is not None:  # closed, or a program without a console
        print(f"framewire: {text}", file=sys.stderr)


def _drop_stdout() -> None:
    """What is left in the buffer cannot be written; keep the interpreter from trying again at its exit."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# The arguments.


def build_parser() -> argparse.ArgumentParser:
    parser = _parser(
        argparse.ArgumentParser,
        prog="framewire",
        description="Turn byte streams into messages and back.",
        epilog="""\
examples:
  framewire stream watch localhost 1243     what a server sends, line by line
  framewire decode --format u32be log.bin   length-prefixed records as lines
  framewire convert --from varint --to netstring log.pb | nc localhost 9000

"framewire COMMAND --help" tells more. Exit status: 0; 1 if the data or a file
is at fault; 2 for a wrong command line; 130 after Ctrl-C; 141 if the reader of
the output went away.""",
    )
    parser.add_argument("--version", action="version", version=version(), help="show the version and the core in use")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_encode(commands)
    _add_decode(commands)
    _add_convert(commands)
    _add_stream(commands)
    _add_formats(commands)
    return parser


def version() -> str:
    core = "compiled core" if CORE == "c" else f"pure-Python core ({CORE_ERROR})"
    return f"framewire {__version__}, {core}, {sys.implementation.name} {sys.version.split()[0]}"


Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _add_encode(commands: Commands) -> None:
    parser = _parser(
        commands.add_parser,
        "encode",
        help="lines to frames",
        description="Turn each line of the input into a frame. A line ends at \\n, which is not part\nof the payload.",
        epilog="""\
examples:
  echo hello | framewire encode                        5         hello
  framewire encode --format u32be -o log.bin log.txt   each line as a record
  echo 00ff10 | framewire encode --as hex -f u16le     any bytes
  framewire convert --from crlf --to u32be dos.txt     lines that end in \\r\\n""",
    )
    _add_format(parser)
    _add_as(parser, "how a payload is written in a line of the input")
    _add_max_size(parser)
    _add_files(parser)
    parser.set_defaults(run=_encode, usage_error=parser.error)


def _add_decode(commands: Commands) -> None:
    parser = _parser(
        commands.add_parser,
        "decode",
        help="frames to lines",
        description="Write the payload of each frame of the input, and a line break.",
        epilog="""\
examples:
  framewire decode --format u32be log.bin | less
  framewire decode --as escape -f varint capture.bin    any bytes, one line each
  framewire decode --as hex log.bin | framewire encode --as hex | cmp - log.bin

A bad header, or a frame cut short at the end, is reported with its stream
offset when all before it has been written; the status is then 1. Each FILE is a
stream of its own.""",
    )
    _add_format(parser)
    _add_as(parser, "how a payload is written")
    _add_max_size(parser)
    _add_files(parser)
    parser.set_defaults(run=_decode, usage_error=parser.error)


def _add_convert(commands: Commands) -> None:
    parser = _parser(
        commands.add_parser,
        "convert",
        help="frames of one format to frames of another",
        description="Write the payload of each frame of the input in another format.",
        epilog="""\
examples:
  framewire convert --from varint --to u32be records.pb > records.bin
  framewire convert --from 'delimited:\\r\\n|\\n' --to ascii10 mixed.txt""",
    )
    _add_format(parser, "--from", dest="source_format", required=True)
    _add_format(parser, "--to", dest="format", required=True)
    _add_max_size(parser)
    _add_files(parser)
    parser.set_defaults(run=_convert, usage_error=parser.error)


def _add_stream(commands: Commands) -> None:
    parser = _parser(commands.add_parser, "stream", help="framed streams over TCP", description="Streams over TCP.")
    actions = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    watch = _parser(
        actions.add_parser,
        "watch",
        help="print what a server sends",
        description="Print the messages of a server, each with a line break, until it closes the\nconnection.",
        epilog="""\
examples:
  framewire stream watch localhost 1243
  framewire stream watch --format u32be --as hex --count 10 192.0.2.7 9000""",
    )
    watch.add_argument("host", metavar="HOST")
    watch.add_argument("port", metavar="PORT", type=_number(1, 65535))
    _add_format(watch)
    _add_as(watch, "how a message is written")
    _add_max_size(watch)
    watch.add_argument("--count", metavar="N", type=_number(1), help="end after N messages")
    watch.add_argument("--read-size", metavar="N", type=_number(1), help="receive at most N bytes at a time")
    watch.set_defaults(run=_watch, usage_error=watch.error)


def _add_formats(commands: Commands) -> None:
    parser = _parser(
        commands.add_parser, "formats", help="list the wire formats", description="List the names of the wire formats."
    )
    parser.set_defaults(run=_formats)


def _parser(make: Callable[..., argparse.ArgumentParser], *args: str, **kwargs: object) -> argparse.ArgumentParser:
    return make(*args, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **kwargs)


def _add_format(
    parser: argparse.ArgumentParser, option: str = "--format", *, dest: str = "format", required: bool = False
) -> None:
    parser.add_argument(
        *(["-f", option] if option == "--format" else [option]),
        dest=dest,
        metavar="FORMAT",
        type=_format,
        required=required,
        default=None if required else "ascii10",
        help='wire format; "framewire formats" lists them' + ("" if required else " (default: %(default)s)"),
    )


def _add_as(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--as",
        dest="style",
        choices=["text", "escape", "hex"],
        default="text",
        help=f"{what}: as it is, as printable ASCII with backslash escapes, or as hexadecimal digits "
        "(default: %(default)s)",
    )


def _add_max_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-size",
        metavar="N",
        type=_size,
        default=DEFAULT_MAX_SIZE,
        help='most bytes in a frame after its header: 65536, 64K, 16M, 1G or "none" (default: 16M)',
    )


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="*", help='read these, not standard input, which "-" stands for')
    parser.add_argument("-o", "--output", metavar="FILE", help="write to this, not standard output")


def _format(name: str) -> Spec:
    try:
        return parse_spec(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _size(text: str) -> int | None:
    if text.lower() == "none":
        return None
    match = re.fullmatch(r"(\d{1,19})([KMG]?)(?:i?B)?", text, re.ASCII | re.IGNORECASE)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes, such as 65536, 64K, 16M, 1G or none")
    size = int(match[1]) * {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}[match[2].upper()]
    if size > sys.maxsize:
        raise argparse.ArgumentTypeError(f"{text} is over {sys.maxsize} bytes; none lifts the limit")
    return size


def _number(low: int, high: int | None = None) -> Callable[[str], int]:
    def number(text: str) -> int:
        wanted = f"{low} or more" if high is None else f"from {low} to {high}"
        if not re.fullmatch(r"\d{1,18}", text, re.ASCII):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number, {wanted}")
        value = int(text)
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"{value} is not {wanted}")
        return value

    return number


# The commands.


def _encode(args: argparse.Namespace) -> int:
    encode_many = _encoder(args).encode_many
    parse = {"text": None, "escape": parse_escaped, "hex": parse_hex}[args.style]
    # A line may be longer than the payload that it stands for: four times with \x00, three times with "00 ".
    limit = args.max_size
    if limit is not None:
        limit = min(limit * {"text": 1, "escape": 4, "hex": 3}[args.style], sys.maxsize)
    decoder = Decoder("lines", max_size=limit)
    render = encode_many if parse is None else lambda lines: encode_many(parse(lines))
    return Pump(args, decoder, render, lines=True).run()


def _decode(args: argparse.Namespace) -> int:
    lines = Lines(args.style)
    status = Pump(args, _decoder(args, args.format), lines.render).run()
    lines.note()
    return status


def _convert(args: argparse.Namespace) -> int:
    encoder = _encoder(args)
    return Pump(args, _decoder(args, args.source_format), encoder.encode_many).run()


def _watch(args: argparse.Namespace) -> int:
    lines = Lines(args.style)
    spec = _decoder(args, args.format).spec  # a decoder is made to hear its complaints about the arguments
    left: int | None = args.count
    peer = f"{args.host}:{args.port}"
    try:
        connection = connect((args.host, args.port), spec, max_size=args.max_size, read_size=args.read_size)
    except (OSError, UnicodeError) as error:  # UnicodeError: no name of a host can look like this
        raise Failure(f"cannot connect to {peer}: {_reason(error)}") from None
    with connection, Output(None) as output:
        while left is None or left > 0:
            try:
                payloads = connection.recv_many()
            except (FramingError, OSError) as error:
                raise Failure(f"{peer}: {_reason(error)}") from None
            if not payloads:
                break
            if left is not None:
                payloads = payloads[:left]
                left -= len(payloads)
            output.write(lines.render(payloads))
    return 0


def _formats(args: argparse.Namespace) -> int:
    width = max(len(name) for name, _ in FORMATS)
    for name, what in FORMATS:
        print(f"{name:<{width}}  {what}")
    return 0


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)  # without "[Errno 2]"


def _decoder(args: argparse.Namespace, spec: Spec) -> Decoder:
    try:
        return Decoder(spec, max_size=args.max_size)
    except ValueError as error:
        args.usage_error(str(error))  # ends the program
        raise


def _encoder(args: argparse.Namespace) -> Encoder:
    try:
        return Encoder(args.format, max_size=args.max_size)
    except ValueError as error:
        args.usage_error(str(error))  # ends the program
        raise


# The pump.


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
                    say(f"{name}: {_reason(error)}")
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
                raise Failure(f"{self._name}: {_reason(error)}") from None

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
            raise Failure(f"{self._name}: {_reason(error)}") from None

    def isatty(self) -> bool:
        return self._file is not None and self._file.isatty()

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError as failed:
                raise Failure(f"{self._name}: {_reason(failed)}") from None


class Progress:
    """A line on the terminal that tells how far a large file has been read; nothing where that would be in the way."""

    def __init__(self, source: FileIO, output: Output) -> None:
        self._source = source
        self._next = float("inf")
        self._width = 0
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
            self._print(f"{min(100 * at // self._size, 100):3d} %  {speed:,.0f} MB/s  {frame_count:,} frames")

    def _print(self, text: str) -> None:
        print(f"\r{text:<{self._width}}", end="\r" if not text else "", file=sys.stderr, flush=True)
        self._width = len(text)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._width:
            self._print("")


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


# Payloads in lines.


class Lines:
    """Payloads as lines, in one of the styles of ``--as``."""

    def __init__(self, style: str) -> None:
        self.render: Render = {"text": self._text, "escape": escape, "hex": to_hex}[style]
        self._encode_lines = Encoder("lines", max_size=None).encode_many
        self._broken_count = 0

    def _text(self, payloads: Batch) -> bytes:
        if CORE == "c":
            # In half the time of what follows; the ValueError is for a line break in a payload.
            with suppress(ValueError):
                return self._encode_lines(payloads)
        data = b"\n".join([*payloads, b""])
        if data.count(b"\n") > len(payloads):
            self._broken_count += sum(b"\n" in payload for payload in payloads)
        return data

    def note(self) -> None:
        if count := self._broken_count:
            held = "1 payload holds" if count == 1 else f"{count} payloads hold"
            say(f"{held} a line break; --as escape writes one line for each")


def escape(payloads: Batch) -> bytes:
    r"""Each payload as a line of printable ASCII, with ``\\ \t \n \r \xNN`` for everything else.

    >>> escape([b"tab\t", "\u00e9".encode()])
    b'tab\\t\n\\xc3\\xa9\n'
    """
    data = b"\n".join([*payloads, b""])
    if data.translate(None, _PLAIN) == b"\n" * len(payloads):
        return data  # nothing but the line breaks behind the payloads is not plain
    return b"\n".join([*map(_escape, payloads), b""])


def _escape(data: bytes) -> bytes:
    return data.decode("latin-1").encode("unicode_escape")


_PLAIN = bytes(set(range(0x20, 0x7F)) - {ord("\\")})
_ESCAPE = re.compile(rb"\\([\\tnr]|x[0-9a-fA-F]{2}|)")


def parse_escaped(lines: Batch) -> Batch:
    r"""The payloads that `escape` has written so; bytes that need no escape may stand for themselves.

    >>> parse_escaped([rb"tab\t", rb"\xc3\xa9", "\u00e9".encode()])
    [b'tab\t', b'\xc3\xa9', b'\xc3\xa9']

    Raises:
        ValueError: At a backslash that begins no escape.
    """
    return lines if b"\\" not in b"".join(lines) else [*map(_parse_escaped, lines)]


def _parse_escaped(line: bytes) -> bytes:
    if b"\\" not in line:
        return line
    # The codec knows more escapes, and lets unknown ones pass with a warning.
    rest = line.replace(rb"\\", b"")
    if rest.count(b"\\") == sum(map(rest.count, [rb"\t", rb"\n", rb"\r", rb"\x"])):
        with suppress(UnicodeDecodeError):  # digits missing after \x
            return line.decode("unicode_escape").encode("latin-1")
    at = next(match.start() for match in _ESCAPE.finditer(line) if not match[1])
    raise ValueError(rf"the backslash at byte {at} begins no escape; there are \\ \t \n \r and \xNN")


def to_hex(payloads: Batch) -> bytes:
    return b"\n".join([*map(hexlify, payloads), b""])


def parse_hex(lines: Batch) -> Batch:
    """The payloads of these hexadecimal digits; blanks between the bytes do no harm.

    Raises:
        ValueError: If there is anything else.
    """
    return [*map(_parse_hex, lines)]


def _parse_hex(line: bytes) -> bytes:
    try:
        return bytes.fromhex(line.decode("ascii"))
    except ValueError:
        raise ValueError(f"{line[:20].decode('latin-1')!r} is not pairs of hexadecimal digits") from None
