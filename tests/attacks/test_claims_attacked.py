"""Attacks on claims by strangers, and by one attested prover that turned bad: it may hold shards up by name."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from consumers.prover.answered import _MOST
from consumers.prover.claims import FIRST
from consumers.prover.worker import Worker
from schemas.events import ProofAttached, Role
from schemas.signing import decode_unverified, seal
from tests.support.claims import SHARD, STEP, Scene, give_up
from tests.support.forge import Case
from zk_autograd.eventlog.base import Group
from zk_autograd.tee.keys import SigningKey, new_signing_key


def identity(topic: str, value: bytes) -> bytes:
    return decode_unverified(topic, value).event_id


def garbage(case: Case, key: SigningKey, content: bytes = b"\0") -> bytes:
    """Published under a prover's key, and no proof."""
    return seal("proofs", replace(case.story().proofs[STEP, SHARD], proof=content), key)


def honest_bodies(scene: Scene, bad: SigningKey) -> set[bytes]:
    """The event ids of the shard's proofs that others than ``bad`` have published."""
    return {o.event_id for _, o in scene.log.opened("proofs") if o.key_id != bad.key_id}


def test_a_key_that_is_introduced_after_its_claim_does_not_set_honest_provers_apart(scene: Scene, case: Case) -> None:
    """One has passed the claim over when the key becomes known, two has not. Two would replace it, once it is seen to
    be garbage, and one would not know of it: both would publish, if they finish in the same moment."""
    bad = new_signing_key()
    value = garbage(case, bad)
    one, first = scene.worker(name="one", group_name="one", key=scene.prover())
    two, second = scene.worker(name="two", group_name="two", key=scene.prover())
    scene.log.append("claims", scene.claim(bad, proof=identity("proofs", value)))
    honest = one.publisher.claim

    def late(*args: Any) -> bytes:
        for topic in ("steps", "claims"):
            scene.log.append(topic, case.insider.introduce(Role.PROVER, bad, topic=topic))
        scene.log.append("proofs", value)
        scene.run(two, second)
        return honest(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(one.publisher, "claim", late)
        scene.run(one, first)
    assert scene.made == 2
    assert len(honest_bodies(scene, bad)) == 1


def test_garbage_before_a_proof_does_not_hide_it_from_other_provers(scene: Scene, case: Case) -> None:
    """Else they would name its honest prover as one that has not published, and the operator would be told to have
    a second proof made."""
    bad = scene.prover()
    scene.log.append("proofs", *(garbage(case, bad, bytes([i])) for i in range(_MOST)))
    one_key = scene.prover()
    one, first = scene.worker(name="one", group_name="one", key=one_key)
    scene.run(one, first)
    assert len(honest_bodies(scene, bad)) == 1
    two, second = scene.worker(name="two", group_name="two", key=scene.prover())
    give_up(two, second)
    assert [letter.reason for letter in scene.letters()] == []
    assert not two.held
    rescue, third = scene.worker(name="rescue", group_name="rescue", key=scene.prover(), instead_of=(one_key.key_id,))
    scene.run(rescue, third)
    assert len(honest_bodies(scene, bad)) == 1


def test_garbage_is_judged_once(scene: Scene, case: Case) -> None:
    """Whoever signs garbage for a shard would else have it verified at every look, while the prover's group waits."""
    bad = scene.prover()
    scene.log.append("proofs", *(garbage(case, bad, bytes([i])) for i in range(5)))
    one, first = scene.worker(name="one", group_name="one", key=scene.prover())
    honest, judged = one.answered._verify, list[bytes]()

    def verify(circuit: Any, proof: bytes, public: tuple[int, ...]) -> Any:
        judged.append(proof)
        return honest(circuit, proof, public)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(one.answered, "_verify", verify)
        scene.run(one, first)
    assert len(honest_bodies(scene, bad)) == 1
    assert {bytes([i]) for i in range(5)} <= set(judged)
    assert len(judged) == len(set(judged))


def always_first(scene: Scene, case: Case, worker: Worker, bad: SigningKey) -> list[bytes]:
    """Whenever the worker is about to claim, ``bad`` has just claimed the same turn, for garbage: what it publishes."""
    honest, numbers, made = worker.publisher.claim, count(), list[bytes]()

    def late(turn: Any, *args: Any) -> bytes:
        made.append(garbage(case, bad, next(numbers).to_bytes(4, "big")))
        scene.log.append("claims", scene.claim(bad, proof=identity("proofs", made[-1]), replaces=turn.replaces))
        return honest(turn, *args)

    worker.publisher.claim = late  # type: ignore[method-assign]
    return made


def rounds(scene: Scene, worker: Worker, group: Group, made: list[bytes], most: int) -> int:
    """How many times ``bad`` has been first when the worker gives the witness up."""
    for record in group.poll(timeout=1.0, max_records=1):
        worker.take(record)
    for _ in range(most):
        if not worker.held:
            break
        scene.log.append("proofs", made[-1])
        worker.run_once(timeout=0.0)
    return len(made)


def test_a_prover_that_claims_again_and_again_is_named_in_the_end(
    scene: Scene, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It claims garbage, publishes it, and is the first again, while others prove: for ever, and nobody says why."""
    clock = count(0, 100)
    monkeypatch.setattr("consumers.prover.worker.time.monotonic", lambda: float(next(clock)))
    bad = scene.prover()
    worker, group = scene.worker(key=scene.prover())
    made = always_first(scene, case, worker, bad)
    rounds(scene, worker, group, made, 8)
    (letter,) = scene.letters()
    assert bad.key_id.hex() in letter.reason
    assert not worker.held


def test_claims_of_strangers_cost_no_look_at_other_topics_each(
    scene: Scene, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim is 217 bytes to write, and read by every prover at every start, for ever."""
    worker, group = scene.worker(key=scene.prover())
    scene.log.append("claims", *(scene.claim(new_signing_key(), replaces=FIRST) for _ in range(100)))
    looks, view = [0], worker.view
    refresh = view.refresh

    def counted() -> None:
        looks[0] += 1
        refresh()

    monkeypatch.setattr(view, "refresh", counted)
    assert worker.publisher._claims.of(scene.slot) is None
    assert looks[0] <= 2
    assert isinstance(case.story().proofs[STEP, SHARD], ProofAttached)
    assert group.poll(timeout=0.0) is not None
