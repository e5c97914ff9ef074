"""A protocol of asyncio with a framer written by hand: what most programs have.

Its echo joins the answers to one read. Its broadcast writes every message to every receiver, as it comes.
"""

from __future__ import annotations

import asyncio
import struct
import sys

PACK = struct.Struct(">I").pack
UNPACK = struct.Struct(">I").unpack_from


class Framed(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.buffer = bytearray()

    def data_received(self, chunk: bytes) -> None:
        buffer = self.buffer
        buffer += chunk
        payloads = []
        pos, end = 0, len(buffer)
        while pos + 4 <= end:
            start = pos + 4
            stop = start + UNPACK(buffer, pos)[0]
            if stop > end:
                break
            payloads.append(buffer[start:stop])
            pos = stop
        del buffer[:pos]
        if payloads:
            self.frames_received(payloads)


class Echo(Framed):
    def frames_received(self, payloads: list[bytearray]) -> None:
        self.transport.write(b"".join([PACK(len(payload)) + payload for payload in payloads]))


class Broadcast(Framed):
    everyone: set[Broadcast] = set()  # noqa: RUF012 -- one room

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.everyone.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.everyone.discard(self)

    def frames_received(self, payloads: list[bytearray]) -> None:
        for payload in payloads:
            frame = PACK(len(payload)) + payload
            for receiver in self.everyone:
                if receiver is not self:
                    receiver.transport.write(frame)


async def serve() -> None:
    protocol = Broadcast if sys.argv[1] == "broadcast" else Echo
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve())
