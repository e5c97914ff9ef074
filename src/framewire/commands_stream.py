"""The command ``framewire stream``: a server of messages, and how to watch one."""

from __future__ import annotations

import argparse
import os
import random
import socket
import sys
import time
from collections.abc import Callable, Generator
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING

from . import FramedSocket, FramingError, IncompleteFrame, Spec, connect
from .arguments import (
    Commands,
    Failure,
    MakeParser,
    add_as,
    add_format,
    add_max_size,
    add_reporting,
    add_slow,
    add_web,
    import_web,
    make_decoder,
    make_encoder,
    reason,
    say,
    seconds,
    whole_number,
)
from .lines import Batch, Lines
from .pump import Output

if TYPE_CHECKING:
    import ssl

    from .loop import Loop
    from .servers.streamer import Source

PORT = 1243

SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between attempts to connect; chance makes them up to half as long, so that not all come at once."""


def add_stream(commands: Commands, make_parser: MakeParser) -> None:
    """Add ``stream`` to the commands."""
    parser = make_parser(commands.add_parser, "stream", help="framed streams over TCP", description="Streams over TCP.")
    actions = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_serve(actions, make_parser)
    _add_watch(actions, make_parser)


def _add_serve(actions: Commands, make_parser: MakeParser) -> None:
    serve = make_parser(
        actions.add_parser,
        "serve",
        help="send messages to all who connect",
        description="Greet every client, then send all of them the same messages, one at a time: the\n"
        "time of day, or the lines of a file, which wait while nobody is connected.",
        epilog="""\
examples:
  framewire stream serve                              the time, every 3 seconds
  framewire stream serve --every 0.5 poem.txt         a line every half second
  tail -f log.txt | framewire stream serve --burst -
  framewire stream serve --burst --count 1000000      as fast as it is received
  framewire stream serve --web 8081                   and http://localhost:8081

At the end of the file, after --count messages, and after Ctrl-C or SIGTERM it
sends what is on its way, closes all connections, and ends; a second signal ends
it at once.""",
    )
    serve.add_argument("file", metavar="FILE", nargs="?", help='the lines of this, of standard input for "-"')
    pace = serve.add_mutually_exclusive_group()
    pace.add_argument(
        "--every",
        metavar="SECONDS",
        type=seconds,
        default=3.0,
        help="from one message to the next (default: %(default)g)",
    )
    pace.add_argument(
        "--burst",
        dest="every",
        action="store_const",
        const=0.0,
        help="no pause: many messages at a time, as fast as the clients receive; the same as --every 0",
    )
    serve.add_argument("--count", metavar="N", type=whole_number(1), help="end after N messages")
    add_format(serve)
    serve.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    serve.add_argument(
        "--port",
        type=whole_number(0, 65535),
        default=PORT,
        help="the port to listen on, 0 for any that is free (default: %(default)s)",
    )
    add_web(serve, "which shows the stream as it goes by")
    serve.add_argument("--cert", metavar="FILE", help="serve over TLS, with this certificate")
    serve.add_argument("--key", metavar="FILE", help="its private key, if that is in another file")
    add_max_size(serve)
    add_slow(serve, default=None, otherwise="drop_oldest; with --burst: wait")
    add_reporting(serve)
    serve.set_defaults(run=_serve, usage_error=serve.error)


def _add_watch(actions: Commands, make_parser: MakeParser) -> None:
    watch = make_parser(
        actions.add_parser,
        "watch",
        help="print what a server sends",
        description="Print the messages of a server, each with a line break. When the connection is\n"
        "lost, or cannot be made, try again, until Ctrl-C.",
        epilog="""\
examples:
  framewire stream watch localhost 1243
  framewire stream watch --no-reconnect localhost 1243 > messages.txt
  framewire stream watch --format u32be --as hex --count 10 192.0.2.7 9000""",
    )
    watch.add_argument("host", metavar="HOST")
    watch.add_argument("port", metavar="PORT", type=whole_number(1, 65535))
    add_format(watch)
    add_as(watch, "how a message is written")
    add_max_size(watch)
    watch.add_argument("--count", metavar="N", type=whole_number(1), help="end after N messages")
    watch.add_argument("--no-reconnect", action="store_true", help="end with the stream, or if there is no connection")
    watch.add_argument("--read-size", metavar="N", type=whole_number(1), help="receive at most N bytes at a time")
    watch.add_argument("--tls", action="store_true", help="connect over TLS")
    watch.add_argument("--ca", metavar="FILE", help="trust these certificates, not the system's; implies --tls")
    watch.set_defaults(run=_watch, usage_error=watch.error)


# Serving.


def _serve(args: argparse.Namespace) -> int:
    # Here, since the other commands do without an event loop, and start sooner so.
    from .loop import Loop
    from .servers.reporting import StatsLine, StopSignals, allow_many_files, setup_logging
    from .servers.streamer import Streamer

    make_encoder(args)  # to hear its complaints about the arguments
    import_web(args)
    setup_logging(args.verbosity)
    allow_many_files()
    with Loop() as loop:
        try:
            source = _source(args, loop)
        except OSError as error:
            raise Failure(f"{args.file}: {reason(error)}") from None
        try:
            streamer = Streamer(
                loop,
                source,
                args.format,
                every=args.every,
                count=args.count,
                policy=args.policy,
                limit=args.limit,
                max_size=args.max_size,
            )
        except ValueError as error:
            args.usage_error(str(error))
        signals = StopSignals(loop, streamer.finish)
        groups = [streamer.group]
        tls = _server_tls(args)
        _listen(args.host, args.port, lambda address: streamer.listen(address, tls=tls))
        if args.web is not None:
            from .servers.stream_web import WebView

            name = os.path.basename(source.title)
            try:
                view = WebView(loop, streamer, every=args.every, source=name, origins=args.origin)
            except ValueError as error:
                args.usage_error(str(error))
            groups.append(view.group)
            _listen(args.host, args.web, lambda address: view.listen(address, tls=tls))
        with StatsLine(loop, args.stats, *groups) if args.stats else nullcontext():
            loop.run()
    if streamer.error is not None:
        raise Failure(str(streamer.error))
    return signals.status


def _listen(host: str, port: int, listen: Callable[[tuple[str, int]], object]) -> None:
    try:
        listen((host, port))
    except (OSError, UnicodeError) as error:  # UnicodeError: no name of a host can look like this
        raise Failure(f"cannot listen on {host}:{port}: {reason(error)}") from None


def _source(args: argparse.Namespace, loop: Loop) -> Source:
    from .servers.streamer import Clock, FileLines

    if args.file is None:
        return Clock()
    if args.file == "-" and sys.stdin is None:
        raise Failure("standard input is closed")  # and its descriptor may be that of anything else now
    return FileLines(loop, 0 if args.file == "-" else args.file, max_size=args.max_size)


def _server_tls(args: argparse.Namespace) -> ssl.SSLContext | None:
    if args.cert is None:
        if args.key is not None:
            args.usage_error("--key needs --cert")
        return None
    import ssl

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(args.cert, args.key)
    except OSError as error:  # among them ssl.SSLError
        raise Failure(f"{args.cert}: {reason(error)}") from None
    return context


# Watching.


def _watch(args: argparse.Namespace) -> int:
    lines = Lines(args.style)
    spec = make_decoder(args, args.format).spec  # a decoder is made to hear its complaints about the arguments
    left: int | None = args.count
    with Output(None) as output, closing(_messages(args, spec)) as messages:
        for payloads in messages:
            if left is not None:
                payloads = payloads[:left]
                left -= len(payloads)
            output.write(lines.render(payloads))
            if left == 0:
                break
    return 0


def _messages(args: argparse.Namespace, spec: Spec) -> Generator[Batch, None, None]:
    """What the server sends, over as many connections as it takes.

    Raises:
        Failure: At what no other connection would mend, and with ``--no-reconnect`` at the first trouble.
    """
    peer = f"{args.host}:{args.port}"
    context = _client_tls(args)
    pause = SHORTEST_PAUSE
    told = False
    while True:
        began = time.monotonic()
        try:
            connection = _connect(args, spec, context)
        except (OSError, UnicodeError) as error:  # UnicodeError: no name of a host can look like this
            trouble = f"cannot connect to {peer}: {reason(error)}"
            if args.no_reconnect or isinstance(error, ValueError):  # so is a certificate that cannot be trusted
                raise Failure(trouble) from None
        else:
            with connection:
                try:
                    while payloads := connection.recv_many():
                        told = False
                        yield payloads
                    if args.no_reconnect:
                        return
                    trouble = f"{peer} has closed the connection"
                except (FramingError, OSError) as error:
                    trouble = f"{peer}: {reason(error)}"
                    lost = isinstance(error, (IncompleteFrame, OSError))
                    if args.no_reconnect or not lost:
                        raise Failure(trouble) from None
        if not told:
            say(f"{trouble}; trying again")
            told = True
        if time.monotonic() - began > LONGEST_PAUSE:
            pause = SHORTEST_PAUSE
        time.sleep(pause * random.uniform(0.5, 1))
        pause = min(2 * pause, LONGEST_PAUSE)


def _connect(args: argparse.Namespace, spec: Spec, context: ssl.SSLContext | None) -> FramedSocket:
    options = {"max_size": args.max_size, "read_size": args.read_size}
    if context is None:
        return connect((args.host, args.port), spec, **options)
    sock = socket.create_connection((args.host, args.port))
    try:
        return FramedSocket(context.wrap_socket(sock, server_hostname=args.host), spec, **options)
    except BaseException:
        sock.close()
        raise


def _client_tls(args: argparse.Namespace) -> ssl.SSLContext | None:
    if not args.tls and args.ca is None:
        return None
    import ssl

    try:
        return ssl.create_default_context(cafile=args.ca)
    except OSError as error:
        raise Failure(f"{args.ca}: {reason(error)}") from None
