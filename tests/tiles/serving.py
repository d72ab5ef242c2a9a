"""Servers on the loopback, for tests: when they answer, and one that misbehaves on purpose."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeAlias

Answer: TypeAlias = tuple[int, dict[str, str], bytes]


def when_open(port: int, seconds: float = 30.0) -> None:
    """Returns once something listens on the port; fails after a while."""
    until = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < until, f"nothing listens on port {port}"
            time.sleep(0.05)


@contextmanager
def answering(answer: Callable[[str], Answer], ports: list[int] | None = None) -> Iterator[str]:
    """A web server that answers each path as it is told to.

    A body of a subclass of bytes is sent byte by byte. ``ports`` is given the client's port of each request.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, headers, body = answer(self.path)
            if ports is not None:
                ports.append(self.client_address[1])
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if type(body) is bytes:
                self.wfile.write(body)
                return
            with suppress(OSError):  # the client may have had enough
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.05)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(30)
