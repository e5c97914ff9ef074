"""Addresses of sockets: how people read them, and how to listen on them."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from typing import Any

EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
"""What accept() says when the process or the system has no more descriptors."""


def address_name(address: Any) -> str:
    """A socket's address, for people."""
    if not isinstance(address, tuple):
        return (os.fsdecode(address) if address else "") or "unix"
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listening_on(
    address: tuple[str, int] | str | os.PathLike[str] | socket.socket, backlog: int, *, reuse_port: bool = False
) -> socket.socket:
    """A listening, non-blocking socket: for ``(host, port)``, for the path of a Unix socket, or that which is given."""
    if isinstance(address, socket.socket):
        sock = address
    elif isinstance(address, tuple):
        host, port = address[:2]
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        both = family == socket.AF_INET6 and host == "::" and socket.has_dualstack_ipv6()
        sock = socket.create_server(
            (host, port), family=family, backlog=backlog, reuse_port=reuse_port, dualstack_ipv6=both
        )
    else:
        sock = _listening_at(os.fspath(address), backlog)
    sock.setblocking(False)
    return sock


def _listening_at(path: str, backlog: int) -> socket.socket:
    """A Unix socket at this path, also where a dead server has left one."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_dead(path):
                raise
            os.unlink(path)
            sock.bind(path)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_dead(path: str) -> bool:
    """Whether this is a socket on which nobody listens."""
    if not stat.S_ISSOCK(os.stat(path).st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # its backlog may be full
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


def path_of(sock: socket.socket) -> tuple[str, int] | None:
    """The path of a Unix socket, and the file that it is now."""
    if sock.family != getattr(socket, "AF_UNIX", None):
        return None
    path = sock.getsockname()
    if not path or not isinstance(path, str):
        return None
    return path, os.stat(path).st_ino


def remove(path: str, inode: int) -> None:
    """Remove a socket's path, unless somebody else has put another there."""
    with suppress(OSError):
        if os.stat(path).st_ino == inode:
            os.unlink(path)
