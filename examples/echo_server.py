"""An echo server: whoever connects gets back what it sends, frame by frame.

python examples/echo_server.py [PORT]           then: framewire encode < text | nc localhost PORT
"""

import logging
import signal
import sys

from framewire.loop import Channel, Handler, Loop


class Echo(Handler):
    def frames_received(self, channel: Channel, payloads: list[bytes]) -> None:
        channel.send_many(payloads)


def main(port: int = 7007) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with Loop() as loop:
        loop.listen(("127.0.0.1", port), Echo(), "ascii10", idle_timeout=60)
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.on_signal(signum, loop.shutdown)  # what is on its way still arrives
        loop.run()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
