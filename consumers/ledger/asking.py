"""One HTTP request to a witness, in bounded time and of bounded size: no redirects, no proxies, nothing is kept."""

from __future__ import annotations

import http.client
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from ledger.witness import MAX_RESPONSE_BYTES
from zk_autograd.errors import WitnessError

TIMEOUT = 5.0
"""Seconds for one request, from the first packet to the last."""


@dataclass(frozen=True)
class Answer:
    """What came back: HTTP status, content type without its parameters, and the body."""

    status: int
    content_type: str
    body: bytes


def ask(prefix: str, request: bytes, timeout: float = TIMEOUT) -> Answer:
    """POSTs ``request`` to ``prefix``/add-checkpoint.

    Raises:
        WitnessError: no whole answer of at most MAX_RESPONSE_BYTES in time.
    """
    parts = urlsplit(prefix)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    late = threading.Event()
    connection = kind(parts.hostname or "", parts.port, timeout=timeout)
    opened: socket.socket | None = None  # the connection forgets its socket once the answer's headers are there

    def hang_up() -> None:
        late.set()
        if (sock := opened or connection.sock) is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    # A socket's time-out is for one read each: whoever sends a byte at a time would never meet it.
    watch = threading.Timer(timeout, hang_up)
    watch.daemon = True
    watch.start()
    try:
        connection.connect()
        opened = connection.sock
        if late.is_set():
            raise TimeoutError
        connection.request(
            "POST", parts.path.rstrip("/") + "/add-checkpoint", request, {"Content-Type": "text/plain; charset=utf-8"}
        )
        response = connection.getresponse()
        body = response.read(MAX_RESPONSE_BYTES + 1)
        if late.is_set():
            raise TimeoutError
        if len(body) > MAX_RESPONSE_BYTES:
            raise WitnessError(f"answers with more than {MAX_RESPONSE_BYTES} bytes")
        return Answer(response.status, (response.getheader("Content-Type") or "").split(";")[0].strip(), body)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if late.is_set() or isinstance(error, TimeoutError):
            raise WitnessError(f"no answer within {timeout:g} seconds") from None
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise WitnessError(f"cannot be reached: {reason}") from None
    finally:
        watch.cancel()
        connection.close()
