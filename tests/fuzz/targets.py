"""One function a parser: bytes in; it returns, or raises an AssertionError or whatever should not have come out.

Of hostile bytes only DecodeError may come out; VerificationError, too, where something is verified, and UsageError of
policies. What is taken must be in its one spelling: it encodes to the same bytes again. A new parser is one more entry
of TARGETS, and its seeds one more of ``seeds.SEEDS``.
"""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any, get_args

from anchor.file_record import decode_record
from consumers.audit import container
from ledger import cose
from ledger.checkpoint import parse_checkpoint, verify_checkpoint
from ledger.note import VerifierKey, parse_note
from ledger.proof import parse_proof, verify_proof
from ledger.receipt import (
    CONSISTENCY,
    parse_receipt,
    verify_consistency_receipt,
    verify_inclusion_receipt,
)
from ledger.witness import add_checkpoint_request, parse_cosignature, parse_request, parse_size
from schemas.codec import decode, encode
from schemas.events import Message
from schemas.signing import decode_unverified, open_introduction, open_signed
from schemas.topics import TOPICS
from tests.fuzz.circuit import batch_verifier
from tests.ledger.signing import LEAVES, ORIGIN, PQ, PUBLIC, TREE, VERIFIER, WITNESSES, checkpoint
from zk_autograd import merkle
from zk_autograd.errors import DecodeError, UsageError, VerificationError
from zk_autograd.note_keys import WitnessKey
from zk_autograd.policy import parse_policy
from zk_autograd.proofs.ezkl.constraints import read_key
from zk_autograd.proofs.witness import ShardWitness
from zk_autograd.statement import STATEMENTS

Target = Callable[[bytes], None]

MESSAGES: tuple[type[Message], ...] = get_args(Message)
CAP = 900_000
_REFUSED = (DecodeError, VerificationError)
TOPIC_NAMES = sorted(TOPICS)


def events(data: bytes) -> None:
    """The strict Avro codec, every schema."""
    with suppress(DecodeError):
        assert encode(decode(data, MESSAGES, CAP)) == data


def envelopes(data: bytes) -> None:
    """The three ways to open an envelope; the first byte chooses the topic."""
    topic, value = TOPIC_NAMES[data[0] % len(TOPIC_NAMES)] if data else "steps", data[1:]
    for door in (decode_unverified, lambda t, v: open_signed(t, v, {}), lambda t, v: open_introduction("steps", v)):
        with suppress(*_REFUSED):
            door(topic, value)  # type: ignore[operator]


def notes(data: bytes) -> None:
    """Signed notes."""
    text = _text(data)
    with suppress(DecodeError):
        note = parse_note(text)
        assert note.text + "\n" + "".join(map(str, note.signatures)) == text
        with suppress(VerificationError):
            note.verify([VERIFIER])
            assert note.text in _SIGNED, "nobody signed that"


def checkpoints(data: bytes) -> None:
    """Checkpoints, and their verification."""
    text = _text(data)
    with suppress(*_REFUSED):
        found = parse_checkpoint(text)
        assert text.startswith(f"{found.origin}\n{found.size}\n")
        verified = verify_checkpoint(text, ORIGIN, [VERIFIER])
        assert verified.root == TREE.root_at(verified.size)


def proof_files(data: bytes) -> None:
    """Proof files, and their verification with a quorum of witnesses."""
    text = _text(data)
    with suppress(DecodeError):
        proof = parse_proof(text)
        assert proof.encode() == text
        with suppress(VerificationError):
            verify_proof(proof, proof.extra or b"", ORIGIN, [VERIFIER])
            assert proof.extra == LEAVES[proof.index]
        with suppress(VerificationError):
            verify_proof(proof, LEAVES[proof.index % 70], ORIGIN, [VERIFIER], [*WITNESSES, PQ], 2)
            assert proof.index < 70


def requests(data: bytes) -> None:
    """What a witness gets."""
    with suppress(DecodeError):
        old, steps, found = parse_request(data)
        with suppress(UsageError):
            again = add_checkpoint_request(old, steps, data.decode().partition("\n\n")[2])
            assert again == data
            assert found.size >= old


def answers(data: bytes) -> None:
    """What a witness says."""
    with suppress(DecodeError):
        assert b"%d\n" % parse_size(data) == data
    with suppress(*_REFUSED):
        line = parse_cosignature(data, checkpoint(), WITNESSES[0])
        assert str(line).encode() in data


def keys(data: bytes) -> None:
    """Keys of logs and witnesses, as text."""
    for kind in (VerifierKey, WitnessKey):
        with suppress(DecodeError):
            assert str(kind.parse(_text(data))).encode(errors="surrogatepass") == data


def receipts(data: bytes) -> None:
    """COSE receipts, and their verification."""
    with suppress(DecodeError):
        found = parse_receipt(data)
        protected = cose.encode(found.signed.protected)
        kind, proof = found.kind, [found.size, found.first, list(found.path)]
        if kind == CONSISTENCY:
            proof[:2] = proof[1::-1]
        body = cose.encode([protected, {396: {kind: [cose.encode(proof)]}}, None, found.signed.signature])
        assert b"\xd2" + body == data
        with suppress(VerificationError):
            verify_inclusion_receipt(data, LEAVES[found.first % 70], ORIGIN, PUBLIC)
            assert found.size <= 70
        with suppress(VerificationError):
            verify_consistency_receipt(data, found.first, TREE.root_at(found.first % 71), ORIGIN, PUBLIC)
            assert found.first < found.size <= 70


def cbor(data: bytes) -> None:
    """CBOR in its deterministic encoding."""
    with suppress(DecodeError):
        assert cose.encode(cose.decode(data, "x")) == data


def policies(data: bytes) -> None:
    """Policy files."""
    with suppress(UsageError):
        policy = parse_policy(data, "policy")
        assert parse_policy(policy.to_json().encode(), "again") == policy


def paths(data: bytes) -> None:
    """Inclusion paths and consistency proofs: whatever is accepted must be what the tree itself says."""
    index, size, steps = data[0] if data else 0, data[1] if len(data) > 1 else 0, data[2:]
    proof = [steps[i : i + 32] for i in range(0, len(steps), 32)]
    if index < 70 and size <= 70:
        with suppress(VerificationError):
            merkle.verify_inclusion(LEAVES[index], index, size, proof, TREE.root_at(size))
            assert proof == TREE.inclusion_proof(index, size)
        with suppress(VerificationError):
            merkle.verify_consistency(index, TREE.root_at(index), size, TREE.root_at(size), proof)
            assert proof == TREE.consistency_proof(index, size)


def anchor_records(data: bytes) -> None:
    """Records of the file anchor, which are its receipts."""
    with suppress(*_REFUSED):
        assert decode_record(data).encode() == data


def verifying_keys(data: bytes) -> None:
    """EZKL's verifying keys, as the batch verifier reads them."""
    with suppress(VerificationError):
        read_key(data)


def zk_proofs(data: bytes) -> None:
    """EZKL's proofs, as the batch verifier takes them apart; only the honest one holds."""
    verifier, proof = batch_verifier()
    assert verifier.accepted([data]) == [data == proof]


def witnesses(data: bytes) -> None:
    """Decrypted witnesses of shards; the first byte chooses the optimizer."""
    statement = _statement(data[0] if data else 0)
    with suppress(DecodeError):
        assert ShardWitness.from_bytes(data[1:], statement, 2, 3).to_bytes(statement) == data[1:]


def bundles(data: bytes) -> None:
    """Audit bundles: as they are, and with the end that fits what stands there, since nobody guesses a hash."""
    end = struct.pack(">BI", container.END, 32)
    for whole in (data, data + end + hashlib.sha256(data).digest()):
        file = io.BytesIO(whole)
        with suppress(DecodeError):
            index = container.scan(file)
            assert rewritten(file, index) == whole


def rewritten(file: io.BytesIO, index: container.Index) -> bytes:
    """The bundle that has what ``index`` says is in ``file``."""
    out = io.BytesIO()
    writer = container.Writer(out)
    writer.run(index.run_id)
    for number, part in enumerate(container.PARTS):
        span = index.parts[part]
        writer.part(number, span.partitions)
        for record in container.records(file, part[0], span):
            assert record.partition < span.partitions
            writer.framed(io.BytesIO(container.record_frame(record)))
    if index.circuit_id is not None:
        writer.circuit(index.circuit_id)
        for name, span in index.files.items():
            number = bytes([container.FILES.index(name)])
            frame = struct.pack(">BI", container.FILE, 1 + span.end - span.start)
            writer.framed(io.BytesIO(frame + number + file.getvalue()[span.start : span.end]))
    writer.end()
    return out.getvalue()


def _text(data: bytes) -> str:
    """As a program would get it; what is not UTF-8 goes on as what it was, for parsers take any text."""
    return data.decode(errors="surrogateescape")


@cache
def _statement(number: int) -> Any:
    names = sorted(n for n, st in STATEMENTS.items() if not st.shaped)
    return STATEMENTS[names[number % len(names)]]


_SIGNED = {parse_checkpoint(checkpoint(size)).note.text for size in range(1, 71)}

TARGETS: dict[str, Target] = {
    "events": events,
    "envelopes": envelopes,
    "notes": notes,
    "checkpoints": checkpoints,
    "proof-files": proof_files,
    "requests": requests,
    "answers": answers,
    "keys": keys,
    "receipts": receipts,
    "cbor": cbor,
    "policies": policies,
    "paths": paths,
    "anchor-records": anchor_records,
    "verifying-keys": verifying_keys,
    "zk-proofs": zk_proofs,
    "witnesses": witnesses,
    "bundles": bundles,
}
"""By name. ``zk-proofs`` needs a circuit that tests have made: see :mod:`tests.fuzz.circuit`."""
