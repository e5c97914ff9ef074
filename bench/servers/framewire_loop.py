"""framewire's loop: a handler gets what one read completed, and sends it in one call."""

from __future__ import annotations

import argparse

from framewire.loop import Channel, Group, Handler, Loop


class Echo(Handler):
    def frames_received(self, channel: Channel, payloads: list[bytes]) -> None:
        channel.send_many(payloads)


class Broadcast(Handler):
    def __init__(self, group: Group) -> None:
        self.group = group

    def connected(self, channel: Channel) -> None:
        self.group.add(channel)  # which leaves by itself

    def frames_received(self, channel: Channel, payloads: list[bytes]) -> None:
        self.group.send_many(payloads, exclude=channel)


parser = argparse.ArgumentParser()
parser.add_argument("mode", choices=["echo", "broadcast"])
parser.add_argument("--busy-poll", type=float, default=0.0)
options = parser.parse_args()
with Loop(busy_poll=options.busy_poll) as loop:
    handler = Broadcast(Group(loop, "u32be")) if options.mode == "broadcast" else Echo()
    listener = loop.listen(("127.0.0.1", 0), handler, "u32be", backlog=4096)
    print(listener.address[1], flush=True)
    loop.run()
