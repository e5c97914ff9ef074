"""Pairs of connected sockets over everything that a driver runs on, and a certificate for TLS."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest


def make_certificate(directory: Path) -> Path:
    """A key and a certificate for ``localhost`` in one file; the certificate alone stands beside it as ``.crt``."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl command to make a certificate with")
    path = directory / "both.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    made = subprocess.run([*command, "-keyout", path, "-out", path.with_suffix(".crt")], capture_output=True)
    if made.returncode:
        pytest.skip(f"openssl makes no certificate: {made.stderr.decode(errors='replace')}")
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


def tls_contexts(certificate: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """One for servers, and one for their clients, which check that it is ``localhost``."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    return server, ssl.create_default_context(cafile=certificate.with_suffix(".crt"))


def over_unix() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair()


def over_tcp() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here = socket.create_connection(listener.getsockname())
        there, _ = listener.accept()
    return here, there


def over_tls(certificate: Path) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    server, client = tls_contexts(certificate)
    here, there = socket.socketpair()
    accepted: list[ssl.SSLSocket] = []
    accept = threading.Thread(target=lambda: accepted.append(server.wrap_socket(there, server_side=True)))
    accept.start()
    wrapped = client.wrap_socket(here, server_hostname="localhost")
    accept.join()
    return wrapped, accepted[0]
