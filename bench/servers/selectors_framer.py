"""A plain loop over the standard library's selector, with framewire's decoder and encoder: what they give without the
event loop. One read and one joined write for a ready connection and turn."""

from __future__ import annotations

import socket
import sys
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector

from framewire import Decoder, Encoder

READ_SIZE = 64 << 10  # more than malloc keeps: each read would map fresh pages


class Connection:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.feed = Decoder("u32be").feed
        self.unsent = b""

    def receive(self) -> None:
        try:
            chunk = self.sock.recv(READ_SIZE)
            payloads = self.feed(chunk)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            chunk = b""
        if not chunk:
            selector.unregister(self.sock)
            self.sock.close()
            everyone.discard(self)
        elif payloads:
            run = encode_many(payloads)
            for receiver in everyone - {self} if broadcasting else (self,):
                receiver.send(run)

    def send(self, run: bytes) -> None:
        if not self.unsent:
            run = self.send_some(run)
        self.unsent += run
        if self.unsent:  # and nothing is read meanwhile: who does not take answers asks no questions
            selector.modify(self.sock, EVENT_WRITE, self.send_unsent)

    def send_unsent(self) -> None:
        self.unsent = self.send_some(self.unsent)
        if not self.unsent:
            selector.modify(self.sock, EVENT_READ, self.receive)

    def send_some(self, run: bytes) -> bytes:
        """What the socket did not take; nothing if the connection is lost, which the next read will notice."""
        try:
            return run[self.sock.send(run) :]
        except BlockingIOError:
            return run
        except OSError:
            return b""


def accept() -> None:
    sock, _ = listener.accept()
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = Connection(sock)
    everyone.add(connection)
    selector.register(sock, EVENT_READ, connection.receive)


broadcasting = sys.argv[1] == "broadcast"
everyone: set[Connection] = set()
encode_many = Encoder("u32be").encode_many
selector = DefaultSelector()
with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
    selector.register(listener, EVENT_READ, accept)
    print(listener.getsockname()[1], flush=True)
    while True:
        for key, _ in selector.select():
            key.data()
