"""The programs in ``examples``: short, and they do what they say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import framewire

EXAMPLES = Path(__file__).parent.parent / "examples"
LONGEST = 40


def start(name: str, *args: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(framewire.__file__).parents[1])}
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *args]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("name", ["echo_server.py", "request_reply.py", "custom_protocol.py"])
def test_an_example_is_short(name: str) -> None:
    assert len((EXAMPLES / name).read_text().splitlines()) < LONGEST


def test_request_and_reply() -> None:
    with start("request_reply.py") as program:
        printed = program.communicate(timeout=60)
    assert printed == ("[1, 5]\n[2, 'HELLO']\n[None, \"KeyError('divide')\"]\n", "")
    assert program.returncode == 0


def test_a_custom_protocol() -> None:
    with start("custom_protocol.py") as program:
        printed = program.communicate(timeout=60)
    assert printed == (
        "kind 1 flags 0x00 body b'hello'\nkind 2 flags 0x80 body b''\nkind 1 flags 0x00 body b'world'\n",
        "",
    )


def test_the_echo_server_answers_and_ends_when_told() -> None:
    with start("echo_server.py", "0") as program:
        try:
            assert program.stderr is not None
            port = int(program.stderr.readline().split()[2].rpartition(":")[2])
            with framewire.connect(("127.0.0.1", port), timeout=60) as server:
                server.send_many([b"hello", b"world"])
                assert [server.recv(), server.recv()] == [b"hello", b"world"]
                program.send_signal(signal.SIGTERM)
                assert server.recv() is None
            assert program.wait(timeout=60) == 0
        finally:
            program.kill()
