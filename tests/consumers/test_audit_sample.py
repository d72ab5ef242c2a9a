"""Spot checks: which proofs are verified, what is said of the others, and that the verdict claims no more."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest

from consumers.audit.checks import audit
from consumers.audit.cli import main
from consumers.audit.collect import collect
from consumers.audit.outcome import Audit, Status
from consumers.audit.report import NOT_VERIFIED, as_json, as_text
from consumers.audit.spot import OneStep, Random, Spot, random_spot
from schemas.wire import open_event_log
from tests.support.forge import Case, explain, flipped
from tests.support.pipeline import ORIGIN
from zk_autograd.errors import UsageError
from zk_autograd.proofs.base import Circuit

SLOTS = [(step, shard) for step in range(1, 11) for shard in range(10)]


def spotted(case: Case, spot: Spot) -> tuple[Audit, int]:
    """The audit, and how many proofs were handed to a verifier."""
    asked = 0

    def verify(circuit: Circuit, jobs: object) -> object:
        nonlocal asked
        asked += len(jobs)  # type: ignore[arg-type]
        return case._verify(circuit, jobs)  # type: ignore[arg-type]

    with open_event_log(f"{case.log.url}?mode=ro", create=False) as log:
        found = collect(log, case.run_id, case.policy)
    out = audit(
        found, case.run_id, case.policy, case.circuits, verify, [], ORIGIN, spot=spot  # type: ignore[arg-type]
    )  # fmt: skip
    return out, asked


def seed_that(picks: tuple[int, int], want: bool, case: Case) -> Random:
    """A sample of one proof that is, or is not, the one in this slot."""
    for number in range(1000):
        spot = Random(1, None, number.to_bytes(32, "big"))
        if (picks in spot.pick(sorted(case.proofs()))) == want:
            return spot
    raise AssertionError


def forged(case: Case, slot: tuple[int, int]) -> None:
    """A proof that begins as the step's roots want it and is none; its prover signs it, the ledger enters it."""
    story = case.story()
    proof = story.proofs[slot]
    from dataclasses import replace

    story.proofs[slot] = replace(proof, proof=flipped(proof.proof, len(proof.proof) - 5))
    case.retell(story)


def test_only_the_sample_is_verified_and_the_verdict_is_not_sound(case: Case) -> None:
    out, asked = spotted(case, Random(2, None, bytes(32)))
    assert (asked, out.exit_code) == (2, 2), explain(out)
    assert [c.number for c in out.checks if c.status is not Status.PASSED] == [5, 10]
    text, facts = as_text(out, "run"), as_json(out, "run")
    assert "verdict: COULD NOT BE CHECKED: check 5 (proofs verify): 2 of 6 proofs were verified" in text
    assert "SOUND" not in text
    assert NOT_VERIFIED in text
    assert facts["verdict"] == "unchecked"
    assert (facts["spot_check"]["verified"], facts["spot_check"]["proofs"]) == (2, 6)
    assert facts["spot_check"]["seed"] == "00" * 32


def test_a_sample_of_all_is_an_audit(case: Case) -> None:
    for spot in (Random(6, None, bytes(32)), Random(99, None, bytes(32)), Random(None, Fraction(100), bytes(32))):
        out, asked = spotted(case, spot)
        assert (asked, out.exit_code) == (6, 0), explain(out)
        assert NOT_VERIFIED not in as_text(out, "run")


def test_a_false_proof_in_the_sample_is_a_violation(case: Case) -> None:
    forged(case, (2, 1))
    out, _ = spotted(case, seed_that((2, 1), True, case))
    assert out.exit_code == 1
    assert "step 2, shard 1" in out.checks[5].findings[0]


def test_a_false_proof_outside_the_sample_is_not_found_and_not_called_sound(case: Case) -> None:
    """This is what a sample is: the report says with what probability it would have been found."""
    forged(case, (2, 1))
    out, _ = spotted(case, seed_that((2, 1), False, case))
    assert out.exit_code == 2, explain(out)
    assert "16.6666 %  one false proof" in as_text(out, "run")


@pytest.mark.parametrize("attack", ["length", "place", "missing"])
def test_what_needs_no_proof_system_is_checked_of_every_proof(case: Case, attack: str) -> None:
    """Outside of the sample, too, a proof has its length, and the commitments of its step."""
    from dataclasses import replace

    story = case.story()
    proof = story.proofs[2, 1]
    changed = {"length": proof.proof + b"\0", "place": flipped(proof.proof, 5), "missing": proof.proof}[attack]
    story.proofs[2, 1] = replace(proof, proof=changed)
    if attack == "missing":
        del story.proofs[2, 1]
    case.retell(story)
    spot = OneStep(1)
    out, asked = spotted(case, spot)
    assert asked == 2
    assert out.exit_code == 1, explain(out)


def test_every_proof_is_as_likely_as_any_other() -> None:
    counts = Counter(slot for i in range(2000) for slot in Random(10, None, i.to_bytes(32, "big")).pick(SLOTS))
    assert len(counts) == 100
    assert all(130 < n < 270 for n in counts.values())  # 200 expected, five standard deviations


@pytest.mark.parametrize(
    ("amount", "picked"),
    [("1", 1), ("7", 7), ("1000", 100), ("1%", 1), ("0.5%", 1), ("2.5%", 3), ("50%", 50), ("100%", 100)],
)
def test_amounts_are_numbers_or_parts_rounded_up(amount: str, picked: int) -> None:
    spot = random_spot(amount, None)
    assert len(spot.pick(SLOTS)) == picked
    assert (spot.picked, spot.total) == (picked, 100)


def test_a_seed_draws_the_same_again_and_none_a_fresh_one() -> None:
    first, second = random_spot("5", None), random_spot("5", None)
    assert first.seed != second.seed
    assert random_spot("5", first.seed.hex()).pick(SLOTS) == first.pick(SLOTS)


@pytest.mark.parametrize("amount", ["0", "0%", "0.0%", "-1", "101%", "x", "", "1.5", "5 %", "1e3", "٣"])
def test_an_amount_that_is_none_is_refused(amount: str) -> None:
    with pytest.raises(UsageError, match="--sample"):
        random_spot(amount, None)


def test_a_seed_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for seed in ("", "00", "zz" * 32, " " * 64):
        if seed:
            with pytest.raises(UsageError, match="--seed"):
                random_spot("1", seed)
    assert main(["--run", "x", "--seed", "00" * 32]) == 2
    assert "--seed goes with --sample" in capsys.readouterr().err


def test_chances_are_those_of_drawing_without_repetition() -> None:
    spot = Random(4, None, bytes(32))
    spot.pick(SLOTS)
    chances = {words: (bad, p) for words, bad, p in spot.chances()}
    assert chances["one false proof"] == (1, Fraction(4, 100))
    misses = Fraction(90 * 89 * 88 * 87, 100 * 99 * 98 * 97)
    assert chances["10 % of the proofs false"] == (10, 1 - misses)
    assert len(chances) == 3  # 1 % of a hundred is one


def test_nothing_to_draw_from_is_nothing() -> None:
    spot = Random(4, None, bytes(32))
    assert spot.pick([]) == frozenset()
    assert spot.chances() == []
