"""Steps taken in stretches come to what they come to one by one, whatever is wrong with some of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from consumers.audit import checks
from consumers.audit.collected import Collected
from consumers.audit.glance import seen
from consumers.audit.outcome import Audit
from consumers.audit.stretch import Stretch, stretch_of
from consumers.audit.workers import Later, Workers
from ledger.chain import RunChain
from schemas.events import RunFinished, StepCommitted
from schemas.keyring import KeyRing
from schemas.signing import decode_unverified, seal
from tests.consumers.test_chain_scales import EPOCH, KEY, Run, opened
from zk_autograd.policy import Policy
from zk_autograd.tee.keys import new_signing_key

STEPS = 40
OTHER = new_signing_key()
NOBODY = Policy(frozenset(), {}, frozenset(), frozenset())


class OneByOne(Workers):
    """Every event is the chain's to check."""

    def stretch(self, *_: Any) -> Later[Stretch | None]:
        return lambda: None


@cache
def run() -> tuple[Run, tuple[StepCommitted | RunFinished, ...]]:
    """A run with its end; the chain has taken nothing of it."""
    made, events = Run(), []
    for step in range(STEPS):
        events.append(made.event(saturated=step % 3, underflow=step, rounding=(step * 7 % 11) / 50))
        made.chain.append(opened(events[-1]))
    last = made.chain.steps[-1]
    end = RunFinished(made.chain.run_id, last.event_id, STEPS, last.event.state_root)
    made.chain = RunChain(opened(made.start), made.circuit)
    return made, (*events, end)


def sealed(events: Sequence[StepCommitted | RunFinished]) -> list[bytes]:
    return [seal("steps", event, KEY) for event in events]


def told(values: Sequence[bytes], workers: Workers) -> dict[str, Any]:
    """What checks 3 and 4 say, and all that is kept of the steps."""
    made, _ = run()
    found, out = Collected(KeyRing(NOBODY), NOBODY, made.chain.run_id), Audit(made.chain.run_id)
    for offset, value in enumerate(values):
        found.chain.add(seen(decode_unverified("steps", value)), value, 0, offset)
    out.circuit, out.chain = made.circuit, RunChain(opened(made.start), made.circuit)
    checks._chain(out, found, workers)
    steps = out.chain.steps
    kept = [
        (steps.event_id(n), steps.state_root(n), steps.work_root(n), steps.carry_root(n), steps.public(n, 0, 99),
         steps[n - 1].event_id)
        for n in range(1, len(steps) + 1)
    ]  # fmt: skip
    said = [(check.status, check.detail, check.findings) for check in out.checks]
    return {"said": said, "kept": kept, "gradients": out.gradients, "rates": out.rates, "end": out.chain.finished}


def agreed(values: Sequence[bytes]) -> dict[str, Any]:
    """The same, after a look whether both ways come to it."""
    found = told(values, Workers(0))
    assert found == told(values, OneByOne(0))
    return found


def spoilt(rng: random.Random) -> list[bytes]:
    """The run with one to four things that are wrong, or only unusual."""
    _, events = run()
    values = sealed(events)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(values) - 1)
        event = decode_unverified("steps", values[at]).event
        if not isinstance(event, StepCommitted):
            continue
        kind = rng.randrange(10)
        wrong = (
            {"public": (*event.public[:-1], event.public[-1] + 1)}, {"rates": event.rates[:1]}, {"rounding": 0.9},
            {"shifts": (1, 0, 0)}, {"carry_root": bytes([1]) * 32}, {"step": event.step + 1}, {"previous": bytes(32)},
        )  # fmt: skip
        if kind < len(wrong):
            values[at] = seal("steps", replace(event, **wrong[kind]), KEY)
        elif kind == 7:
            del values[at]
        elif kind == 8:
            values.insert(at, values[rng.randrange(len(values))])
        else:
            values[at] = seal("steps", event, OTHER)
    return values


@pytest.fixture(autouse=True)
def _short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_CHUNK", 7)


def test_an_honest_run_is_taken_whole() -> None:
    _, events = run()
    found = agreed(sealed(events))
    assert len(found["kept"]) == STEPS
    assert not any(findings for _, _, findings in found["said"])
    assert (found["gradients"]["underflow"], found["gradients"]["max_rounding"]) == (sum(range(STEPS)), 0.2)
    assert found["gradients"]["max_rounding_step"] == 1 + next(s for s in range(STEPS) if s * 7 % 11 == 10)


@pytest.mark.parametrize("seed", range(60))
def test_whatever_is_wrong_is_said_as_if_steps_came_one_by_one(seed: int) -> None:
    agreed(spoilt(random.Random(seed)))


def test_what_goes_wrong_above_is_of_every_kind() -> None:
    """The seeds reach both checks, and runs of which steps are left out."""
    found = [told(spoilt(random.Random(seed)), Workers(0)) for seed in range(60)]
    texts = "\n".join(text for one in found for _, _, findings in one["said"] for text in findings)
    for part in ("leaves a gap", "another key", "public integers off", "learning rates, got 1", "rounding error",
                 "commits to sums", "repeated"):  # fmt: skip
        assert part in texts
    assert any(len(one["kept"]) < STEPS for one in found)


def test_after_a_change_of_scale_steps_are_the_chains_own_to_check() -> None:
    """Their integers follow the new scale, and a stretch is made with the old one."""
    made = Run()
    for step in range(1, 21):
        made.take(*((1, 0, 0) if step == EPOCH + 1 else ()))
    assert made.start == run()[0].start
    found = agreed(sealed([step.event for step in made.chain.steps]))
    assert not any(findings for _, _, findings in found["said"])
    assert found["gradients"]["scale_changes"] == 1
    assert found["rates"][0]["unit"] > 0


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({}, OTHER), ({"shifts": (1, 0, 0)}, KEY), ({"public": (1, 2, 3)}, KEY), ({"step": 12}, KEY),
        ({"previous": bytes(32)}, KEY), ({"rates": (1e-3,)}, KEY), ({"rounding": 0.3}, KEY),
    ],
)  # fmt: skip
def test_a_stretch_ends_before_what_does_not_follow(change: dict[str, Any], key: Any) -> None:
    made, events = run()
    values = sealed(events)
    values[10] = seal("steps", replace(events[10], **change), key)
    found = stretch_of(made.chain, values)
    assert found is not None
    assert (len(found), found.first, found.head) == (10, 1, decode_unverified("steps", values[9]).event_id)
    assert stretch_of(made.chain, values[10:11]) is None or "previous" in change or "step" in change


def test_a_stretch_that_does_not_go_on_where_the_run_is_is_not_taken_whole() -> None:
    made, events = run()
    chain = RunChain(opened(made.start), made.circuit)
    found = stretch_of(chain, sealed(events))
    assert found is not None
    assert chain.goes_on(found.previous, found.first)
    assert not chain.goes_on(bytes(32), found.first)
    assert not chain.goes_on(found.previous, 2)
    chain.append(opened(events[-1]))
    assert not chain.goes_on(found.previous, found.first)
