"""What the commands have in common: how they read their arguments, and how they complain."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable
from typing import TypeAlias

from . import DEFAULT_MAX_SIZE, Decoder, Encoder, Spec, parse_spec

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
MakeParser: TypeAlias = Callable[..., argparse.ArgumentParser]

FAILURE, INTERRUPTED, BROKEN_PIPE = 1, 128 + 2, 128 + 13


class Failure(Exception):
    """Ends the command with status 1; its text is for the user."""


def say(text: str) -> None:
    """Tell the user, on standard error."""
    if sys.stderr is not None:  # closed, or a program without a console
        print(f"framewire: {text}", file=sys.stderr)


def reason(error: Exception) -> str:
    """What is wrong, for people."""
    return getattr(error, "strerror", None) or str(error)  # without "[Errno 2]"


# Parsers and options.


def make_parser(make: MakeParser, *args: str, **kwargs: object) -> argparse.ArgumentParser:
    """A parser whose description and examples stay as they are written."""
    return make(*args, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **kwargs)


def add_format(
    parser: argparse.ArgumentParser, option: str = "--format", *, dest: str = "format", required: bool = False
) -> None:
    parser.add_argument(
        *(["-f", option] if option == "--format" else [option]),
        dest=dest,
        metavar="FORMAT",
        type=wire_format,
        required=required,
        default=None if required else "ascii10",
        help='wire format; "framewire formats" lists them' + ("" if required else " (default: %(default)s)"),
    )


def add_as(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--as",
        dest="style",
        choices=["text", "escape", "hex"],
        default="text",
        help=f"{what}: as it is, as printable ASCII with backslash escapes, or as hexadecimal digits "
        "(default: %(default)s)",
    )


def add_max_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-size",
        metavar="N",
        type=size,
        default=DEFAULT_MAX_SIZE,
        help='most bytes in a frame after its header: 65536, 64K, 16M, 1G or "none" (default: 16M)',
    )


def add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="*", help='read these, not standard input, which "-" stands for')
    parser.add_argument("-o", "--output", metavar="FILE", help="write to this, not standard output")


def add_slow(parser: argparse.ArgumentParser, *, default: str | None = "disconnect", otherwise: str = "") -> None:
    """``--policy`` and ``--limit``: what a server does about clients that receive too slowly."""
    parser.add_argument(
        "--policy",
        choices=["disconnect", "drop_oldest", "wait"],
        default=default,
        help="a client that does not keep up is disconnected, or misses the oldest messages, or all wait for it "
        f"(default: {otherwise or default})",
    )
    parser.add_argument(
        "--limit",
        metavar="N",
        type=byte_count,
        default=2**20,
        help="bytes that may wait for a client, 64K or more (default: 1M)",
    )


def add_web(parser: argparse.ArgumentParser, what: str) -> None:
    """``--web`` and ``--origin``: the same for browsers."""
    parser.add_argument(
        "--web",
        metavar="PORT",
        type=whole_number(0, 65535),
        help=f"serve a page on this port, 0 for any that is free, {what} (needs framewire[web])",
    )
    parser.add_argument(
        "--origin",
        metavar="URL",
        action="append",
        help="let pages from here connect, such as https://example.org, if the page is not "
        "served under its own address; may be given several times",
    )


def import_web(args: argparse.Namespace) -> None:
    """Hear now whether what ``--web`` needs is there.

    Raises:
        Failure: If it is not.
    """
    if args.origin is not None and args.web is None:
        args.usage_error("--origin needs --web")
    if args.web is not None:
        try:
            from .websocket import handshake  # noqa: F401
        except ImportError as error:
            raise Failure(f"--web: {error}") from None


def add_reporting(parser: argparse.ArgumentParser) -> None:
    """``--stats``, ``-v`` and ``-q``, for a server."""
    parser.add_argument(
        "--stats",
        metavar="SECONDS",
        type=seconds,
        help="tell so often about connections, messages and bytes in and out, what is queued and what was dropped",
    )
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument(
        "-v", "--verbose", dest="verbosity", action="store_const", const=1, default=0, help="log all there is"
    )
    loudness.add_argument(
        "-q", "--quiet", dest="verbosity", action="store_const", const=-1, help="log nothing but warnings"
    )


# Types of arguments.


def wire_format(name: str) -> Spec:
    try:
        return parse_spec(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def size(text: str) -> int | None:
    if text.lower() == "none":
        return None
    match = re.fullmatch(r"(\d{1,19})([KMG]?)(?:i?B)?", text, re.ASCII | re.IGNORECASE)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes, such as 65536, 64K, 16M, 1G or none")
    value = int(match[1]) * {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}[match[2].upper()]
    if value > sys.maxsize:
        raise argparse.ArgumentTypeError(f"{text} is over {sys.maxsize} bytes; none lifts the limit")
    return value


def byte_count(text: str) -> int:
    value = size(text)
    if value is None:
        raise argparse.ArgumentTypeError("there must be a limit")
    return value


def whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
    def parse(text: str) -> int:
        wanted = f"{low} or more" if high is None else f"from {low} to {high}"
        if not re.fullmatch(r"\d{1,18}", text, re.ASCII):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number, {wanted}")
        value = int(text)
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"{value} is not {wanted}")
        return value

    return parse


def seconds(text: str) -> float:
    """A time, zero or more."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 0 or more")
    return value


# A wire format and its limit: do they go together?


def make_decoder(args: argparse.Namespace, spec: Spec) -> Decoder:
    try:
        return Decoder(spec, max_size=args.max_size)
    except ValueError as error:
        args.usage_error(str(error))  # ends the program
        raise


def make_encoder(args: argparse.Namespace) -> Encoder:
    try:
        return Encoder(args.format, max_size=args.max_size)
    except ValueError as error:
        args.usage_error(str(error))  # ends the program
        raise
