"""The pages of the servers: plain files that stand in the package, served from memory over HTTP."""

from __future__ import annotations

from importlib.resources import files

from ..websocket import Request, Response

SOCKET = "/ws"
"""Where the pages find their WebSocket."""

TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""All that a page needs comes from here; nothing runs that stands in it, and nobody may show it inside of another."""

HEADERS = (
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-cache"),
)


class Pages:
    """Answers requests for one page and the files that belong to it; for `framewire.websocket.Server`.

    Args:
        index: The file that stands at ``/``.
    """

    def __init__(self, index: str) -> None:
        folder = files(__package__) / "web"
        self._found = {f"/{file.name}": _response(file.name, file.read_bytes()) for file in folder.iterdir()}
        self._found["/"] = self._found[f"/{index}"]

    def __call__(self, request: Request) -> Response | None:
        """The answer; None where the WebSocket is."""
        if request.path == SOCKET:
            return None
        if request.path not in self._found:
            return Response(404, (("Content-Type", "text/plain; charset=utf-8"), *HEADERS), b"There is no such page.\n")
        if request.method not in ("GET", "HEAD"):
            return Response(405, (("Allow", "GET, HEAD"), *HEADERS))
        return self._found[request.path]


def _response(name: str, body: bytes) -> Response:
    return Response(200, (("Content-Type", TYPES[name.rpartition(".")[2]]), *HEADERS), body)
