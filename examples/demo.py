"""The sockets tutorial's server, read with framewire: what ``make demo`` shows.

The server writes as the tutorial's does, ``f"{len(msg):<10}" + msg``, but as unkindly as a network can: several
messages at once, and cut at odd places. The client reads at most 16 bytes at a time, and still gets whole messages.
"""

import socket
import statistics
import threading
import time

import framewire
from framewire import _core_py

HOST = "127.0.0.1"
READ_SIZE = 16
CHUNK_SIZE = 64 * 1024
MESSAGE_COUNT = 100_000
ROUND_COUNT = 5


def serve(listener: socket.socket) -> None:
    """Greet one client, tell it the time for a while, and hang up."""
    client, _ = listener.accept()
    with client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        send_in_pieces(client, frame("Welcome to the server!"), sizes=[1, 9, 3])
        for _ in range(4):
            several = b"".join(frame(f"The time is {time.time():.5f}") for _ in range(3))
            send_in_pieces(client, several, sizes=[7, 30, 2, 41])
            time.sleep(0.2)


def frame(message: str) -> bytes:
    return f"{len(message):<10}{message}".encode()


def send_in_pieces(client: socket.socket, data: bytes, sizes: list[int]) -> None:
    for size in sizes:
        client.sendall(data[:size])
        data = data[size:]
        time.sleep(0.01)  # so that the pieces travel alone
    client.sendall(data)


def read(address: tuple[str, int]) -> None:
    """The loop that every user of framewire writes, or has written for them by `framewire.blocking`."""
    message_count = read_count = 0
    decoder = framewire.Decoder("ascii10")
    with socket.create_connection(address) as sock:
        while chunk := sock.recv(READ_SIZE):
            read_count += 1
            for payload in decoder.feed(chunk):
                message_count += 1
                print(f"  {payload.decode()}")
    decoder.feed_eof()  # raises IncompleteFrame, had the server hung up in the middle of a message
    print(f"{message_count} messages in {read_count} reads of at most {READ_SIZE} bytes")


def measure() -> None:
    """Decode the same stream in memory with each core, in turn; tell the medians."""
    stream = frame("The time is 1552068299.01783") * MESSAGE_COUNT
    chunks = [stream[at : at + CHUNK_SIZE] for at in range(0, len(stream), CHUNK_SIZE)]
    cores = {"compiled core": framewire.Decoder} if framewire.CORE == "c" else {}
    cores["pure-Python core"] = _core_py.Decoder
    times: dict[str, list[float]] = {name: [] for name in cores}
    for _ in range(ROUND_COUNT):
        for name, decoder_type in cores.items():
            decoder = decoder_type("ascii10")
            started = time.perf_counter()
            count = sum(len(decoder.feed(chunk)) for chunk in chunks)
            times[name].append(time.perf_counter() - started)
            assert count == MESSAGE_COUNT
    print(
        f"decoding {MESSAGE_COUNT:,} such messages from memory, {CHUNK_SIZE // 1024} KiB at a time "
        f"(median of {ROUND_COUNT}):"
    )
    for name in cores:
        seconds = statistics.median(times[name])
        print(f"  {name:<16} {MESSAGE_COUNT / seconds:12,.0f} messages/s {1e9 * seconds / MESSAGE_COUNT:8,.1f} ns each")


def main() -> None:
    with socket.create_server((HOST, 0)) as listener:
        address = listener.getsockname()[:2]
        server = threading.Thread(target=serve, args=[listener], daemon=True)
        server.start()
        print(f"reading {address[0]}:{address[1]}, {READ_SIZE} bytes at a time:")
        read(address)
        server.join()
    if framewire.CORE == "c":
        print("framewire runs its compiled core")
    else:
        print(f"framewire runs its pure-Python core: {framewire.CORE_ERROR}")
    measure()


if __name__ == "__main__":
    main()
