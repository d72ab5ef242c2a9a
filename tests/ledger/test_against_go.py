"""Both ways against other people's code: what we make, it takes, and what it makes, we take.

Go's ``golang.org/x/mod/sumdb`` (notes, trees, proofs), torchwood (cosignatures), and go-cose (receipts).
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from ledger import Tree, VerifierKey, parse_checkpoint, verify_checkpoint, verify_consistency
from ledger.cosignature import WitnessKey, cosigned, verify_quorum
from ledger.note import parse_note
from ledger.receipt import consistency_receipt, inclusion_receipt, verify_inclusion_receipt
from tests.ledger.signing import KEY, LEAVES, ORIGIN, PUBLIC, TREE, VERIFIER, WITNESSES, checkpoint, cosigned_by, proof
from tests.support.golang import crosscheck
from zk_autograd import merkle

SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 63, 64, 65, 70)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return [_plain(v) for v in value] if isinstance(value, Sequence) and not isinstance(value, str) else value


class Go:
    """The program: a line in, a line out."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(
            json.dumps({"Op": op} | {k: _plain(v) for k, v in arguments.items()}), file=self._process.stdin, flush=True
        )
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        for name in ("raw", "root", "receipt"):
            answer[name] = base64.b64decode(answer[name] or "")
        answer["proof"] = [base64.b64decode(step) for step in answer["proof"] or []]
        return answer

    def __call__(self, op: str, **arguments: Any) -> dict[str, Any]:
        answer = self.ask(op, **arguments)
        assert answer["error"] == ""
        return answer


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Go]:
    binary = crosscheck(tmp_path_factory.mktemp("go"))
    process = subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Go(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(20)


def test_go_takes_our_checkpoints(go: Go) -> None:
    for size in SIZES:
        assert go("open", Note=checkpoint(size), Keys=[str(VERIFIER)])["text"].startswith(f"{ORIGIN}\n{size}\n")
    assert (
        "no verifiable signatures" in go.ask("open", Note=checkpoint(), Keys=[str(VerifierKey("x", PUBLIC))])["error"]
    )
    forged = checkpoint().replace("\n70\n", "\n71\n")
    assert "invalid signature" in go.ask("open", Note=forged, Keys=[str(VERIFIER)])["error"]


def test_we_take_gos_checkpoints(go: Go) -> None:
    for size in SIZES:
        text = parse_checkpoint(checkpoint(size)).note.text
        answer = go("sign", Text=text, Name=ORIGIN)
        found = verify_checkpoint(answer["text"], ORIGIN, [VerifierKey.parse(answer["key"])])
        assert (found.size, found.root) == (size, TREE.root_at(size))


def test_go_takes_our_witnesses_cosignatures(go: Go) -> None:
    note = cosigned_by(checkpoint(), 0, 1, 2)
    go("open", Note=note, Keys=[str(VERIFIER), *map(str, WITNESSES[:3])])
    answer = go.ask("open", Note=note, Keys=[str(VERIFIER), str(WITNESSES[3])])
    assert answer["error"] == "1 of 2 keys signed"


def test_we_take_gos_cosignatures(go: Go) -> None:
    note = checkpoint()
    keys = []
    for name in ("a.example/w", "b.example/w"):
        answer = go("cosign", Note=note, Name=name, Keys=[str(VERIFIER), *map(str, keys)])
        note = answer["text"]
        keys.append(WitnessKey.parse(answer["key"]))
    assert set(verify_quorum(parse_checkpoint(note), keys, 2)) == set(keys)
    assert set(cosigned(parse_note(note), [*keys, WITNESSES[0]])) == set(keys)


def test_trees_and_paths_are_gos(go: Go) -> None:
    for size in SIZES:
        for index in sorted({0, size // 2, size - 1}):
            answer = go("tree", Leaves=LEAVES, Size=size, Index=index)
            assert answer["root"] == TREE.root_at(size)
            assert answer["proof"] == TREE.inclusion_proof(index, size)
            root = TREE.root_at(size)
            go("check-record", Proof=answer["proof"], Size=size, Index=index, Root=root, Entry=LEAVES[index])
            wrong = go.ask("check-record", Proof=answer["proof"], Size=size, Index=index, Root=root, Entry=b"other")
            assert "invalid" in wrong["error"]
            merkle.verify_inclusion(LEAVES[index], index, size, answer["proof"], root)


def test_consistency_proofs_are_gos(go: Go) -> None:
    for old, size in ((a, b) for b in SIZES for a in SIZES if a < b):
        answer = go("tree", Leaves=LEAVES, Size=size, Old=old)
        assert answer["proof"] == TREE.consistency_proof(old, size)
        roots = (TREE.root_at(old), TREE.root_at(size))
        go("check-tree", Proof=answer["proof"], Old=old, OldRoot=roots[0], Size=size, Root=roots[1])
        verify_consistency(old, roots[0], size, roots[1], answer["proof"])
    forked = Tree([b"x", *LEAVES[1:]])
    answer = go.ask(
        "check-tree", Proof=forked.consistency_proof(20), Old=20, OldRoot=TREE.root_at(20), Size=70, Root=forked.root()
    )
    assert "invalid" in answer["error"]


def test_go_takes_our_proof_files(go: Go) -> None:
    for size in SIZES:
        for index in sorted({0, size - 1}):
            for extra in (None, LEAVES[index]):
                text = proof(index, size, extra).encode()
                go("check-proof-file", Text=text, Entry=LEAVES[index], Keys=[str(VERIFIER)])
                assert go.ask("check-proof-file", Text=text, Entry=b"other", Keys=[str(VERIFIER)])["error"]


def test_go_takes_our_receipts(go: Go) -> None:
    for old, size in ((1, 2), (3, 5), (8, 20), (32, 33), (64, 65), (69, 70)):
        data = inclusion_receipt(TREE, old, size, ORIGIN, KEY.sign, PUBLIC)
        same = {"Root": TREE.root_at(size), "Key": PUBLIC}
        go("check-inclusion-receipt", Receipt=data, Entry=LEAVES[old], **same)
        assert go.ask("check-inclusion-receipt", Receipt=data, Entry=b"other", **same)["error"]
        flipped = data[:-1] + bytes([data[-1] ^ 1])
        assert "verification" in go.ask("check-inclusion-receipt", Receipt=flipped, Entry=LEAVES[old], **same)["error"]
        data = consistency_receipt(TREE, old, size, ORIGIN, KEY.sign, PUBLIC)
        go("check-consistency-receipt", Receipt=data, Old=old, OldRoot=TREE.root_at(old), **same)
        assert go.ask("check-consistency-receipt", Receipt=data, Old=old, OldRoot=bytes(32), **same)["error"]


def test_we_take_gos_receipts(go: Go) -> None:
    for size in SIZES[1:]:
        index = size // 2
        answer = go("make-receipt", Leaves=LEAVES[:size], Index=index, Name=ORIGIN)
        receipt = verify_inclusion_receipt(answer["receipt"], LEAVES[index], ORIGIN, answer["raw"])
        assert (receipt.first, receipt.size) == (index, size)
