"""A log with one witness whose proof provers claim. ``scene`` is imported into a package's ``conftest.py``.

Proofs are not made: the sound run has two of one witness, and whoever proves it gets one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consumers.prover.worker import Worker
from schemas.events import ProofClaimed, Role
from schemas.signing import seal
from tests.consumers.test_prover_check import Witness
from tests.consumers.test_prover_worker import OWN, Bench
from tests.support.events import digest
from tests.support.forge import Case
from zk_autograd.errors import EventLogError
from zk_autograd.eventlog.base import Group, Transaction
from zk_autograd.proofs.base import Circuit
from zk_autograd.proofs.ezkl.system import Ezkl
from zk_autograd.tee.keys import SigningKey, new_signing_key

STEP, SHARD = 2, 1
NOBODYS = digest("a proof that nobody has")


class Scene(Bench):
    """A log with one witness, and provers that are given one proof of it each, in turn."""

    def __init__(self, case: Case, path: Path, stack: ExitStack) -> None:
        super().__init__(case, path, stack)
        witness = Witness(case.sound, STEP, SHARD)
        self.slot = (case.run_id, STEP, SHARD)
        self.log.append("witness", seal("witness", witness.event, case.insider.key("steps")), partition=OWN)
        self.waiting = [case.sound.twin_proof, case.story().proofs[STEP, SHARD].proof]
        self.made = 0

    def next_proof(self) -> bytes:
        self.made += 1
        return self.waiting[(self.made - 1) % 2]

    def prover(self) -> SigningKey:
        """One more prover's key, introduced."""
        key = new_signing_key()
        for topic in ("steps", "claims"):
            self.log.append(topic, self.case.insider.introduce(Role.PROVER, key, topic=topic))
        return key

    def claim(self, key: SigningKey, **changes: Any) -> bytes:
        """A claim to the witness's shard."""
        return seal("claims", replace(ProofClaimed(*self.slot, NOBODYS), **changes), key)

    def bodies(self) -> list[bytes]:
        """The event ids of what is published of the shard, in order."""
        return [o.event_id for _, o in self.log.opened("proofs")]


@pytest.fixture
def scene(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    with ExitStack() as stack:
        made = Scene(case, tmp_path / "scene.db", stack)

        def prove(self: Ezkl, circuit: Circuit, columns: Any, limits: Any, tick: Any = None) -> bytes:
            return made.next_proof()

        monkeypatch.setattr(Ezkl, "prove", prove)
        yield made


def dies_after_its_claim(worker: Worker) -> None:
    """Its next transaction goes through, and those after it never begin."""
    honest, begun = worker.producer.transaction, []

    @contextmanager
    def transaction() -> Iterator[Transaction]:
        begun.append(None)
        if len(begun) > 1:
            raise EventLogError("killed")
        with honest() as made:
            yield made

    worker.producer.transaction = transaction  # type: ignore[method-assign]


def left_behind(scene: Scene, key: SigningKey | None = None) -> bytes:
    """A prover called ``dead`` claims and dies; the event id of the proof that it claimed."""
    dead, group = scene.worker(name="dead", key=key)
    dies_after_its_claim(dead)
    with pytest.raises(EventLogError, match="killed"):
        scene.run(dead, group)
    group.close()
    (claim,) = scene.claims()
    assert (scene.proofs(), scene.letters()) == ([], [])
    return claim.proof


def give_up(worker: Worker, group: Group) -> None:
    """Takes what there is, and waits no longer for what is claimed."""
    while records := group.poll(timeout=0.1, max_records=1):
        worker.take(records[0])
    worker.claim_limit = 0.0
    worker.run_once(timeout=0.0)
