"""A service that answers requests in order, and a client that asks: JSON in frames with a 4-byte length."""

import json
import threading

import framewire
from framewire.loop import Channel, Handler, Loop

METHODS = {"add": lambda *numbers: sum(numbers), "upper": str.upper}


def answer(request: bytes) -> bytes:
    try:
        number, method, *arguments = json.loads(request)
        return json.dumps([number, METHODS[method](*arguments)]).encode()
    except (ValueError, KeyError, TypeError) as error:
        return json.dumps([None, repr(error)]).encode()


class Service(Handler):
    def frames_received(self, channel: Channel, payloads: list[bytes]) -> None:
        channel.send_many([answer(request) for request in payloads])


def ask(address: tuple[str, int], loop: Loop) -> None:
    with framewire.connect(address, "u32be") as service:
        requests = [[1, "add", 2, 3], [2, "upper", "hello"], [3, "divide", 1, 0]]
        service.send_many([json.dumps(request).encode() for request in requests])
        for _ in requests:
            print(json.loads(service.recv() or b"null"))
    loop.call_soon_threadsafe(loop.shutdown)


if __name__ == "__main__":
    with Loop() as loop:
        listener = loop.listen(("127.0.0.1", 0), Service(), "u32be", max_size=2**20)
        threading.Thread(target=ask, args=[listener.address, loop]).start()
        loop.run()
