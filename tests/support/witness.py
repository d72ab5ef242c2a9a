"""A witness on loopback that keeps to c2sp.org/tlog-witness, for tests. Its answers can be bent, for hostile ones.

It keeps each log's last tree in memory, checks the log's signature and the consistency proof, and cosigns.
"""

from __future__ import annotations

import base64
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ledger.checkpoint import Checkpoint
from ledger.cosignature import cosigned_message
from ledger.note import NoteSignature, VerifierKey
from ledger.witness import SIZE_TYPE, parse_request
from zk_autograd.errors import DecodeError, VerificationError
from zk_autograd.merkle import EMPTY_ROOT, verify_consistency
from zk_autograd.note_keys import WitnessKey
from zk_autograd.tee.keys import SigningKey, new_signing_key


@dataclass
class Response:
    """Status, body and content type."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain"


Bend = Callable[[Response, Checkpoint | None], Response]


def cosignature(key: SigningKey, name: str, text: str, timestamp: int | None = None) -> NoteSignature:
    """A cosignature of this text."""
    at = int(time.time()) if timestamp is None else timestamp
    signature = struct.pack(">Q", at) + key.sign(cosigned_message(text, at))
    return NoteSignature(name, WitnessKey(name, key.public_key).key_id, signature)


@dataclass
class Witness:
    """One witness: what it holds of each log, and how its answers are bent, if at all."""

    name: str
    logs: dict[str, VerifierKey]
    key: SigningKey = field(default_factory=new_signing_key)
    heads: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    bend: Bend = lambda response, checkpoint: response
    requests: list[bytes] = field(default_factory=list)
    url: str = ""

    @property
    def vkey(self) -> WitnessKey:
        return WitnessKey(self.name, self.key.public_key)

    def answer(self, body: bytes) -> Response:
        """What the specification says."""
        self.requests.append(body)
        try:
            old, proof, checkpoint = parse_request(body)
        except DecodeError as error:
            return Response(400, str(error).encode())
        origin = checkpoint.origin
        if origin not in self.logs:
            return Response(404)
        try:
            checkpoint.note.verify([self.logs[origin]])
        except VerificationError:
            return Response(403)
        if old > checkpoint.size:
            return Response(400)
        held, root = self.heads.get(origin, (0, EMPTY_ROOT))
        if old != held:
            return Response(409, b"%d\n" % held, SIZE_TYPE)
        if held == checkpoint.size and root != checkpoint.root:
            return Response(409)
        try:
            verify_consistency(held, root, checkpoint.size, checkpoint.root, proof)
        except VerificationError as error:
            return Response(422, str(error).encode())
        self.heads[origin] = (checkpoint.size, checkpoint.root)
        return Response(200, str(cosignature(self.key, self.name, checkpoint.note.text)).encode())

    def bent(self, body: bytes) -> Response:
        """The same, bent."""
        try:
            checkpoint = parse_request(body)[2]
        except DecodeError:
            checkpoint = None
        return self.bend(self.answer(body), checkpoint)


@contextmanager
def serving(witness: Witness) -> Iterator[Witness]:
    """The witness on a free port of loopback, at ``witness.url``, for as long as the block runs."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            response = Response(404) if self.path != "/w/add-checkpoint" else witness.bent(body)
            self.send_response(response.status)
            self.send_header("Content-Type", response.content_type)
            self.send_header("Content-Length", str(len(response.body)))
            self.end_headers()
            self.wfile.write(response.body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    witness.url = f"http://127.0.0.1:{server.server_address[1]}/w/"
    try:
        yield witness
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def altered(line: bytes) -> bytes:
    """A signature line with one bit of its signature turned over."""
    head, encoded = line.decode().rstrip("\n").rsplit(" ", 1)
    raw = bytearray(base64.b64decode(encoded))
    raw[-1] ^= 1
    return f"{head} {base64.b64encode(bytes(raw)).decode()}\n".encode()
