"""Where the fuzzer starts: honest values of every kind, by target. Made anew each time; nothing of it is stored."""

from __future__ import annotations

import io
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from anchor.file_record import Record as AnchorRecord
from consumers.audit import container
from ledger import cose
from ledger.note import add_signatures
from ledger.receipt import consistency_receipt, inclusion_receipt
from ledger.witness import add_checkpoint_request
from schemas.codec import encode
from schemas.signing import seal
from tests.fuzz.circuit import NoCircuit, proof_and_key
from tests.fuzz.targets import TARGETS, TOPIC_NAMES, _statement
from tests.ledger.signing import (
    KEY,
    LEAVES,
    ORIGIN,
    PQ,
    PUBLIC,
    TREE,
    VERIFIER,
    WITNESSES,
    checkpoint,
    cosignature,
    cosigned_by,
    pq_cosignature,
    proof,
    text_of,
)
from tests.support.events import SAMPLES, TOPIC_OF, KeySigner
from zk_autograd.eventlog.base import Record
from zk_autograd.policy import Policy, Witnesses
from zk_autograd.proofs.witness import encoded_bytes
from zk_autograd.statement import STATEMENTS

KEPT = Path(__file__).with_name("kept")
"""Inputs that once broke something, by target."""


def _events() -> Iterator[bytes]:
    yield from map(encode, SAMPLES.values())


def _envelopes() -> Iterator[bytes]:
    for kind, event in SAMPLES.items():
        topic = TOPIC_OF[kind]
        yield bytes([TOPIC_NAMES.index(topic)]) + seal(topic, event, KeySigner())


def _checkpoints() -> Iterator[bytes]:
    for size in (1, 7, 64, 70):
        yield checkpoint(size).encode()
    yield cosigned_by(checkpoint(), 0, 1).encode()
    yield add_signatures(cosigned_by(checkpoint(), 0), [pq_cosignature(text_of(checkpoint()))]).encode()


def _proof_files() -> Iterator[bytes]:
    for index, size in ((0, 1), (3, 5), (69, 70)):
        yield proof(index, size, LEAVES[index]).encode().encode()
        yield proof(index, size).encode().encode()
    yield proof(3, 70, None, cosigned_by(checkpoint(), 0, 1, 2)).encode().encode()
    note = add_signatures(cosigned_by(checkpoint(), 0), [pq_cosignature(text_of(checkpoint()))])
    yield proof(3, 70, None, note).encode().encode()


def _requests() -> Iterator[bytes]:
    for old, size in ((0, 1), (3, 5), (64, 70), (70, 70)):
        yield add_checkpoint_request(old, TREE.consistency_proof(old, size), checkpoint(size))


def _answers() -> Iterator[bytes]:
    yield b"0\n"
    yield b"20852163\n"
    yield str(cosignature(0, text_of(checkpoint()))).encode()
    yield "".join(str(cosignature(n, text_of(checkpoint()))) for n in (1, 0, 2)).encode()


def _keys() -> Iterator[bytes]:
    yield str(VERIFIER).encode()
    yield from (str(witness).encode() for witness in (*WITNESSES, PQ))


def _receipts() -> Iterator[bytes]:
    for index, size in ((0, 2), (3, 5), (69, 70)):
        yield inclusion_receipt(TREE, index, size, ORIGIN, KEY.sign, PUBLIC)
    for old, size in ((1, 2), (3, 5), (64, 70)):
        yield consistency_receipt(TREE, old, size, ORIGIN, KEY.sign, PUBLIC)


def _cbor() -> Iterator[bytes]:
    yield from _receipts()
    for value in (None, 0, -1, 2**64 - 1, b"x" * 30, "text", [1, [2, [3]]], {1: {2: [b"", ""]}, -1: 0, "a": 1}):
        yield cose.encode(value)


def _policies() -> Iterator[bytes]:
    one, two = bytes(32), b"\x01" * 32
    yield Policy().to_json().encode()
    full = Policy(
        evidence_classes=frozenset({"SIMULATED", "NITRO"}), roots={"SIMULATED": frozenset({one, two})},
        srs_classes=frozenset({"DEV"}), circuits=frozenset({one}), ledger_keys=frozenset({two}),
        anchors={"file:00": "file:/x"}, witnesses=Witnesses(2, dict.fromkeys(WITNESSES, "https://w.example/")),
        min_sampled=3,
    )  # fmt: skip
    yield full.to_json().encode()


def _paths() -> Iterator[bytes]:
    for index, size in ((0, 1), (3, 5), (17, 70), (69, 70)):
        yield bytes([index, size]) + b"".join(TREE.inclusion_proof(index, size))
        yield bytes([index, size]) + b"".join(TREE.consistency_proof(index, size))


def _anchor_records() -> Iterator[bytes]:
    yield AnchorRecord(bytes(32), 1, 5, b"\x01" * 32, b"\x02" * 32, b"\x03" * 32, bytes(32)).encode()


def _verifying_keys() -> Iterator[bytes]:
    try:
        yield proof_and_key()[1]
    except NoCircuit:
        yield b"\x03\x08\x01" + struct.pack("<I", 9) + bytes(4096)


def _zk_proofs() -> Iterator[bytes]:
    found, _, _ = proof_and_key()
    yield found
    yield found[:-1] + bytes([found[-1] ^ 1])
    yield bytes(len(found))


def _witnesses() -> Iterator[bytes]:
    for number in range(len(STATEMENTS)):
        yield (
            bytes([number])
            + np.random.default_rng(number)
            .integers(0, 3, encoded_bytes(_statement(number), 2, 3), dtype=np.uint8)
            .tobytes()
        )


def _bundles() -> Iterator[bytes]:
    """Whole, and without their last frame, which the target then adds."""
    for count, files in ((0, False), (1, True), (3, True)):
        out = io.BytesIO()
        writer = container.Writer(out)
        writer.run(b"r" * 32)
        for number, (topic, _) in enumerate(container.PARTS):
            writer.part(number, 2)
            for partition, offset in ((0, 0), (0, 3), (1, 1))[:count]:
                record = Record(topic, partition, offset, b"", b"value" * offset, 0)
                writer.framed(io.BytesIO(container.record_frame(record)))
        if files:
            writer.circuit(b"c" * 32)
            with tempfile.TemporaryDirectory() as folder:
                for name in container.FILES:
                    (Path(folder) / name).write_bytes(name.encode())
                    writer.file(name, Path(folder) / name)
        yield out.getvalue()
        writer.end()
        yield out.getvalue()


SEEDS: dict[str, Callable[[], Iterator[bytes]]] = {
    "events": _events,
    "envelopes": _envelopes,
    "notes": _checkpoints,
    "checkpoints": _checkpoints,
    "proof-files": _proof_files,
    "requests": _requests,
    "answers": _answers,
    "keys": _keys,
    "receipts": _receipts,
    "cbor": _cbor,
    "policies": _policies,
    "paths": _paths,
    "anchor-records": _anchor_records,
    "verifying-keys": _verifying_keys,
    "zk-proofs": _zk_proofs,
    "witnesses": _witnesses,
    "bundles": _bundles,
}
assert SEEDS.keys() == TARGETS.keys()


def kept(name: str) -> list[Path]:
    """The target's inputs that once broke something."""
    return sorted(path for path in (KEPT / name).glob("*") if path.is_file())


def write_corpus(name: str, folder: Path) -> int:
    """Writes the target's seeds and kept inputs into ``folder``; how many."""
    folder.mkdir(parents=True, exist_ok=True)
    inputs = [*SEEDS[name](), *(path.read_bytes() for path in kept(name))]
    for number, data in enumerate(inputs):
        (folder / f"seed-{number:02}").write_bytes(data)
    return len(inputs)
