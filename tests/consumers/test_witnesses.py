"""The ledger's side of the witness protocol, against witnesses on loopback: honest, down, slow and hostile."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from consumers.ledger.asking import Answer, ask
from consumers.ledger.witnesses import Cosigners
from ledger import Tree, VerifierKey, parse_checkpoint, sign_checkpoint
from ledger.cosignature import cosigned
from ledger.witness import MAX_RESPONSE_BYTES, SIZE_TYPE
from tests.support.witness import Response, Witness, altered, cosignature, serving
from zk_autograd.errors import WitnessError
from zk_autograd.policy import Witnesses
from zk_autograd.tee.keys import new_signing_key

ORIGIN = "example.com/log"
KEY = new_signing_key()
VKEY = VerifierKey(ORIGIN, KEY.public_key)
TREE = Tree([b"entry %d" % i for i in range(40)])


def checkpoint(size: int, tree: Tree = TREE) -> str:
    return sign_checkpoint(ORIGIN, size, tree.root_at(size), ORIGIN, KEY.sign, KEY.public_key)


@dataclass
class Said:
    """A reporter that remembers."""

    lines: list[str] = field(default_factory=list)
    facts: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, line: str, **facts: Any) -> None:
        self.lines.append(line)
        self.facts.append(facts)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def witnesses(*names: str, **same: Any) -> Iterator[list[Witness]]:
    with ExitStack() as stack:
        yield [stack.enter_context(serving(Witness(name, {ORIGIN: VKEY}, **same))) for name in names]


def cosigners(
    those: Sequence[Witness], said: Said, clock: Clock | None = None, timeout: float = 5.0, ask: Any = ask
) -> Cosigners:
    policy = Witnesses(1, {w.vkey: w.url for w in those})
    return Cosigners(policy, said, ask, timeout, clock or Clock())  # type: ignore[arg-type]


def signers(note: str | None, those: Sequence[Witness]) -> set[str]:
    assert note is not None
    return {key.name for key in cosigned(parse_checkpoint(note).note, [w.vkey for w in those])}


def test_every_witness_cosigns_each_checkpoint_as_the_tree_grows() -> None:
    said = Said()
    with witnesses("w1", "w2", "w3") as those:
        mine = cosigners(those, said)
        for size in (1, 2, 7, 8, 8, 40):
            note = checkpoint(size)
            longer = mine.cosign(note, TREE)
            assert longer is not None
            assert longer.startswith(note)
            assert signers(longer, those) == {"w1", "w2", "w3"}
            assert mine.cosign(longer, TREE) is None, "nothing is asked for what is there"
        assert [len(w.requests) for w in those] == [6, 6, 6]
    assert said.lines == []


def test_a_ledger_that_restarts_learns_from_the_answer_what_a_witness_holds() -> None:
    said = Said()
    with witnesses("w1") as those:
        cosigners(those, said).cosign(checkpoint(13), TREE)
        assert signers(cosigners(those, said).cosign(checkpoint(21), TREE), those) == {"w1"}
        assert [r.split(b"\n")[0] for r in those[0].requests] == [b"old 0", b"old 0", b"old 13"]
    assert said.lines == []


def test_a_witness_that_is_down_is_said_and_left_alone_for_a_while_and_the_others_count() -> None:
    said, clock = Said(), Clock()
    with witnesses("up", "down") as those:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            free = taken.getsockname()[1]
        live, those[1].url = those[1].url, f"http://127.0.0.1:{free}/w/"
        mine = cosigners(those, said, clock)
        note = mine.cosign(checkpoint(5), TREE)
        assert signers(note, those) == {"up"}
        assert note is not None
        assert [key.name for key in mine.lacking(note)] == ["down"]
        assert "witness down: cannot be reached: Connection refused; not cosigned, asked again in 10" in said.lines[0]
        assert mine.cosign(note, TREE) is None
        assert len(said.lines) == 1, "it is not asked before its time"
        for pause in (20, 40, 80, 160, 320, 600, 600):
            clock.now += 600
            assert mine.cosign(note, TREE) is None
            assert said.facts[-1] == {"witness": "down", "retry_seconds": pause}
        mine._all[1].url = live
        clock.now += 600
        assert signers(mine.cosign(note, TREE), those) == {"up", "down"}


def test_a_split_view_is_refused_by_a_witness_and_said() -> None:
    """The ledger's key signs two histories. Whoever has been shown the first does not cosign the second."""
    said = Said()
    other = Tree([b"entry 0", b"another", *(b"entry %d" % i for i in range(2, 40))])
    with witnesses("w1") as those:
        assert signers(cosigners(those, said).cosign(checkpoint(8), TREE), those) == {"w1"}
        for size in (8, 9, 40):
            assert cosigners(those, said).cosign(checkpoint(size, other), other) is None
        assert those[0].heads[ORIGIN] == (8, TREE.root_at(8))
    assert "another root for 8 entries" in said.lines[0]
    assert all("different histories" in line for line in said.lines)
    assert len(said.lines) == 3


def test_a_ledger_that_was_rolled_back_is_told_so() -> None:
    said = Said()
    with witnesses("w1") as those:
        cosigners(those, said).cosign(checkpoint(30), TREE)
        assert cosigners(those, said).cosign(checkpoint(12), TREE) is None
    assert "holds a tree of 30 entries, this ledger signed one of 12: the ledger was rolled back" in said.lines[0]


def test_a_witness_that_does_not_know_the_log_or_its_key_says_so() -> None:
    said = Said()
    with witnesses("w1", "w2") as those:
        those[0].logs = {}
        those[1].logs = {ORIGIN: VerifierKey(ORIGIN, new_signing_key().public_key)}
        assert cosigners(those, said).cosign(checkpoint(3), TREE) is None
    assert "does not know this ledger's origin: its operator has to add it (status 404" in said.lines[0]
    assert "does not take this ledger's key" in said.lines[1]
    assert "(status 403" in said.lines[1]


FOREIGN = new_signing_key()


def _foreign(response: Response, seen: Any) -> Response:
    return Response(200, str(cosignature(FOREIGN, "w1", seen.note.text)).encode())


def _another_size(response: Response, seen: Any) -> Response:
    text = parse_checkpoint(checkpoint(4)).note.text
    return Response(200, str(cosignature(HOSTILE, "w1", text)).encode())


HOSTILE = new_signing_key()
BENT = {
    "forged": (lambda r, c: Response(200, altered(r.body)), "does not verify"),
    "by-another-key": (_foreign, "without a cosignature of its key"),
    "of-another-size": (_another_size, "does not verify"),
    "the-logs-own-signature": (
        lambda r, c: Response(200, checkpoint(c.size).partition("\n\n")[2].encode()),
        "without a cosignature",
    ),
    "empty": (lambda r, c: Response(200), "not signature lines"),
    "text": (lambda r, c: Response(200, b"thank you\n"), "not signature lines"),
    "not-utf-8": (lambda r, c: Response(200, b"\xff\xfe\n"), "not signature lines"),
    "a-whole-note": (lambda r, c: Response(200, b"text\n\n" + r.body), "more than signature lines"),
    "no-line-feed": (lambda r, c: Response(200, r.body[:-1]), "not signature lines"),
    "endless": (lambda r, c: Response(200, b"\xe2\x80\x94 " * MAX_RESPONSE_BYTES), "more than 60000 bytes"),
    "redirect": (lambda r, c: Response(302), "refuses (status 302"),
    "no-size": (lambda r, c: Response(409, b"many\n", SIZE_TYPE), "expected a size"),
    "size-without-line-feed": (lambda r, c: Response(409, b"4", SIZE_TYPE), "expected a size"),
    "size-of-another-script": (lambda r, c: Response(409, "٣\n".encode(), SIZE_TYPE), "expected a size"),
    "size-of-4000-digits": (lambda r, c: Response(409, b"9" * 4000 + b"\n", SIZE_TYPE), "expected a size"),
    "size-2^63": (lambda r, c: Response(409, b"%d\n" % 2**63, SIZE_TYPE), "expected a size"),
    "sizes-that-never-agree": (lambda r, c: Response(409, b"3\n", SIZE_TYPE), "refuses"),
    "controls-in-the-reason": (lambda r, c: Response(500, b"\x1b[2Jgone\r\nfake line"), "[2Jgone  fake line"),
}


@pytest.mark.parametrize("name", BENT)
def test_a_hostile_answer_is_refused_with_its_reason_and_never_published(name: str) -> None:
    bend, reason = BENT[name]
    said = Said()
    with witnesses("w1", key=HOSTILE, bend=bend) as those:
        assert cosigners(those, said).cosign(checkpoint(9), TREE) is None
        assert len(those[0].requests) <= 2
    (line,) = said.lines
    assert reason in line
    assert line.isprintable()


def test_lines_by_keys_that_nobody_asked_are_left_out() -> None:
    said = Said()

    def bend(response: Response, seen: Any) -> Response:
        return Response(200, str(cosignature(FOREIGN, "other", seen.note.text)).encode() + response.body * 3)

    with witnesses("w1", bend=bend) as those:
        note = cosigners(those, said).cosign(checkpoint(9), TREE)
        assert note is not None
        assert [s.name for s in parse_checkpoint(note).note.signatures] == [ORIGIN, "w1"]


@pytest.mark.parametrize("where", ["before-the-first-byte", "in-the-headers", "in-the-body"])
def test_a_witness_that_drips_or_hangs_holds_nobody_up(where: str) -> None:
    """One byte every now and then would never meet a socket's own time-out."""
    said, ended = Said(), threading.Event()
    heads = {"before-the-first-byte": b"", "in-the-headers": b"HTTP/1.0 200 OK\r\nX: ", "in-the-body": b""}
    heads["in-the-body"] = b"HTTP/1.0 200 OK\r\nContent-Length: 4000\r\n\r\n"

    def drip(server: socket.socket) -> None:
        with server.accept()[0] as peer:
            try:
                peer.sendall(heads[where])
                for _ in range(200):
                    time.sleep(0.05)
                    if where != "before-the-first-byte":
                        peer.sendall(b"x")
                    elif peer.recv(1 << 16) == b"":
                        return
            except OSError:
                pass
            finally:
                ended.set()

    with socket.create_server(("127.0.0.1", 0)) as server, witnesses("good") as those:
        threading.Thread(target=drip, args=(server,), daemon=True).start()
        slow = Witness("slow", {}, url=f"http://127.0.0.1:{server.getsockname()[1]}")
        mine = cosigners([slow, *those], said, timeout=0.5)
        begun = time.monotonic()
        assert signers(mine.cosign(checkpoint(5), TREE), those) == {"good"}
        assert time.monotonic() - begun < 4
        assert ended.wait(8), "the connection is closed, and with it the thread ends"
    assert "witness slow: no answer within 0.5 seconds" in said.lines[0]


def test_a_request_that_still_runs_is_not_made_a_second_time() -> None:
    said, clock, release, calls = Said(), Clock(), threading.Event(), []

    def stuck(url: str, request: bytes, timeout: float) -> Answer:
        calls.append(request)
        release.wait(20)
        raise WitnessError("late")

    mine = cosigners([Witness("w1", {}, url="http://127.0.0.1:1")], said, clock, timeout=0.1, ask=stuck)
    assert mine.cosign(checkpoint(5), TREE) is None
    clock.now += 1000
    assert mine.cosign(checkpoint(5), TREE) is None
    assert len(calls) == 1
    release.set()


def test_a_witness_without_a_url_is_not_asked() -> None:
    said = Said()
    mine = cosigners([Witness("w1", {})], said)
    assert mine.cosign(checkpoint(5), TREE) is None
    assert mine.lacking(checkpoint(5)) == []
    assert said.lines == []


def test_cosignatures_that_would_not_fit_into_a_note_are_left_out() -> None:
    said = Said()
    with witnesses(*("w" * 3000 + str(i) for i in range(21))) as those:
        assert cosigners(those, said).cosign(checkpoint(5), TREE) is None
    assert "cosignatures left out" in said.lines[0]


def test_only_a_whole_answer_counts() -> None:
    with serving(Witness("w1", {ORIGIN: VKEY})) as witness, pytest.raises(WitnessError, match="cannot be reached"):
        ask(witness.url.replace("http:", "https:"), b"old 0\n\n", 2.0)
