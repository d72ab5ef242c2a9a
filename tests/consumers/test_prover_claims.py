"""A claimed proof is published, and no other: after crashes, in other groups and homes, and if a home is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from consumers.options import Reporter
from consumers.prover import cli
from consumers.prover.claims import Claims
from consumers.prover.outbox import Outbox
from schemas.topics import TOPICS
from tests.consumers.test_prover_check import Witness
from tests.consumers.test_prover_worker import Bench
from tests.support.claims import SHARD, STEP, Scene, give_up, left_behind
from tests.support.events import digest
from tests.support.forge import Case, flipped
from zk_autograd.errors import EventLogError, StorageError, UsageError
from zk_autograd.eventlog import open_log
from zk_autograd.eventlog.base import PartitionLostError, TopicSpec, Transaction
from zk_autograd.tee.keys import new_signing_key


def test_a_home_whose_prover_died_after_its_claim_publishes_the_very_proof(scene: Scene, case: Case) -> None:
    """Somebody may have seen it: Kafka's disks keep what was sent and never committed. Another would be a second."""
    claimed = left_behind(scene)
    heir, _ = scene.worker(name="dead")
    heir.publisher.resume(case.sound.home, Reporter(True))
    assert scene.bodies() == [claimed]
    assert scene.made == 1
    heir.publisher.resume(case.sound.home, Reporter(True))
    assert scene.bodies() == [claimed], "it is forgotten once it is published"


def test_whoever_gets_the_witness_in_that_home_publishes_the_proof_that_is_kept(scene: Scene) -> None:
    claimed = left_behind(scene)
    heir, group = scene.worker(name="dead")
    scene.run(heir, group)
    assert (scene.bodies(), scene.made) == ([claimed], 1)
    again, group = scene.worker(name="dead", group_name="another")
    scene.run(again, group)
    assert (scene.bodies(), scene.made) == ([claimed], 1)


def test_a_proof_that_was_kept_and_not_claimed_is_not_made_again(scene: Scene, case: Case) -> None:
    hasty, group = scene.worker(name="dead")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hasty.producer, "transaction", lambda: (_ for _ in ()).throw(EventLogError("killed")))
        with pytest.raises(EventLogError, match="killed"):
            scene.run(hasty, group)
    group.close()
    assert scene.claims() == []
    heir, group = scene.worker(name="dead")
    heir.publisher.resume(case.sound.home, Reporter(True))
    assert (scene.bodies(), scene.claims()) == ([], []), "nothing of it is known: others may be faster"
    scene.run(heir, group)
    assert (len(scene.bodies()), scene.made) == (1, 1)


def test_other_homes_wait_for_a_claimed_proof_and_then_name_shard_prover_and_remedy(scene: Scene, case: Case) -> None:
    key = scene.prover()
    claimed = left_behind(scene, key)
    other, group = scene.worker(name="other")
    scene.run(other, group)
    assert len(other.held) == 1
    assert (scene.letters(), scene.made) == ([], 1)
    give_up(other, group)
    (letter,) = scene.letters()
    assert f"step {STEP}, shard {SHARD}" in letter.reason
    assert f"--instead-of {key.key_id.hex()}" in letter.reason
    assert scene.bodies() == []
    # The witness is consumed. The dead one's home does not need it.
    heir, _ = scene.worker(name="dead", key=key)
    heir.publisher.resume(case.sound.home, Reporter(True))
    assert scene.bodies() == [claimed]


def test_who_waits_goes_on_when_the_claimed_proof_comes(scene: Scene, case: Case) -> None:
    claimed = left_behind(scene)
    other, group = scene.worker(name="other", group_name="other")
    scene.run(other, group)
    scene.worker(name="dead")[0].publisher.resume(case.sound.home, Reporter(True))
    assert other.run_once(timeout=0.0) == 1
    assert (other.held, scene.letters(), scene.made) == ({}, [], 1)
    assert scene.bodies() == [claimed]


def test_what_a_lost_home_has_claimed_is_proven_on_the_operators_word_only(scene: Scene, case: Case) -> None:
    """Should that home come back after all, it finds that its turn is over."""
    key = scene.prover()
    claimed = left_behind(scene, key)
    rescue, group = scene.worker(name="rescue", group_name="rescue", instead_of=(key.key_id,))
    scene.run(rescue, group)
    first, second = scene.claims()
    assert (first.proof, first.replaces) == (claimed, bytes(32))
    assert scene.bodies() == [second.proof] != [claimed]
    assert second.replaces == next(o.event_id for _, o in scene.log.opened("claims") if o.event == first)
    risen, group = scene.worker(name="dead", key=key)
    risen.publisher.resume(case.sound.home, Reporter(True))
    scene.run(risen, group)
    assert scene.bodies() == [second.proof]
    assert scene.made == 2


def test_provers_of_one_home_in_two_groups_publish_the_same_bytes(scene: Scene) -> None:
    """They share what is kept: whoever is second takes the first one's proof, and both may publish it."""
    one, first = scene.worker(name="home", group_name="one")
    two, second = scene.worker(name="home-2", group_name="two")
    shared = scene.outbox("home")
    two.publisher._outbox = shared
    honest = shared.keep

    def slow(*args: Any) -> bytes:
        kept = honest(*args)
        scene.run(two, second)
        return kept

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(one.publisher._outbox, "keep", slow)
        scene.run(one, first)
    assert scene.made == 1
    (claim,) = scene.claims()
    assert set(scene.bodies()) == {claim.proof}
    assert shared.turns() == []


def test_a_claimed_proof_is_published_though_the_witness_went_to_another(scene: Scene) -> None:
    """The group gave the partition away between claim and proof. Whoever has it now must find this proof, or wait."""
    worker, group = scene.worker(name="one")
    honest = worker.producer.transaction

    @contextmanager
    def transaction() -> Iterator[Transaction]:
        with honest() as made:
            lost = made.consumed

            def consumed(*args: Any) -> None:
                raise PartitionLostError("given away")

            made.consumed = consumed  # type: ignore[method-assign]
            assert lost
            yield made

    worker.producer.transaction = transaction  # type: ignore[method-assign]
    (record,) = group.poll(timeout=1.0, max_records=1)
    worker.take(record)
    (claim,) = scene.claims()
    assert scene.bodies() == [claim.proof]
    assert scene.outbox("one").turns() == []


def test_what_is_kept_is_encrypted_and_cannot_be_moved_or_changed(scene: Scene, tmp_path: Path) -> None:
    left_behind(scene)
    outbox = scene.outbox("dead")
    (turn,) = outbox.turns()
    (path,) = (tmp_path / "claimed-dead").iterdir()
    key = Witness(scene.case.sound, STEP, SHARD).key
    value = outbox.get(turn, key)
    assert value is not None
    assert scene.waiting[0][:64] in value
    assert scene.waiting[0][:64] not in path.read_bytes(), "who may not read the witness may not read its proof either"
    assert path.stat().st_mode & 0o777 == 0o600
    assert outbox.keep(turn, b"another", key) == value, "the first stays"
    for bad in (flipped(path.read_bytes(), 100), flipped(path.read_bytes(), 40), path.read_bytes()[:-1], b""):
        path.write_bytes(bad)
        with pytest.raises(StorageError, match="damaged"):
            outbox.get(turn, key)
    path.rename(path.with_name("0" * 64 + ".proof"))
    assert Outbox(tmp_path / "claimed-dead").turns() == []
    outbox.drop(turn)


def test_what_is_kept_stays_if_the_prover_is_started_on_another_log(scene: Scene, case: Case, tmp_path: Path) -> None:
    """A mistyped ``--log`` must not cost the only copy of a claimed proof."""
    left_behind(scene)
    (turn,) = scene.outbox("dead").turns()
    with ExitStack() as stack:
        elsewhere = Bench(case, tmp_path / "elsewhere.db", stack)
        worker, _ = elsewhere.worker(name="dead")
        worker.publisher.resume(case.sound.home, Reporter(True))
        assert elsewhere.proofs() == []
    assert scene.outbox("dead").turns() == [turn]


def test_a_disk_that_takes_no_proof_ends_the_prover_before_it_claims(scene: Scene) -> None:
    """Also one that passes over what it lacks: this is nothing that it lacks."""
    worker, group = scene.worker(skip_foreign=True)

    def full(*_: Any, **__: Any) -> None:
        raise UsageError("cannot write: no space left")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("consumers.prover.outbox.write_private", full)
        with pytest.raises(StorageError, match="cannot write"):
            scene.run(worker, group)
    assert (scene.claims(), scene.proofs(), scene.letters()) == ([], [], [])
    group.rewind()
    scene.run(worker, group)
    assert len(scene.proofs()) == 1


def test_workers_of_one_command_are_told_whose_claims_are_void() -> None:
    key = digest("a prover").hex()
    given = cli.parser().parse_args(["--instead-of", key, "--instead-of", "0" * 64])
    assert given.instead_of == [digest("a prover"), bytes(32)]
    assert cli.parser().parse_args(cli._member(given, 1)).instead_of == given.instead_of
    for bad in ("", key[:12], key.upper(), key + "0", "g" * 64):
        with pytest.raises(SystemExit):
            cli.parser().parse_args(["--instead-of", bad])


def test_a_log_whose_claims_have_no_single_order_is_refused(tmp_path: Path, case: Case) -> None:
    with open_log(f"sqlite:///{tmp_path}/other.db") as log:
        specs = [TopicSpec(t.name, 2 if t.name == "claims" else t.partitions) for t in TOPICS.values()]
        log.create_topics(specs)
        with pytest.raises(UsageError, match="expected 1 partition"):
            Claims(log, case.sound.home.policy())


def test_a_prover_that_its_own_policy_does_not_know_does_not_begin(scene: Scene) -> None:
    with pytest.raises(UsageError, match="not one that its policy accepts"):
        scene.worker(key=new_signing_key())
