"""Groups, blocks and changes of scale as the chain holds a run to them. No proofs: only what the events say."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from ledger.chain import RunChain, begins_epoch
from schemas.codec import encode
from schemas.events import Block, Group, Hyper, RunStarted, ScheduleKind, SrsClass, StepCommitted
from schemas.signing import Opened, decode_unverified, event_id, seal
from tests.support.events import digest, sample
from zk_autograd.errors import VerificationError
from zk_autograd.fixed_point import Format
from zk_autograd.proofs.base import Circuit
from zk_autograd.statement import STATEMENTS, UNCHANGED
from zk_autograd.tee.keys import new_signing_key

KEY = new_signing_key()
P = 2**15 - 8
EPOCH = 3
RATES = (1e-3, 5e-4)


class Run:
    """A run of two groups and three blocks, told by a trainer who may say what he likes."""

    def __init__(self, name: str = "adam", epoch_steps: int = EPOCH, **changes: Any) -> None:
        self.st = STATEMENTS[name]
        self.circuit = Circuit(
            digest("circuit"), "ezkl-23.0.5", self.st, P, 100, 270, 5000, digest("srs"), "DEV", Path(), Path()
        )  # fmt: skip
        hyper = dict(self.st.defaults)
        self.hyper = [hyper, hyper | ({"beta1": 0.8} if "beta1" in hyper else {})]
        clips = ((0, 0.25), (0, 2.0**-6), (1, 0.25))
        self.formats = [self.st.choose_format(self.hyper[g], RATES[g], clip, P) for g, clip in clips]
        groups = tuple(
            Group(tuple(Hyper(n, v) for n, v in sorted(h.items())), lr, ScheduleKind.CONSTANT, (lr,))
            for h, lr in zip(self.hyper, RATES, strict=True)
        )
        blocks = tuple(
            Block(g, n, f.scale_w, f.scale_g, f.guard, f.clip)
            for (g, _), n, f in zip(clips, (2, 1, 3), self.formats, strict=True)
        )
        start = sample(
            RunStarted, optimizer=name, trainer_key_id=KEY.key_id, groups=groups, blocks=blocks,
            proof_system="ezkl-23.0.5", circuit_id=self.circuit.id, srs_id=digest("srs"), srs_class=SrsClass.DEV,
            shard_size=100, shards=6, sampled=0, beacon="", window=0, epoch_steps=epoch_steps, max_rounding=0.25,
        )  # fmt: skip
        self.start = replace(start, **changes)
        self.chain = RunChain(opened(self.start), self.circuit)
        self.known = [UNCHANGED] * 3

    def event(self, shifts: tuple[int, ...] = (), honest: bool = True, **changes: Any) -> StepCommitted:
        """The next step; ``honest``: its integers follow its shifts."""
        number = len(self.chain.steps) + 1
        public: list[int] = []
        for i, group in enumerate((0, 0, 1)):
            shift = shifts[i] if shifts and honest else 0
            fmt, known = self.formats[i], self.known[i]
            if shift:
                fmt = replace(fmt, scale_g=fmt.scale_g + shift)
                known = self.st.resolution(self.hyper[group], known, number, shift, P)
            pub = self.st.step_integers(self.hyper[group], RATES[group], number, fmt, P, shift, known)
            public += self.st.public_vector(pub)
        previous = self.chain.steps[-1].event_id if self.chain.steps else self.chain.run_id
        made = sample(
            StepCommitted, run_id=self.chain.run_id, step=number, previous=previous, rates=RATES, shifts=shifts,
            carry_root=bytes(32),
            public=tuple(public), rounding=0.1,
        )  # fmt: skip
        return replace(made, **changes)

    def take(self, *shifts: int) -> None:
        """An honest step."""
        event = self.event(shifts)
        step = opened(event)
        self.chain.check_link(step)
        self.chain.check_public(event)
        self.chain.append(step)
        for i, shift in enumerate(shifts):
            if shift:
                self.formats[i] = replace(self.formats[i], scale_g=self.formats[i].scale_g + shift)
                hyper = self.hyper[self.start.blocks[i].group]
                self.known[i] = self.st.resolution(hyper, self.known[i], event.step, shift, P)

    def refuses(self, said: str, event: StepCommitted) -> None:
        with pytest.raises(VerificationError, match=said):
            self.chain.check_public(event)


def opened(event: Any) -> Opened[Any]:
    return decode_unverified("steps", seal("steps", event, KEY))


NAMES = ["adam", "amsgrad", "adamw", "sgd", "momentum", "nesterov-l2"]


@pytest.mark.parametrize("name", NAMES)
def test_an_honest_run_changes_scales_where_epochs_begin(name: str) -> None:
    run = Run(name)
    begun = [f.scale_g for f in run.formats]
    for number in range(1, 12):
        run.take(*((1, 0, 2) if number == 4 else (0, 1, 0) if number == 10 else ()))
    assert [f.scale_g for f in run.chain.formats] == begun
    assert [f.scale_g for f in run.chain.formats_after(3)] == begun
    assert [f.scale_g for f in run.chain.formats_after(4)] == [begun[0] + 1, begun[1], begun[2] + 2]
    assert [f.scale_g for f in run.chain.formats_after(11)] == [begun[0] + 1, begun[1] + 1, begun[2] + 2]
    assert run.chain.public_of(4, 0) == run.chain.public_of(4, 1) != run.chain.public_of(4, 3)
    assert run.chain.public_of(4, 3) == run.chain.public_of(4, 5)


@pytest.mark.parametrize("number", [1, 2, 3, 5, 6])
def test_a_change_in_mid_epoch_is_refused(number: int) -> None:
    run = Run()
    while len(run.chain.steps) < number - 1:
        run.take()
    run.refuses("does not begin an epoch", run.event((1, 0, 0)))
    run.refuses("does not begin an epoch", run.event((0, 0, 0)))


def test_without_epochs_no_scale_ever_changes() -> None:
    run = Run(epoch_steps=0)
    for _ in range(4):
        run.refuses("epochs of 0 steps", run.event((1, 0, 0)))
        run.take()


def test_every_step_but_the_first_begins_an_epoch_of_one() -> None:
    assert [s for s in range(1, 9) if begins_epoch(s, 1)] == [2, 3, 4, 5, 6, 7, 8]
    assert [s for s in range(1, 9) if begins_epoch(s, 3)] == [4, 7]
    assert not any(begins_epoch(s, 0) for s in range(9))


def at_epoch(name: str = "adam", **changes: Any) -> Run:
    """Three steps taken: the next may change scales."""
    run = Run(name, **changes)
    for _ in range(EPOCH):
        run.take()
    return run


@pytest.mark.parametrize("name", [n for n in NAMES if n != "sgd"])
def test_a_change_that_the_integers_do_not_follow_is_refused(name: str) -> None:
    """The moments would stay in units of another scale: the event says so, the proof does not."""
    run = at_epoch(name)
    run.refuses("off their schedule: .* of block 0", run.event((1, 0, 0), honest=False))


def test_integers_that_follow_a_change_that_is_not_declared_are_refused() -> None:
    run = at_epoch()
    follows = run.event((0, 0, 1))
    run.refuses("off their schedule: b1 of block 2", replace(follows, shifts=()))
    run.refuses("off their schedule: b1 of block 2", replace(follows, shifts=(0, 0, 2)))
    run.refuses("off their schedule: b1 of block 1", replace(follows, shifts=(0, 1, 0)))


def test_a_format_that_changes_silently_is_refused_with_its_first_step() -> None:
    """The trainer goes on in a finer scale than he declares: under L2 the decay's integer tells."""
    run = at_epoch("adam-l2")
    run.formats[0] = replace(run.formats[0], scale_g=run.formats[0].scale_g + 1)
    run.refuses("off their schedule: W of block 0", run.event())


def test_a_format_does_not_go_back_silently_either() -> None:
    run = at_epoch("nesterov-l2")
    run.take(1, 0, 0)
    before = run.formats[0]
    run.formats[0] = replace(before, scale_g=before.scale_g - 1)
    run.refuses("off their schedule: A of block 0", run.event())


def test_what_was_recorded_coarsely_may_not_be_forgotten() -> None:
    run = at_epoch()
    run.take(5, 0, 0)
    run.known[0] = UNCHANGED
    run.refuses("off their schedule: E of block 0 is 1, expected 4", run.event())


@pytest.mark.parametrize(
    ("name", "shifts", "said"),
    [
        ("adam", (-5, 0, 0), "block 0 changes its scale by -5 bits.*makes b2"),
        ("adam", (0, 0, 8), None),
        ("amsgrad", (0, -1, 0), "block 1 changes its scale by -1 bits.*makes k"),
        ("momentum", (0, 0, -1), "block 2 changes its scale by -1 bits.*leave room"),
        ("adam", (1, 0), "for 3 blocks, got 2"),
        ("adam", (1, 0, 0, 0), "for 3 blocks, got 4"),
    ],
)
def test_a_change_beyond_the_limits_is_refused(name: str, shifts: tuple[int, ...], said: str | None) -> None:
    run = at_epoch(name)
    event = run.event(shifts, honest=False) if said else run.event(shifts)
    if said:
        run.refuses(said, event)
    else:
        run.chain.check_public(event)


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_changes_do_not_add_up_to_more_than_a_format_can_be(name: str) -> None:
    run = at_epoch(name)
    for _ in range(8):
        with pytest.raises(VerificationError) as refused:
            run.chain.check_public(run.event((4, 0, 0), honest=False))
        if "changes its scale" in str(refused.value):
            break
        for shifts in ((4, 0, 0), (), ()):
            run.take(*shifts)
    assert re.search(r"scale_g in 0\.\.30|learning rates are multiples", str(refused.value))


@pytest.mark.parametrize("rates", [(1e-3,), (1e-3, 1e-3), (5e-4, 1e-3), (1e-3, 5e-4, 5e-4)])
def test_each_group_is_held_to_its_own_schedule(rates: tuple[float, ...]) -> None:
    run = Run()
    run.refuses("learning rate", run.event(rates=rates))
    run.take()


def test_integers_of_blocks_may_not_be_swapped_left_out_or_added() -> None:
    run = at_epoch("momentum-l2")
    event, size = run.event(), len(run.st.public)
    first, second, third = (event.public[i * size : (i + 1) * size] for i in range(3))
    run.refuses("of block 0", replace(event, public=(*second, *first, *third)))
    run.refuses("expected 15 integers, got 10", replace(event, public=(*first, *second)))
    run.refuses("expected 15 integers, got 16", replace(event, public=(*event.public, 0)))


def test_a_rounding_error_above_the_declared_one_is_refused() -> None:
    run = Run()
    run.refuses("rounding error is 0.26, the run declared at most 0.25", run.event(rounding=0.26))
    run.chain.check_public(run.event(rounding=0.25))


def test_a_run_that_draws_more_shards_than_anybody_would_remember_is_refused() -> None:
    start = Run().start
    blocks = (replace(start.blocks[0], shards=5000), *start.blocks[1:])
    terms = {"blocks": blocks, "shards": 5004, "beacon": "file:00", "window": 1}
    assert Run(sampled=4096, **terms).chain.start.sampled == 4096
    with pytest.raises(VerificationError, match="4097 shards sampled, expected at most 4096, or all"):
        Run(sampled=4097, **terms)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda b: (b[0], b[2], b[1]), "blocks of groups"),
        (lambda b: b[:2], "blocks of groups"),
        (lambda b: (*b[:2], replace(b[2], group=2)), "a block of group 2, there are 2"),
        (lambda b: (*b[:2], replace(b[2], shards=4)), "6 shards, its blocks have 7"),
        (lambda b: (replace(b[0], scale_w=0), *b[1:]), "at least 12 fractional bits"),
    ],
)
def test_blocks_that_do_not_fit_groups_and_shards_are_refused(change: Any, said: str) -> None:
    blocks = Run().start.blocks
    with pytest.raises(VerificationError, match=said):
        Run(blocks=change(blocks))


@settings(max_examples=150, deadline=None)
@given(
    name=some.sampled_from(NAMES),
    shifts=some.lists(some.integers(-8, 8), min_size=3, max_size=3).map(tuple),
    scales=some.lists(some.integers(0, 40), min_size=2, max_size=2),
    clip=some.integers(1, 1 << 20),
    number=some.sampled_from([1, 2, 4, 7, 1 << 40]),
    max_lr=some.floats(1e-300, 1e300),
)
def test_whatever_is_declared_a_change_is_refused_or_followed(
    name: str, shifts: Any, scales: Any, clip: int, number: int, max_lr: float
) -> None:
    """Hostile formats and changes end in a VerificationError, never in another exception."""
    blocks = Run(name).start.blocks
    block = replace(blocks[0], scale_w=scales[0], scale_g=min(scales[1], 30), clip=clip)
    try:
        run = Run(name, blocks=(block, *blocks[1:]))
        run.chain.check_public(replace(run.event(), shifts=shifts, step=number))
    except VerificationError:
        pass


def test_a_refused_change_does_not_bend_what_comes_after_it() -> None:
    """The audit goes on after a violation: later steps are held to the formats from before."""
    run = at_epoch()
    lie = run.event((-8, 0, 0), honest=False)
    step = opened(lie)
    run.refuses("makes b2", lie)
    run.chain.append(step)
    assert run.chain.formats_after(4) == run.chain.formats
    run.chain.check_public(run.event())
    assert event_id(encode(lie)) == step.event_id


def test_formats_are_values() -> None:
    assert Run().chain.formats == tuple(Run().formats)
    assert all(isinstance(f, Format) for f in Run().chain.formats)
