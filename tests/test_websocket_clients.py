"""Other people's WebSocket libraries against ours: each client of theirs with each server of ours, and the other way.

The libraries are ``websockets``, ``websocket-client`` and node's ``ws``; what is not installed is skipped, by name.
``ws`` is looked for in the directories of ``NODE_PATH`` and in that of ``FRAMEWIRE_NODE_MODULES``.

Every server here returns what it gets, but for two texts: at ``close 4001 so long`` it closes the connection with this
code and this reason, and at ``ping x`` it sends a ping, and the text ``pong x`` when that is answered.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import random
import shutil
import subprocess
import threading
from base64 import b64decode, b64encode
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import cache, partial
from importlib.util import find_spec
from queue import Queue
from typing import Any, Protocol

import pytest
from looping import LIMIT

from framewire import websocket
from framewire.loop import Handler, Loop

pytest.importorskip("h11", reason="h11 is not installed; the web extra has it")

from framewire.websocket import aio, blocking

RANDOM = random.Random(1).randbytes(1 << 20)
TEXT = "Grüße, 世界, 😀 " * 50_000
"""More than a mebibyte of UTF-8, in characters of one to four bytes."""


class Client(Protocol):
    """A connection of some library, for one thread. Nothing of it waits longer than `LIMIT` seconds."""

    deflate: bool
    """Whether messages are compressed."""

    def __init__(self, url: str, *, deflate: bool) -> None:
        """Connect, and offer compression or not."""

    def send(self, message: str | bytes) -> None: ...
    def send_parts(self, parts: list[Any]) -> None:
        """Send a message in so many fragments."""

    def recv(self) -> str | bytes: ...
    def ping(self, payload: str) -> str:
        """Send a ping; return what the pong says."""

    def close(self, code: int, reason: str) -> None: ...
    def ended(self) -> tuple[int, str]:
        """Wait for the peer's Close: its code and reason."""

    def release(self) -> None:
        """Let go of what is left."""


class Server(Protocol):
    """A server of some library."""

    url: str
    ended: Queue[Any]
    """The code and reason of every Close from a client, as a list."""

    def release(self) -> None: ...


def order(message: Any) -> list[str]:
    """What a text asks a server to do; empty if it is to be returned."""
    words = message.split(" ", 2) if isinstance(message, str) and len(message) < 100 else []
    return words if words[:1] in (["close"], ["ping"]) else []


# The library `websockets`.


class WebsocketsClient:
    def __init__(self, url: str, *, deflate: bool) -> None:
        connect = importlib.import_module("websockets.sync.client").connect
        self.manager = connect(url, compression="deflate" if deflate else None, max_size=None, close_timeout=LIMIT)
        self.ws = self.manager.__enter__()
        self.deflate = bool(self.ws.protocol.extensions)
        self.send, self.send_parts, self.close = self.ws.send, self.ws.send, self.ws.close

    def recv(self) -> str | bytes:
        return self.ws.recv(timeout=LIMIT)

    def ping(self, payload: str) -> str:
        assert self.ws.ping(payload).wait(LIMIT)
        return payload

    def ended(self) -> tuple[int, str]:
        with pytest.raises(importlib.import_module("websockets.exceptions").ConnectionClosed) as caught:
            self.recv()
        return caught.value.rcvd.code, caught.value.rcvd.reason

    def release(self) -> None:
        self.manager.__exit__(None, None, None)


class WebsocketsServer:
    def __init__(self) -> None:
        serve = importlib.import_module("websockets.sync.server").serve
        self.ended: Queue[Any] = Queue()
        self.server = serve(self.echo, "127.0.0.1", 0, max_size=None, close_timeout=LIMIT)
        self.url = f"ws://127.0.0.1:{self.server.socket.getsockname()[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def echo(self, ws: Any) -> None:
        with suppress(importlib.import_module("websockets.exceptions").ConnectionClosedError):
            for message in ws:
                match order(message):
                    case ["close", code, reason]:
                        ws.close(int(code), reason)
                    case ["ping", payload]:
                        assert ws.ping(payload).wait(LIMIT)
                        ws.send(f"pong {payload}")
                    case _:
                        ws.send(message)
        self.ended.put([ws.protocol.close_rcvd.code, ws.protocol.close_rcvd.reason])

    def release(self) -> None:
        self.server.shutdown()
        self.thread.join(LIMIT)


# The library `websocket-client`, which knows no compression.


class WebsocketClientClient:
    deflate = False

    def __init__(self, url: str, *, deflate: bool) -> None:
        self.package = importlib.import_module("websocket")
        self.ws = self.package.create_connection(url, timeout=LIMIT)

    def send(self, message: str | bytes) -> None:
        self.send_parts([message])

    def send_parts(self, parts: list[Any]) -> None:
        abnf = self.package.ABNF
        opcode = abnf.OPCODE_TEXT if isinstance(parts[0], str) else abnf.OPCODE_BINARY
        for i, part in enumerate(parts):
            data = part.encode() if isinstance(part, str) else part
            self.ws.send_frame(abnf.create_frame(data, abnf.OPCODE_CONT if i else opcode, int(i == len(parts) - 1)))

    def recv(self) -> str | bytes:
        return self.ws.recv()

    def ping(self, payload: str) -> str:
        self.ws.ping(payload)
        return self.control(self.package.ABNF.OPCODE_PONG).decode()

    def close(self, code: int, reason: str) -> None:
        self.ws.close(code, reason.encode(), timeout=LIMIT)

    def ended(self) -> tuple[int, str]:
        payload = self.control(self.package.ABNF.OPCODE_CLOSE)
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()

    def release(self) -> None:
        self.ws.shutdown()

    def control(self, expected: int) -> bytes:
        opcode, payload = self.ws.recv_data(control_frame=True)
        assert opcode == expected
        return payload


# The library `ws`, in a process that does what the lines of its standard input say, and writes what happens.

SCRIPT = r"""
const WebSocket = require('ws');
const [role, deflate, url] = process.argv.slice(1);
const options = {perMessageDeflate: deflate === 'true' && {threshold: 0}, maxPayload: 0};
const say = (...event) => process.stdout.write(JSON.stringify(event) + '\n');
const lines = require('readline').createInterface({input: process.stdin});
lines.on('close', () => process.exit());

function tell(ws) {
  ws.on('pong', data => say('pong', data.toString()));
  ws.on('close', (code, reason) => say('close', code, reason.toString()));
  ws.on('error', error => say('error', error.message));
}

if (role === 'client') {
  const ws = new WebSocket(url, options);
  tell(ws);
  ws.on('open', () => say('open', ws.extensions));
  ws.on('message', (data, binary) => say('message', binary, data.toString('base64')));
  const commands = {
    send: (data, binary, fin) => ws.send(Buffer.from(data, 'base64'), {binary, fin}),
    ping: data => ws.ping(data),
    close: (code, reason) => ws.close(code, reason),
  };
  lines.on('line', line => {
    const [name, ...rest] = JSON.parse(line);
    commands[name](...rest);
  });
} else {
  const server = new WebSocket.Server({host: '127.0.0.1', port: 0, ...options});
  server.on('listening', () => say('listening', server.address().port));
  server.on('connection', ws => {
    tell(ws);
    ws.on('message', (data, binary) => {
      const [name, first, ...rest] = !binary && data.length < 100 ? data.toString().split(' ') : [];
      if (name === 'close') ws.close(+first, rest.join(' '));
      else if (name === 'ping') ws.ping(first);
      else ws.send(data, {binary});
    });
    ws.on('pong', data => ws.send(`pong ${data}`));
  });
}
"""


@cache
def node_path() -> str:
    """Where `ws` is."""
    path = os.pathsep.join(filter(None, [os.environ.get("FRAMEWIRE_NODE_MODULES"), os.environ.get("NODE_PATH")]))
    node = shutil.which("node")
    if node is None:
        return ""
    command = [node, "-e", "require.resolve('ws')"]
    found = subprocess.run(command, env=os.environ | {"NODE_PATH": path}, capture_output=True, timeout=LIMIT)
    return path if found.returncode == 0 else ""


class Node:
    """The process; its events come by name."""

    def __init__(self, *arguments: str) -> None:
        self.events: defaultdict[str, Queue[Any]] = defaultdict(Queue)
        self.process = subprocess.Popen(
            ["node", "-e", SCRIPT, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"NODE_PATH": node_path()},
        )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self) -> None:
        for line in self.process.stdout or ():
            name, *rest = json.loads(line)
            self.events[name].put(rest)

    def event(self, name: str) -> Any:
        return self.events[name].get(timeout=LIMIT)

    def tell(self, *command: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def release(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(LIMIT)
        finally:
            self.process.kill()
            self.process.wait()
            self.reader.join(LIMIT)
            self.process.stdout.close()
        assert list(self.events["error"].queue) == []


class NodeClient(Node):
    def __init__(self, url: str, *, deflate: bool) -> None:
        super().__init__("client", str(deflate).lower(), url)
        self.deflate = "permessage-deflate" in self.event("open")[0]

    def send(self, message: str | bytes) -> None:
        self.send_parts([message])

    def send_parts(self, parts: list[Any]) -> None:
        for i, part in enumerate(parts):
            data = part.encode() if isinstance(part, str) else part
            self.tell("send", b64encode(data).decode(), isinstance(part, bytes), i == len(parts) - 1)

    def recv(self) -> str | bytes:
        binary, data = self.event("message")
        return b64decode(data) if binary else b64decode(data).decode()

    def ping(self, payload: str) -> str:
        self.tell("ping", payload)
        return self.event("pong")[0]

    def close(self, code: int, reason: str) -> None:
        self.tell("close", code, reason)

    def ended(self) -> tuple[int, str]:
        return tuple(self.event("close"))


class NodeServer(Node):
    def __init__(self) -> None:
        super().__init__("server", "true")
        self.url = f"ws://127.0.0.1:{self.event('listening')[0]}"
        self.ended = self.events["close"]


# Ours.


class BlockingServer:
    """With a thread for each connection."""

    def __init__(self) -> None:
        self.ended: Queue[Any] = Queue()
        self.server = blocking.serve(self.handle, ("127.0.0.1", 0), timeout=LIMIT)
        host, port = self.server.address
        self.url = f"ws://{host}:{port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def handle(self, client: Any) -> None:
        for message in client:
            match order(message):
                case ["close", code, reason]:
                    client.close(int(code), reason, timeout=LIMIT)
                    break
                case ["ping", payload]:
                    answered = client.ping(payload.encode())  # it is this loop that reads the pong
                    threading.Thread(target=self.await_pong, args=(client, answered, payload), daemon=True).start()
                case _:
                    client.send(message)
        self.ended.put([client.close_code, client.close_reason])

    def await_pong(self, client: Any, answered: threading.Event, payload: str) -> None:
        if answered.wait(LIMIT):
            client.send(f"pong {payload}")

    def release(self) -> None:
        self.server.close()
        self.thread.join(LIMIT)


class BlockingClient:
    def __init__(self, url: str, *, deflate: bool) -> None:
        self.ws = blocking.connect(url, deflate=deflate, timeout=LIMIT)
        self.deflate = self.ws.deflate is not None
        self.send = self.ws.send

    def send_parts(self, parts: list[Any]) -> None:
        for i, part in enumerate(parts):
            self.ws.send_part(part, final=i == len(parts) - 1)

    def recv(self) -> Any:
        return self.ws.recv()

    def ping(self, payload: str) -> str:
        answered = self.ws.ping(payload.encode())
        self.ws.send("and a message")  # what answers it comes behind the pong
        assert self.ws.recv() == "and a message"
        assert answered.is_set()
        return payload

    def close(self, code: int, reason: str) -> None:
        self.ws.close(code, reason, timeout=LIMIT)

    def ended(self) -> tuple[int, str]:
        assert self.ws.recv() is None
        assert self.ws.close_code is not None
        return self.ws.close_code, self.ws.close_reason

    def release(self) -> None:
        self.ws.close()


class Asyncio:
    """An event loop of asyncio in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, call: Awaitable[Any]) -> Any:
        async def limited() -> Any:
            return await asyncio.wait_for(call, LIMIT)

        return asyncio.run_coroutine_threadsafe(limited(), self.loop).result()

    def release(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(LIMIT)
        self.loop.close()


class AioServer(Asyncio):
    def __init__(self) -> None:
        super().__init__()
        self.ended: Queue[Any] = Queue()
        self.server = self.run(aio.start_server(self.handle, ("127.0.0.1", 0)))
        host, port = self.server.addresses[0]
        self.url = f"ws://{host}:{port}"

    async def handle(self, client: Any) -> None:
        async for message in client:
            match order(message):
                case ["close", code, reason]:
                    await client.close(int(code), reason, timeout=LIMIT)
                    break
                case ["ping", payload]:
                    await client.ping(payload.encode(), timeout=LIMIT)
                    await client.send(f"pong {payload}")
                case _:
                    await client.send(message)
        self.ended.put([client.close_code, client.protocol.close_received.reason])

    def release(self) -> None:
        self.run(self.server.shutdown())
        super().release()


class AioClient(Asyncio):
    def __init__(self, url: str, *, deflate: bool) -> None:
        super().__init__()
        self.stream = self.run(aio.connect(url, deflate=deflate))
        self.deflate = self.stream.protocol.deflate is not None

    def send(self, message: str | bytes) -> None:
        self.run(self.stream.send(message))

    def send_parts(self, parts: list[Any]) -> None:
        raise NotImplementedError("streams send whole messages")

    def recv(self) -> Any:
        return self.run(self.stream.recv())

    def ping(self, payload: str) -> str:
        self.run(self.stream.ping(payload.encode()))
        return payload

    def close(self, code: int, reason: str) -> None:
        self.run(self.stream.close(code, reason, timeout=LIMIT))

    def ended(self) -> tuple[int, str]:
        assert self.recv() is None
        return self.stream.close_code, self.stream.protocol.close_received.reason

    def release(self) -> None:
        self.run(self.stream.close())
        super().release()


class LoopServer(Handler):
    """On the event loop, in a thread of its own."""

    def __init__(self) -> None:
        self.ended: Queue[Any] = Queue()
        self.loop = Loop()
        host, port = self.loop.listen(("127.0.0.1", 0), self, websocket.Server()).address
        self.url = f"ws://{host}:{port}"
        self.thread = threading.Thread(target=self.loop.run, daemon=True)
        self.thread.start()

    def frames_received(self, channel: Any, messages: list[Any]) -> None:
        for message in messages:
            match order(message):
                case ["close", code, reason]:
                    channel.close(code=int(code), reason=reason)
                case ["ping", payload]:
                    channel.ping(payload.encode(), partial(channel.send, f"pong {payload}"))
                case _:
                    channel.send(message)

    def disconnected(self, channel: Any, error: Exception | None) -> None:
        close = channel.websocket.close_received
        self.ended.put(close and [close.code, close.reason])

    def release(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.shutdown, LIMIT)
        self.thread.join(LIMIT)
        self.loop.close()


class LoopClient(Handler):
    """On the event loop, in a thread of its own."""

    def __init__(self, url: str, *, deflate: bool) -> None:
        self.messages: Queue[Any] = Queue()
        self.pongs: Queue[Any] = Queue()
        self.ends: Queue[Any] = Queue()
        self.open = threading.Event()
        self.loop = Loop()
        self.channel = websocket.Client(url, deflate=deflate).connect(self.loop, self)
        self.thread = threading.Thread(target=self.loop.run, daemon=True)
        self.thread.start()
        assert self.open.wait(LIMIT)
        self.deflate = self.channel.websocket.deflate is not None

    def connected(self, channel: Any) -> None:
        self.open.set()

    def frames_received(self, channel: Any, messages: list[Any]) -> None:
        for message in messages:
            self.messages.put(message)

    def disconnected(self, channel: Any, error: Exception | None) -> None:
        self.ends.put((channel.websocket.close_received, error))

    def send(self, message: str | bytes) -> None:
        self.loop.call_soon_threadsafe(self.channel.send, message)

    def send_parts(self, parts: list[Any]) -> None:
        raise NotImplementedError("channels send whole messages")

    def recv(self) -> str | bytes:
        return self.messages.get(timeout=LIMIT)

    def ping(self, payload: str) -> str:
        self.loop.call_soon_threadsafe(self.channel.ping, payload.encode(), partial(self.pongs.put, payload))
        return self.pongs.get(timeout=LIMIT)

    def close(self, code: int, reason: str) -> None:
        self.loop.call_soon_threadsafe(partial(self.channel.close, code=code, reason=reason))

    def ended(self) -> tuple[int, str]:
        close, error = self.ends.get(timeout=LIMIT)
        assert error is None
        return close.code, close.reason

    def release(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.shutdown, LIMIT)
        self.thread.join(LIMIT)
        self.loop.close()


# What meets whom.

THEIR_CLIENTS: dict[str, type[Client]] = {
    "websockets": WebsocketsClient,
    "websocket-client": WebsocketClientClient,
    "ws": NodeClient,
}
THEIR_SERVERS: dict[str, type[Server]] = {"websockets": WebsocketsServer, "ws": NodeServer}
OUR_CLIENTS: dict[str, type[Client]] = {"blocking": BlockingClient, "aio": AioClient, "loop": LoopClient}
OUR_SERVERS: dict[str, type[Server]] = {"blocking": BlockingServer, "aio": AioServer, "loop": LoopServer}

MODULES = {"websockets": "websockets", "websocket-client": "websocket"}

PAIRS = [
    *(
        pytest.param((client, server), id=f"{client} to our {server}")
        for client in THEIR_CLIENTS
        for server in OUR_SERVERS
    ),
    *(
        pytest.param((client, server), id=f"our {client} to {server}")
        for client in OUR_CLIENTS
        for server in THEIR_SERVERS
    ),
]


def require(library: str) -> None:
    """Skip the test if this library of theirs is not installed."""
    if library == "ws" and not node_path():
        pytest.skip("node's ws is not installed, or neither NODE_PATH nor FRAMEWIRE_NODE_MODULES says where")
    if library in MODULES and find_spec(MODULES[library]) is None:
        pytest.skip(f"{library} is not installed")


@pytest.fixture(params=PAIRS)
def names(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Of a client and a server that can meet here."""
    for name in request.param:
        require(name)
    return request.param


@pytest.fixture
def server(names: tuple[str, str]) -> Iterator[Server]:
    server = (OUR_SERVERS | THEIR_SERVERS)[names[1]]()
    yield server
    server.release()


@pytest.fixture
def connect(names: tuple[str, str], server: Server) -> Iterator[Callable[..., Client]]:
    clients = []

    def connect(*, deflate: bool = True) -> Client:
        clients.append((OUR_CLIENTS | THEIR_CLIENTS)[names[0]](server.url, deflate=deflate))
        return clients[-1]

    yield connect
    for client in clients:
        client.release()


Connect = Callable[..., Client]


def test_messages_of_any_size_come_back_as_what_they_were(connect: Connect) -> None:
    client = connect()
    for message in [
        "hello",
        b"hello",
        "",
        b"",
        "Grüße",
        bytes(125),
        "x" * 126,
        bytes(65535),
        bytes(65536),
        TEXT,
        RANDOM,
    ]:
        client.send(message)
        assert client.recv() == message


def test_many_messages_come_back_in_order(connect: Connect) -> None:
    client = connect()
    messages = [f"message {i}" if i % 2 else b"%d" % i * (i % 300) for i in range(1000)]
    for message in messages:
        client.send(message)
    assert [client.recv() for _ in messages] == messages


@pytest.mark.parametrize("names", [pair for pair in PAIRS if pair.values[0][0] not in ("aio", "loop")], indirect=True)
def test_fragments_are_one_message_with_compression_and_without(connect: Connect) -> None:
    for client in (connect(deflate=True), connect(deflate=False)):
        client.send_parts(["Grü", "ße, ", "", "😀"])
        client.send_parts([b"one ", RANDOM, b" two"])
        assert client.recv() == "Grüße, 😀"
        assert client.recv() == b"one " + RANDOM + b" two"


def test_compression_is_agreed_on_and_not_if_it_is_not_offered(names: tuple[str, str], connect: Connect) -> None:
    for offered in (True, False):
        client = connect(deflate=offered)
        assert client.deflate == (offered and names[0] != "websocket-client")
        for i in range(100):  # the window of the compression goes on from one to the next
            client.send(message := TEXT[i : i + 5 * i])
            assert client.recv() == message


def test_pings_are_answered_both_ways(connect: Connect) -> None:
    client = connect()
    assert client.ping("anybody there") == "anybody there"
    client.send("ping yes")
    assert client.recv() == "pong yes"


def test_the_server_hears_the_code_and_the_reason_of_a_client_that_closes(connect: Connect, server: Server) -> None:
    client = connect()
    client.send("hello")
    assert client.recv() == "hello"
    client.close(4123, "enough, thänks")
    assert server.ended.get(timeout=LIMIT) == [4123, "enough, thänks"]


def test_the_client_hears_the_code_and_the_reason_of_a_server_that_closes(connect: Connect) -> None:
    client = connect()
    client.send("hello")
    client.send("close 4001 so long")
    assert client.recv() == "hello"
    assert client.ended() == (4001, "so long")
