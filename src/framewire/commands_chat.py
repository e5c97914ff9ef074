"""The command ``framewire chat``: a server of a chat room, and how to join one."""

from __future__ import annotations

import argparse
import getpass
from contextlib import ExitStack
from typing import TYPE_CHECKING

from .arguments import (
    Commands,
    Failure,
    MakeParser,
    add_reporting,
    add_slow,
    add_web,
    import_web,
    reason,
    seconds,
    whole_number,
)

if TYPE_CHECKING:
    from .servers.chat import Door

HOST, RAW_PORT, FRAMED_PORT = "127.0.0.1", 9009, 9010


def add_chat(commands: Commands, make_parser: MakeParser) -> None:
    """Add ``chat`` to the commands."""
    parser = make_parser(commands.add_parser, "chat", help="a chat room over TCP", description="A chat room over TCP.")
    actions = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_serve(actions, make_parser)
    _add_join(actions, make_parser)


def _add_serve(actions: Commands, make_parser: MakeParser) -> None:
    serve = make_parser(
        actions.add_parser,
        "serve",
        help="open a room",
        description="Open a room with two doors: the raw one is for lines of plain text, the framed\n"
        "one for people with names; and with --web a third one for browsers. All who come\n"
        "in hear each other, whatever their door.",
        epilog="""\
examples:
  framewire chat serve
  framewire chat join --name ann             through the framed door
  telnet localhost 9009                      or nc: through the raw one
  framewire chat serve --web 8080            and http://localhost:8080
  framewire chat serve --host :: --port 7000 --framed-port 7001 --stats 5

Ctrl-C or SIGTERM sends what is on its way, closes all connections, and ends; a
second signal ends it at once.""",
    )
    serve.add_argument("--host", default=HOST, help="the address to listen on (default: %(default)s)")
    port = whole_number(0, 65535)
    serve.add_argument("--port", type=port, help=f"the port of the raw door, 0 for any (default: {RAW_PORT})")
    serve.add_argument(
        "--framed-port",
        metavar="PORT",
        type=port,
        help=f"the port of the framed door (default: {FRAMED_PORT}, but no framed door if only --port is given)",
    )
    add_web(serve, "where people join by browser")
    serve.add_argument("--max-clients", metavar="N", type=whole_number(1), help="refuse more connections than this")
    serve.add_argument(
        "--idle-timeout",
        metavar="SECONDS",
        type=seconds,
        help="disconnect who neither says nor hears anything for so long (default: never)",
    )
    add_slow(serve, default="disconnect")
    add_reporting(serve)
    serve.set_defaults(run=_serve, usage_error=serve.error)


def _add_join(actions: Commands, make_parser: MakeParser) -> None:
    join = make_parser(
        actions.add_parser,
        "join",
        help="enter a room",
        description="Chat: what you type is said line by line, what the others say is shown.",
        epilog=f"""\
examples:
  framewire chat join --name ann
  framewire chat join 192.0.2.7 7001
  framewire chat join --raw localhost {RAW_PORT}      a server of plain text
  tail -f log.txt | framewire chat join --name log

Ctrl-D, or the end of the input, leaves. Exit status: 0; 1 if the server does
not let you in, or closes the connection.""",
    )
    join.add_argument("host", metavar="HOST", nargs="?", default=HOST, help="default: %(default)s")
    join.add_argument(
        "port",
        metavar="PORT",
        nargs="?",
        type=whole_number(1, 65535),
        help=f"default: {FRAMED_PORT}, with --raw {RAW_PORT}",
    )
    door = join.add_mutually_exclusive_group()
    door.add_argument("--name", help="what the others shall call you (default: your login name)")
    door.add_argument("--raw", action="store_true", help="through a raw door, where nobody has a name")
    join.set_defaults(run=_join, usage_error=join.error)


def _serve(args: argparse.Namespace) -> int:
    # Here, as below, since the other commands do without an event loop, and start sooner so.
    from .loop import Loop
    from .servers.chat import FramedDoor, RawDoor, Room
    from .servers.reporting import StatsLine, StopSignals, allow_many_files, setup_logging

    doors: list[tuple[type[Door], int]] = [(RawDoor, RAW_PORT if args.port is None else args.port)]
    if args.framed_port is not None:
        doors.append((FramedDoor, args.framed_port))
    elif args.port is None:
        doors.append((FramedDoor, FRAMED_PORT))
    import_web(args)
    setup_logging(args.verbosity)
    allow_many_files()
    with Loop() as loop, ExitStack() as stack:
        room = Room()
        signals = StopSignals(loop, loop.shutdown)
        try:
            for kind, port in doors:
                _open(args, kind(room, loop, policy=args.policy, limit=args.limit), port)
            if args.web is not None:
                from .servers.chat_web import WebDoor

                door = WebDoor(room, loop, policy=args.policy, limit=args.limit, origins=args.origin)
                _open(args, door, args.web)
        except ValueError as error:  # an option makes no sense
            args.usage_error(str(error))
        if args.stats:
            stack.enter_context(StatsLine(loop, args.stats, *[door.group for door in room.doors]))
        loop.run()
    return signals.status


def _open(args: argparse.Namespace, door: Door, port: int) -> None:
    options = {"max_channels": args.max_clients, "idle_timeout": args.idle_timeout, "keepalive": True}
    try:
        door.listen((args.host, port), **options)
    except (OSError, UnicodeError) as error:  # UnicodeError: no name of a host can look like this
        raise Failure(f"cannot listen on {args.host}:{port}: {reason(error)}") from None


def _join(args: argparse.Namespace) -> int:
    from .loop import Loop
    from .servers.joining import Dialect, Disconnected, Framed, Join, Raw

    dialect: Dialect = Raw() if args.raw else Framed(_login_name() if args.name is None else args.name)
    port = args.port or (RAW_PORT if args.raw else FRAMED_PORT)
    with Loop() as loop:
        try:
            return Join(loop, (args.host, port), dialect).run()
        except Disconnected as error:
            raise Failure(str(error)) from None


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # no entry for this user, or no such thing as users
        return "guest"
