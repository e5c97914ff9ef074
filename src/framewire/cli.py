"""The ``framewire`` command: frames to lines, lines to frames, one framing to another, and servers with their clients.

Each command reads its arguments here, or in a module of its own, and does its work in another room: `framewire.pump`
for files, `framewire.servers` for connections. Only what a command needs is imported.

Exit status: 0, or 1 for what is wrong with the data or a file (everything before it has been written), 2 for a wrong
command line, 130 after Ctrl-C, and 141 when nobody reads the output any more: what a shell shows for a program that
SIGINT or SIGPIPE ended.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from . import CORE, CORE_ERROR, Decoder, __version__
from .arguments import (
    BROKEN_PIPE,
    FAILURE,
    INTERRUPTED,
    Commands,
    Failure,
    add_as,
    add_files,
    add_format,
    add_max_size,
    make_decoder,
    make_encoder,
    make_parser,
    reason,
    say,
)
from .commands_bench import add_bench
from .commands_chat import add_chat
from .commands_stream import add_stream
from .lines import Lines, parse_escaped, parse_hex
from .pump import Pump

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
        say(f"standard output: {reason(error)}")
        return FAILURE


def _drop_stdout() -> None:
    """What is left in the buffer cannot be written; keep the interpreter from trying again at its exit."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# The arguments.


def build_parser() -> argparse.ArgumentParser:
    parser = make_parser(
        argparse.ArgumentParser,
        prog="framewire",
        description="Turn byte streams into messages and back.",
        epilog="""\
examples:
  framewire stream serve                    the time, to all who connect
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
    add_stream(commands, make_parser)
    add_chat(commands, make_parser)
    add_bench(commands, make_parser)
    _add_formats(commands)
    return parser


def version() -> str:
    core = "compiled core" if CORE == "c" else f"pure-Python core ({CORE_ERROR})"
    return f"framewire {__version__}, {core}, {sys.implementation.name} {sys.version.split()[0]}"


def _add_encode(commands: Commands) -> None:
    parser = make_parser(
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
    add_format(parser)
    add_as(parser, "how a payload is written in a line of the input")
    add_max_size(parser)
    add_files(parser)
    parser.set_defaults(run=_encode, usage_error=parser.error)


def _add_decode(commands: Commands) -> None:
    parser = make_parser(
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
    add_format(parser)
    add_as(parser, "how a payload is written")
    add_max_size(parser)
    add_files(parser)
    parser.set_defaults(run=_decode, usage_error=parser.error)


def _add_convert(commands: Commands) -> None:
    parser = make_parser(
        commands.add_parser,
        "convert",
        help="frames of one format to frames of another",
        description="Write the payload of each frame of the input in another format.",
        epilog="""\
examples:
  framewire convert --from varint --to u32be records.pb > records.bin
  framewire convert --from 'delimited:\\r\\n|\\n' --to ascii10 mixed.txt""",
    )
    add_format(parser, "--from", dest="source_format", required=True)
    add_format(parser, "--to", dest="format", required=True)
    add_max_size(parser)
    add_files(parser)
    parser.set_defaults(run=_convert, usage_error=parser.error)


def _add_formats(commands: Commands) -> None:
    parser = make_parser(
        commands.add_parser, "formats", help="list the wire formats", description="List the names of the wire formats."
    )
    parser.set_defaults(run=_formats)


# The commands.


def _encode(args: argparse.Namespace) -> int:
    encode_many = make_encoder(args).encode_many
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
    status = Pump(args, make_decoder(args, args.format), lines.render).run()
    lines.note()
    return status


def _convert(args: argparse.Namespace) -> int:
    encoder = make_encoder(args)
    return Pump(args, make_decoder(args, args.source_format), encoder.encode_many).run()


def _formats(args: argparse.Namespace) -> int:
    width = max(len(name) for name, _ in FORMATS)
    for name, what in FORMATS:
        print(f"{name:<{width}}  {what}")
    return 0
