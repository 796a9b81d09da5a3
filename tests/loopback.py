"""A real HTTP server on 127.0.0.1 that behaves as told: well, badly, slowly, or not at all.

with Loopback() as server:
    server.serve("m.zip", status(503), whole(data))  # first answer, then all further ones
    fetch([server.url("m.zip")], ...)
    assert server.count("m.zip") == 2
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from unittest import mock

Behavior = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class Request:
    """One request as it came in; `path` is the whole URL when the server is used as a proxy."""

    path: str
    headers: dict[str, str]


@dataclass
class Loopback:
    """The server; a context manager that also keeps requests to it away from any proxy."""

    requests: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._behaviors: dict[str, tuple[Behavior, ...]] = {}
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self.released = threading.Event()
        self.errors: list[BaseException] = []

    def __enter__(self) -> Loopback:
        environ = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        self._stack.enter_context(mock.patch.dict(os.environ, environ))
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.loopback = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.vanish()
        self._thread.join()
        self._stack.close()
        if error is None and self.errors:
            raise self.errors[0]

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/{path}"

    def serve(self, path: str, *behaviors: Behavior) -> str:
        """Answer requests for a path by each behavior in turn, the last one for ever."""
        self._behaviors[f"/{path}"] = behaviors
        return self.url(path)

    def count(self, path: str) -> int:
        return sum(request.path == f"/{path}" for request in list(self.requests))

    def vanish(self) -> None:
        """Stop listening and let every stalled connection go."""
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        with self._lock:
            turn = sum(request.path == handler.path for request in self.requests)
            self.requests.append(Request(handler.path, dict(handler.headers.items())))
        behaviors = self._behaviors.get(handler.path, (status(404),))
        behaviors[min(turn, len(behaviors) - 1)](handler)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    loopback: Loopback

    def handle_error(self, request: object, client_address: object) -> None:
        import sys

        error = sys.exc_info()[1]
        # Clients that go away in the middle are what these tests are about.
        if error is not None and not isinstance(error, ConnectionError):
            self.loopback.errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self.server.loopback.answer(self)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def _start(handler: BaseHTTPRequestHandler, length: int | None) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/zip")
    if length is not None:
        handler.send_header("Content-Length", str(length))
    handler.end_headers()


def whole(data: bytes, *, length: bool = True) -> Behavior:
    """Send everything; without a length, the end of the connection is the end of the file."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        _start(handler, len(data) if length else None)
        handler.wfile.write(data)

    return behave


def status(code: int) -> Behavior:
    """Answer with an error page."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        handler.send_error(code)

    return behave


def truncated(data: bytes, keep: int, *, length: bool = True) -> Behavior:
    """Close the connection after `keep` bytes."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        _start(handler, len(data) if length else None)
        handler.wfile.write(data[:keep])

    return behave


def stalled(data: bytes, keep: int) -> Behavior:
    """Send `keep` bytes, then nothing, with the connection left open."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        _start(handler, len(data))
        handler.wfile.write(data[:keep])
        handler.wfile.flush()
        handler.server.loopback.released.wait(30)  # type: ignore[attr-defined]

    return behave


def vanishing(data: bytes, keep: int) -> Behavior:
    """Send `keep` bytes, then take the whole server away."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        _start(handler, len(data))
        handler.wfile.write(data[:keep])
        handler.wfile.flush()
        handler.server.loopback.vanish()  # type: ignore[attr-defined]

    return behave


def dropped(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True


def redirected(url: str, code: int = 302) -> Behavior:
    """Send the client elsewhere."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        handler.send_header("Location", url)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return behave


def trickled(
    data: bytes,
    pieces: int,
    pause_s: float,
    reached: Callable[[int], None] = lambda piece: None,
) -> Behavior:
    """Send the data in pieces with pauses; `reached` is called after each piece (0, 1, …)."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        _start(handler, len(data))
        step = -(-len(data) // pieces)
        for piece, offset in enumerate(range(0, len(data), step)):
            handler.wfile.write(data[offset : offset + step])
            handler.wfile.flush()
            reached(piece)
            time.sleep(pause_s)

    return behave


def endless(start: bytes, piece: bytes, pause_s: float = 0.0) -> Behavior:
    """Send `start` instead of an answer, then one piece after the other until nobody listens."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        handler.wfile.write(start)
        while not handler.server.loopback.released.wait(pause_s):  # type: ignore[attr-defined]
            handler.wfile.write(piece)
            handler.wfile.flush()

    return behave
