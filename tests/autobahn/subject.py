"""framewire as the Autobahn test suite meets it: a server that returns every message, and a client that does.

    python tests/autobahn/subject.py server PORT
    python tests/autobahn/subject.py client ws://127.0.0.1:PORT AGENT

The server stands on the event loop, the client on the blocking driver. Both have permessage-deflate, and the limits
that they have for everybody.
"""

from __future__ import annotations

import sys
from contextlib import suppress

from framewire import FramingError
from framewire.loop import Channel, Handler, Loop
from framewire.websocket import Server
from framewire.websocket.blocking import connect


class Echo(Handler):
    def frames_received(self, channel: Channel, payloads: list[bytes]) -> None:
        channel.send_many(payloads)


def serve(port: str) -> None:
    with Loop() as loop:
        loop.listen(("127.0.0.1", int(port)), Echo(), Server())
        loop.run()


def run_cases(url: str, agent: str) -> None:
    """Ask the fuzzing server how many cases there are, run them one by one, and have the reports written."""
    with connect(f"{url}/getCaseCount") as fuzzer:
        count = int(str(fuzzer.recv()))
    for case in range(1, count + 1):
        echo(f"{url}/runCase?case={case}&agent={agent}")
    with connect(f"{url}/updateReports?agent={agent}") as fuzzer:
        assert fuzzer.recv() is None  # it has closed the connection: they are written


def echo(url: str) -> None:
    """Most cases end with an error: what it was, the suite has heard."""
    with suppress(FramingError, OSError), connect(url) as fuzzer:
        while messages := fuzzer.recv_many():
            fuzzer.send_many(messages)


if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    {"server": serve, "client": run_cases}[role](*arguments)
