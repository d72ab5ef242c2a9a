"""Attacks on what EZKL leaves unblinded: each confirms a guess where salt and noise are known, and fails where not.

Real proofs of a small circuit. The attacker has a proof, the keys, and two guesses of a state of which one is right.
He wants to know which. ``docs/zero-knowledge.md`` says why he cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from zksnake._algebra import ec_bn254

from tests.support.lookups import INNER, Guess, guess
from tests.support.transcript import Opened, column_at, inverses, key_digest, lagrange, layout, open_proof
from zk_autograd.field import MODULUS
from zk_autograd.proofs.base import Columns, Committer, Ints, Limits
from zk_autograd.proofs.ezkl.commit import KzgCommitter
from zk_autograd.proofs.ezkl.constraints import read_key
from zk_autograd.proofs.ezkl.hiding import noise_lookups, shape
from zk_autograd.proofs.ezkl.srs import lagrange_points
from zk_autograd.proofs.ezkl.system import Ezkl, _circuit
from zk_autograd.proofs.witness import SALT, ShardWitness, advance, columns, fresh_noise, fresh_salt
from zk_autograd.statement import STATEMENTS, Public

pytestmark = pytest.mark.usefixtures("bare")  # from which the attacker learns the circuit's layout

LOGROWS, SHARD = 12, 1150
ROWS, NOISE = 1 << LOGROWS, noise_lookups(shape(LOGROWS, INNER))
NO_SALT = (0, 0, 0)


@dataclass(frozen=True)
class Shown:
    """A proof of a witness, taken apart."""

    witness: ShardWitness
    columns: Columns
    proof: Opened
    weights: list[int]


class Attack:
    """The circuit, honest provers of chosen witnesses, and what an attacker computes from guesses."""

    def __init__(self, folder: Path) -> None:
        st = STATEMENTS["sgd"]
        srs = Ezkl().dev_srs(folder, LOGROWS)
        Ezkl()._compile(st, ROWS - 8, 3, SHARD, NOISE, folder)
        Ezkl()._keys(folder, srs)
        description = {"statement": "sgd", "logrows": LOGROWS, "shard": SHARD, "noise": NOISE, "proof_bytes": 0}
        self.circuit = _circuit(bytes(32), description, bytes(32), "DEV", folder, srs)
        self.digest = key_digest(self.circuit)
        fmt = st.choose_format(st.defaults, 1e-3, 1.0, self.circuit.P)
        self.pub: Public = st.public_integers(st.defaults, 1e-3, 2, fmt, self.circuit.P)
        rng = np.random.default_rng(7)
        self.state: Ints = rng.integers(-(10**6), 10**6, SHARD)
        self.g: Ints = rng.integers(-fmt.clip, fmt.clip + 1, SHARD)
        self.committer: Committer = KzgCommitter(srs, LOGROWS, SHARD + NOISE + SALT)
        points, _ = lagrange_points(srs, LOGROWS, ROWS, 1)
        self.points = [ec_bn254.PointG1(x, y) for x, y in points]
        self.shift = 0

    def witness(self, salted: bool, noisy: bool) -> ShardWitness:
        salts = [fresh_salt() if salted else NO_SALT for _ in range(3)]
        noise = fresh_noise(NOISE, self.circuit.P) if noisy else np.zeros(NOISE, np.int64)
        return ShardWitness({"w": self.state}, self.g, noise, *salts)

    def columns(self, witness: ShardWitness) -> Columns:
        return columns(self.circuit, witness, advance(self.circuit, witness, self.pub), self.pub)

    def show(self, witness: ShardWitness) -> Shown:
        """An honest proof of ``witness``."""
        found = self.columns(witness)
        proof = Ezkl().prove_unverified(self.circuit, found, Limits())
        opened = open_proof(proof, layout(self.circuit), self.digest)
        return Shown(witness, found, opened, lagrange(LOGROWS, opened.x))

    def guesses(self, witness: ShardWitness) -> tuple[ShardWitness, ShardWitness]:
        """The right guess and one that is wrong in one gradient by one unit; salt and noise as an attacker has them."""
        wrong = self.g.copy()
        wrong[3] += 1 if wrong[3] < 0 else -1
        state = self.state.copy()
        state[5] += 1
        return witness, replace(witness, g=wrong, pre={"w": state})

    def looked_up(self, witness: ShardWitness) -> Guess:
        return guess(self.circuit, witness, self.pub, self.shift)

    def commit(self, row_values: Sequence[int]) -> bytes:
        """A commitment to a whole column by rows."""
        used = [i for i, v in enumerate(row_values) if v]
        p = ec_bn254.multiscalar_mul_g1([self.points[i] for i in used], [row_values[i] for i in used])
        return int(p.x).to_bytes(32, "big") + int(p.y).to_bytes(32, "big")


@pytest.fixture(scope="module")
def attack(tmp_path_factory: pytest.TempPathFactory) -> Attack:
    return Attack(tmp_path_factory.mktemp("hiding"))


@pytest.fixture(scope="module")
def bare(attack: Attack) -> Shown:
    """A proof whose salt and noise the attacker knows: zeros."""
    shown = attack.show(attack.witness(salted=False, noisy=False))
    # The attacker learns the layout's one unknown number from a proof of his own.
    for attack.shift in range(64):
        if all(sums_confirm(attack, shown, shown.witness)):
            return shown
    raise AssertionError("the layout is not what the attacks take it for")


@pytest.fixture(scope="module")
def hidden(attack: Attack) -> Shown:
    """A proof as provers make it."""
    return attack.show(attack.witness(salted=True, noisy=True))


Confirm = Callable[[Attack, Shown, ShardWitness], list[bool]]
"""Whether a guess fits what a proof shows, by column or look-up argument."""


def commitment_confirms(attack: Attack, shown: Shown, guessed: ShardWitness) -> list[bool]:
    """Commits to the guessed columns and compares."""
    found = attack.columns(guessed)
    parts = [(found.pre, 0), (found.post, 1), (found.work, 2)]
    commit = attack.committer.commit
    return [commit(np.array(column[:-SALT], np.int64), column[-SALT:]) == shown.proof.columns[i] for column, i in parts]


def opening_confirms(attack: Attack, shown: Shown, guessed: ShardWitness) -> list[bool]:
    """Evaluates the guessed columns at x and compares with the proof's evaluations."""
    found = attack.columns(guessed)
    values = [column_at(shown.weights, column) for column in (found.pre, found.post, found.work)]
    return [value == seen for value, seen in zip(values, shown.proof.evaluations[:3], strict=True)]


def count_commitment_confirms(attack: Attack, shown: Shown, guessed: ShardWitness) -> list[bool]:
    """Commits to the histograms of all guessed look-ups."""
    looked_up = attack.looked_up(guessed)
    return [attack.commit(looked_up.counts((c,))) == seen for c, seen in enumerate(shown.proof.multiplicities)]


def count_opening_confirms(attack: Attack, shown: Shown, guessed: ShardWitness) -> list[bool]:
    """Evaluates the histograms at x."""
    looked_up = attack.looked_up(guessed)
    values = [
        sum(n * w for n, w in zip(looked_up.counts((c,)), shown.weights, strict=True)) % MODULUS for c in range(INNER)
    ]
    return [value == seen for value, seen in zip(values, shown.proof.counts, strict=True)]


def blinds(attack: Attack, shown: Shown, guessed: ShardWitness) -> list[list[int]]:
    """What is left of the running sums, at x and at omega x: each argument's blinds, if the guess is right."""
    looked_up, p = attack.looked_up(guessed), shown.proof
    return [
        [(s - looked_up.sums((c,), p.theta, p.beta, shown.weights, turned)) % MODULUS for c, s in enumerate(seen)]
        for turned, seen in enumerate((p.sums, p.sums_next))
    ]


def sums_confirm(attack: Attack, shown: Shown, guessed: ShardWitness) -> list[bool]:
    """Computes the running sums: any two of them have the same blinds, so their difference has none."""
    return [left[c] == left[c - 1] for left in blinds(attack, shown, guessed) for c in range(INNER)]


ATTACKS = [
    commitment_confirms, opening_confirms, count_commitment_confirms, count_opening_confirms, sums_confirm
]  # fmt: skip
BY_NOISE = ATTACKS[2:]


def test_a_small_circuit_is_laid_out_like_a_large_one(attack: Attack, bare: Shown) -> None:
    """As the settings say, as the key says and as the numbers for salt and noise count it."""
    key, found, counted = (
        read_key((attack.circuit.directory / "vk.key").read_bytes()),
        layout(attack.circuit),
        shape(LOGROWS, INNER),
    )
    assert (found.lookups, found.pieces, attack.circuit.P) == (counted.arguments, counted.pieces, counted.P)
    assert (found.points, len(bare.proof.evaluations)) == (key.commitments, key.evaluations)


def test_the_challenges_are_replayed_right(bare: Shown, hidden: Shown) -> None:
    """A public column shows it: everyone knows its values, and the proof says what it is at x."""
    for shown in (bare, hidden):
        assert column_at(shown.weights, shown.columns.hyper) == shown.proof.evaluations[3]


@pytest.mark.parametrize("confirms", ATTACKS)
def test_without_salt_and_noise_a_guess_is_confirmed(attack: Attack, bare: Shown, confirms: Confirm) -> None:
    right, wrong = attack.guesses(bare.witness)
    assert all(confirms(attack, bare, right))
    assert not all(confirms(attack, bare, wrong))


@pytest.mark.parametrize("confirms", ATTACKS)
def test_with_salt_and_noise_no_guess_is_confirmed(
    attack: Attack, bare: Shown, hidden: Shown, confirms: Confirm
) -> None:
    """The right state, and another salt and noise than the prover's, looks as wrong as any."""
    for known in (bare.witness, attack.witness(salted=True, noisy=True)):
        right, wrong = attack.guesses(known)
        assert not any(confirms(attack, hidden, right))
        assert not any(confirms(attack, hidden, wrong))


@pytest.mark.parametrize("confirms", ATTACKS)
def test_only_salt_and_noise_stand_in_the_way(attack: Attack, hidden: Shown, confirms: Confirm) -> None:
    """Who is given them confirms the guess; who lacks one element of each salt, or one draw an argument, does not."""
    right, wrong = attack.guesses(hidden.witness)
    assert all(confirms(attack, hidden, right))
    assert not all(confirms(attack, hidden, wrong))
    noise = right.noise.copy()
    noise[-INNER:] = (noise[-INNER:] + 1) % attack.circuit.P
    pre, post, work = ((*salt[:2], 0) for salt in (right.salt_pre, right.salt_post, right.salt_work))
    by_salt = replace(right, salt_pre=pre, salt_post=post, salt_work=work)
    lacking = replace(right, noise=noise) if confirms in BY_NOISE else by_salt
    assert not any(confirms(attack, hidden, lacking))


def test_one_argument_whose_values_are_known_gives_the_blinds_of_all_sums_away(attack: Attack, hidden: Shown) -> None:
    """Why the blinds count for nothing: they hide a sum from who knows all that it adds up, but are every sum's."""
    for left in blinds(attack, hidden, hidden.witness):
        assert left[0] == left[1] == left[2] != 0
    others = hidden.witness.noise.copy()
    others[-1] = (others[-1] + 1) % attack.circuit.P  # of one argument, all is known but one draw
    for left in blinds(attack, hidden, replace(hidden.witness, noise=others)):
        assert len(set(left)) == 2


@pytest.fixture(scope="module")
def weak(attack: Attack) -> list[Shown]:
    """Two proofs of one witness whose state before the step has a salt of two elements, and whose noise is known."""
    a, b, _ = fresh_salt()
    witness = replace(attack.witness(salted=True, noisy=False), salt_pre=(a, b, 0))
    return [attack.show(witness) for _ in range(2)]


@pytest.fixture(scope="module")
def hidden_twice(attack: Attack, hidden: Shown) -> list[Shown]:
    """Two proofs of one witness as provers make it."""
    return [hidden, attack.show(hidden.witness)]


def test_salt_does_not_hide_look_ups(attack: Attack, weak: list[Shown]) -> None:
    right, wrong = attack.guesses(attack.witness(salted=False, noisy=False))
    for confirms in BY_NOISE:
        assert all(confirms(attack, weak[0], right))
        assert not all(confirms(attack, weak[0], wrong))


def test_noise_does_not_hide_columns(attack: Attack, hidden: Shown) -> None:
    """Columns without noise of their own are seen by who knows their salt, whatever the noise is."""
    known = replace(hidden.witness, noise=fresh_noise(NOISE, attack.circuit.P))
    right, wrong = (attack.columns(w).pre for w in attack.guesses(known))
    assert column_at(hidden.weights, right) == hidden.proof.evaluations[0] != column_at(hidden.weights, wrong)


def solved_salt(views: list[tuple[list[int], int]], values: list[int]) -> list[int]:
    """The salt of two elements with which a guessed column shows what two openings showed."""
    at = len(values)
    (a, b, r), (c, d, s) = ((w[at], w[at + 1], (seen - column_at(w, values)) % MODULUS) for w, seen in views)
    (inverse,) = inverses([(a * d - b * c) % MODULUS])
    return [(r * d - b * s) * inverse % MODULUS, (a * s - r * c) * inverse % MODULUS]


@pytest.mark.parametrize("elements", [2, 3])
def test_a_column_that_is_opened_twice_needs_three_elements(
    request: pytest.FixtureRequest, attack: Attack, elements: int
) -> None:
    """Two elements can be solved for from two openings; the commitment then confirms the guess. Three cannot."""
    proofs: list[Shown] = request.getfixturevalue("weak" if elements == 2 else "hidden_twice")
    assert proofs[0].proof.columns[0] == proofs[1].proof.columns[0]
    views = [(p.weights, p.proof.evaluations[0]) for p in proofs]

    def confirmed(state: Ints) -> bool:
        solved = solved_salt(views, state.tolist())
        return attack.committer.commit(state, [*solved, 0]) == proofs[0].proof.columns[0]

    wrong = attack.state.copy()
    wrong[0] += 1
    assert not confirmed(wrong)
    assert confirmed(attack.state) is (elements == 2)


def test_two_proofs_of_one_witness_show_the_same_unblinded_parts(hidden_twice: list[Shown]) -> None:
    """Why a witness is proven once: noise that is used twice is seen at twice as many points."""
    once, again = (p.proof for p in hidden_twice)
    assert once.columns[:4] == again.columns[:4]
    assert once.multiplicities == again.multiplicities
    # Everything else is made with fresh blinds.
    assert not set(once.columns[4:]) & set(again.columns[4:])
    assert not set(once.running_sums) & set(again.running_sums)
