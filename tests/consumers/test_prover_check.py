"""What a prover looks at before it starts: a witness that does not fit would hang EZKL, or prove something else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from consumers.prover.check import check_witness
from schemas.events import RunStarted, WitnessShard
from tests.support.forge import Case
from tests.support.sound_run import HOT_LR, SoundRun, hot_public, opened_witness
from zk_autograd.errors import DecodeError, FormatError, SealingError, VerificationError
from zk_autograd.field import MODULUS
from zk_autograd.fixed_point import Format
from zk_autograd.proofs import proof_system
from zk_autograd.proofs.base import Circuit, Columns, Committer
from zk_autograd.proofs.witness import ShardWitness, place
from zk_autograd.tee.keys import load_data_key
from zk_autograd.tee.sealing import seal

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1


class Witness:
    """One honest witness of the sound run, its secret and its key; to be sealed again with changes."""

    def __init__(self, sound: SoundRun, step: int, shard: int) -> None:
        url = f"sqlite:///{sound.log_path}?mode=ro"
        self.circuit: Circuit = sound.circuit
        self.event, self.secret = opened_witness(sound.home, url, sound.circuit, step, shard)
        (path,) = sound.home.data_keys.iterdir()
        self.key = load_data_key(sound.home.data_keys, bytes.fromhex(path.stem))

    def sealed(self, plain: bytes | None = None, **changes: Any) -> WitnessShard:
        """The event with changes, its ciphertext sealed for the place that it then names."""
        event = replace(self.event, **changes)
        data = plain if plain is not None else self.secret.to_bytes(self.circuit.statement)
        where = place(event.run_id, event.step, event.shard, event.pre, event.post, event.work)
        return replace(event, ciphertext=seal(self.key, where, data))

    def with_values(self, **changes: Any) -> WitnessShard:
        """The event with another secret under it."""
        return self.sealed(replace(self.secret, **changes).to_bytes(self.circuit.statement))

    def with_state(self, name: str, value: int, at: int = 0) -> WitnessShard:
        """The event with one value of the state changed."""
        changed = self.secret.pre[name].copy()
        changed[at] = value
        return self.with_values(pre={**self.secret.pre, name: changed})


@pytest.fixture(scope="module")
def committer(request: pytest.FixtureRequest) -> Committer:
    circuit = request.getfixturevalue("sound_run").circuit
    return proof_system(circuit.system).committer(circuit)


@pytest.fixture(scope="module")
def witness(request: pytest.FixtureRequest) -> Witness:
    return Witness(request.getfixturevalue("sound_run"), 2, 0)


@pytest.fixture
def check(case: Case, committer: Committer, witness: Witness) -> Callable[..., Columns]:
    start = case.story().start

    def run(event: WitnessShard, key: bytes = witness.key, start: RunStarted = start) -> Columns:
        return check_witness(event, start, case.sound.circuit, committer, key)

    return run


def test_an_honest_witness_becomes_the_columns_that_were_committed_to(
    check: Callable[..., Columns], witness: Witness, committer: Committer
) -> None:
    columns = check(witness.event)
    for name in ("pre", "post", "work"):
        values = getattr(columns, name)
        assert committer.commit(np.array(values[:-3]), values[-3:]) == getattr(witness.event, name)
    assert list(columns.hyper) == list(witness.event.public)


def test_sealing_it_again_changes_nothing(check: Callable[..., Columns], witness: Witness) -> None:
    assert check(witness.sealed()) == check(witness.event)


# 1. address


def test_a_witness_for_another_circuit_is_refused(check: Callable[..., Columns], witness: Witness, case: Case) -> None:
    with pytest.raises(VerificationError, match="another circuit"):
        check(witness.sealed(circuit_id=bytes(32)))
    with pytest.raises(VerificationError, match="another circuit"):
        check(witness.event, start=replace(case.story().start, circuit_id=bytes(32)))


def test_a_shard_that_the_run_does_not_have_is_refused(check: Callable[..., Columns], witness: Witness) -> None:
    with pytest.raises(VerificationError, match="the run has 2 shards"):
        check(witness.sealed(shard=2))


@pytest.mark.parametrize("public", [(), (1, 2, 3), (0,) * 32])
def test_another_number_of_public_integers_is_refused(
    check: Callable[..., Columns], witness: Witness, public: tuple[int, ...]
) -> None:
    with pytest.raises(VerificationError, match="expected 7 public integers"):
        check(witness.sealed(public=public))


@pytest.mark.parametrize("carry", [(bytes(64),), (bytes(64), bytes(64))])
def test_running_sums_where_the_statement_has_none_are_refused(
    check: Callable[..., Columns], witness: Witness, carry: tuple[bytes, ...]
) -> None:
    with pytest.raises(VerificationError, match="running sums"):
        check(witness.sealed(carry=carry))


# 2. sealed for this place


def test_another_data_key_does_not_open_it(check: Callable[..., Columns], witness: Witness) -> None:
    with pytest.raises(SealingError):
        check(witness.event, key=bytes(32))


@pytest.mark.parametrize(
    "change",
    [
        {"run_id": bytes(32)},
        {"step": 3},
        {"shard": 1},
        {"pre": bytes(64)},
        {"post": bytes(64)},
        {"work": bytes(64)},
        {"ciphertext": b""},
        {"ciphertext": bytes(28)},
        {"ciphertext": bytes(100_000)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_it_opens_in_its_own_place_only(
    check: Callable[..., Columns], witness: Witness, change: dict[str, Any]
) -> None:
    """What a witness is about is bound to its ciphertext: it cannot be moved, nor be put under other commitments."""
    with pytest.raises(SealingError):
        check(replace(witness.event, **change))


# 3. canonical


@pytest.mark.parametrize("plain", [b"", b"x", "short", "long"])
def test_a_witness_of_another_length_is_refused(
    check: Callable[..., Columns], witness: Witness, plain: bytes | str
) -> None:
    honest = witness.secret.to_bytes(witness.circuit.statement)
    data = {"short": honest[:-1], "long": honest + b"\0"}[plain] if isinstance(plain, str) else plain
    with pytest.raises(DecodeError, match="witness: expected"):
        check(witness.sealed(data))


@pytest.mark.parametrize("salt", [MODULUS, (1 << 256) - 1])
@pytest.mark.parametrize("which", range(9))
def test_a_salt_that_is_no_field_element_is_refused(
    check: Callable[..., Columns], witness: Witness, salt: int, which: int
) -> None:
    plain = bytearray(witness.secret.to_bytes(witness.circuit.statement))
    at = len(plain) - 32 * (9 - which)
    plain[at : at + 32] = salt.to_bytes(32, "little")
    with pytest.raises(DecodeError, match="salt"):
        check(witness.sealed(bytes(plain)))


# 4. within the table


@pytest.mark.parametrize("name", ["w", "m", "v"])
@pytest.mark.parametrize("value", [INT64_MIN, INT64_MIN + 1, INT64_MAX, 1 << 50, -(1 << 50), 1 << 40, 1 << 36])
def test_a_state_far_outside_the_format_is_refused(
    check: Callable[..., Columns], witness: Witness, name: str, value: int
) -> None:
    """64-bit arithmetic that wraps round must not make it look as if it fitted."""
    with pytest.raises((FormatError, VerificationError)):
        check(witness.with_state(name, value))


def test_a_negative_second_moment_is_refused(check: Callable[..., Columns], witness: Witness) -> None:
    with pytest.raises(FormatError):
        check(witness.with_state("v", -(1 << 30)))


@pytest.mark.parametrize("value", [-(1 << 31), (1 << 31) - 1, "P/2", "-P/2-1"])
def test_a_gradient_outside_the_table_is_refused(
    check: Callable[..., Columns], witness: Witness, value: int | str
) -> None:
    half = witness.circuit.P // 2
    g = witness.secret.g.copy()
    g[5] = {"P/2": half, "-P/2-1": -half - 1}[value] if isinstance(value, str) else value
    with pytest.raises((FormatError, VerificationError)):
        check(witness.with_values(g=g))


@pytest.mark.parametrize("value", ["P", (1 << 32) - 1])
def test_noise_outside_the_table_is_refused(check: Callable[..., Columns], witness: Witness, value: int | str) -> None:
    noise = witness.secret.noise.copy()
    noise[-1] = witness.circuit.P if value == "P" else value
    with pytest.raises(FormatError, match="noise"):
        check(witness.with_values(noise=noise))


@pytest.mark.parametrize("index", range(7))
@pytest.mark.parametrize("value", [-1, INT64_MIN, INT64_MAX, 1 << 42])
def test_public_integers_outside_the_arithmetic_are_refused(
    check: Callable[..., Columns], witness: Witness, index: int, value: int
) -> None:
    public = list(witness.event.public)
    public[index] = value
    with pytest.raises((FormatError, VerificationError)):
        check(witness.sealed(public=tuple(public)))


def test_a_step_that_leaves_the_table_is_refused(check: Callable[..., Columns], witness: Witness) -> None:
    """A rate so large that a weight moves further than the circuit can express."""
    public = list(witness.event.public)
    public[4] *= 1000
    with pytest.raises(FormatError, match="leaves the look-up table"):
        check(witness.sealed(public=tuple(public)))


# 5. commitments


@pytest.mark.parametrize("name", ["pre", "post", "work"])
def test_a_column_that_was_not_committed_to_is_refused(
    check: Callable[..., Columns], witness: Witness, name: str
) -> None:
    """Sealed for the wrong commitment by the holder of the data key itself."""
    other = {"pre": witness.event.post, "post": witness.event.pre, "work": witness.event.pre}[name]
    with pytest.raises(VerificationError, match=f"its {name} column"):
        check(witness.sealed(**{name: other}))


def test_a_weight_that_is_off_by_one_is_refused(check: Callable[..., Columns], witness: Witness) -> None:
    value = int(witness.secret.pre["w"][7])
    with pytest.raises(VerificationError, match="its pre column"):
        check(witness.with_state("w", value + 1, at=7))


@pytest.mark.parametrize("name", ["salt_pre", "salt_post", "salt_work"])
def test_another_salt_is_refused(check: Callable[..., Columns], witness: Witness, name: str) -> None:
    with pytest.raises(VerificationError, match=f"its {name.removeprefix('salt_')} column"):
        check(witness.with_values(**{name: (1, 2, 3)}))


def test_other_public_integers_lead_to_another_state(
    check: Callable[..., Columns], witness: Witness, case: Case
) -> None:
    """A step at another rate ends elsewhere than where the training enclave says that it ended."""
    start = case.story().start
    (group,), (block,) = start.groups, start.blocks
    fmt = Format(block.scale_w, block.scale_g, block.guard, block.clip)
    public = case.sound.circuit.statement.public_vector(hot_public(case.sound.circuit, 2, fmt))
    assert group.max_lr < HOT_LR
    with pytest.raises(VerificationError, match="its post column"):
        check(witness.sealed(public=tuple(public)))


def test_no_refusal_tells_a_secret(check: Callable[..., Columns], witness: Witness) -> None:
    """The reason is published: it may name bounds and sizes, never a value of the witness."""
    bad = [
        witness.with_state("w", 123_456_789_123),
        witness.with_state("m", 123_456_789_123),
        witness.with_state("v", -123_456_789_123),
        witness.with_values(salt_pre=(123_456_789_123, 2, 3)),
        witness.sealed(b"123456789123"),
    ]
    for event in bad:
        with pytest.raises((FormatError, VerificationError, DecodeError)) as caught:
            check(event)
        assert "123456789123" not in str(caught.value)


def test_the_witness_of_these_tests_round_trips(witness: Witness) -> None:
    st = witness.circuit.statement
    plain = witness.secret.to_bytes(st)
    again = ShardWitness.from_bytes(plain, st, witness.circuit.shard, witness.circuit.noise)
    assert again.to_bytes(st) == plain
