"""What each field may hold; the same rule stands on the way out and on the way in."""

from __future__ import annotations

import dataclasses
import io
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fastavro import schemaless_writer
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.avro import SCHEMAS
from schemas.codec import decode, encode
from schemas.events import (
    Anchored,
    Block,
    CheckpointIssued,
    DeadLetter,
    EnclaveAttested,
    EpochClosed,
    Event,
    Group,
    Hyper,
    ProofAttached,
    ProofClaimed,
    RunClosed,
    RunFinished,
    RunStarted,
    ScheduleKind,
    SrsClass,
    StepCommitted,
    StepProven,
    StepRecorded,
    WitnessShard,
)
from schemas.ranges import ITEM_CAPS
from schemas.text import UNPRINTABLE, brief, one_line
from tests.support.events import SAMPLES, sample
from zk_autograd.errors import DecodeError, UsageError

CAP = 900_000
LARGEST = (1 << 63) - 1
DICT = {"name": "a", "value": 1.0}
GROUP = {"hyper": [], "max_lr": 0.5, "schedule_kind": "OPEN", "schedule": []}
BLOCK = {"group": 0, "shards": 1, "scale_w": 20, "scale_g": 14, "guard": 2, "clip": 9}


def group(**changes: Any) -> Group:
    return replace(Group((), 0.5, ScheduleKind.OPEN, ()), **changes)


def block(**changes: Any) -> Block:
    return replace(Block(**BLOCK), **changes)


def _part(value: Any) -> Any:
    """What stands for a dictionary of the wire in Python."""
    if not isinstance(value, dict):
        return value
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
    return Block(**fields) if "clip" in value else Group(**fields | {"schedule_kind": ScheduleKind.OPEN})


OUT_OF_RANGE: list[tuple[type[Event], str, list[Any]]] = [
    (EnclaveAttested, "issued_ms", [-1]),
    (RunStarted, "name", ["", "x" * 129, "a\nb", "a\x00", "\x1b[31mred", "a\u202eb", "\u200b", "\ufeff", "\x85"]),
    (RunStarted, "optimizer", ["", "x" * 33, "Adam", "a b", "adam\n", "ädam"]),
    (RunStarted, "proof_system", ["", "x" * 33, "EZKL", "ezkl\n", "ez/kl"]),
    (
        RunStarted,
        "groups",
        [[], [GROUP | {"max_lr": 0.0}], [GROUP | {"max_lr": -1e-9}], [GROUP | {"schedule": [-0.1]}]],
    ),
    (
        RunStarted,
        "blocks",
        [
            [],
            *([BLOCK | {name: bad}] for name in ("scale_w", "scale_g", "guard") for bad in (-1, 63)),
            *([BLOCK | {"clip": bad}] for bad in (0, -1)),
            *([BLOCK | {"shards": bad}] for bad in (0, (1 << 20) + 1)),
            *([BLOCK | {"group": bad}] for bad in (-1, 16)),
        ],
    ),
    (RunStarted, "sampled", [-1, (1 << 20) + 1]),
    (RunStarted, "beacon", ["x" * 257, "a\nb"]),
    (RunStarted, "window", [-1]),
    (RunStarted, "epoch_steps", [-1]),
    (RunStarted, "max_rounding", [-0.1, 1.1]),
    (RunStarted, "shard_size", [0, -5]),
    (RunStarted, "shards", [0, -1, (1 << 20) + 1]),
    (StepCommitted, "step", [0, -1]),
    (StepCommitted, "rates", [[], [-0.1]]),
    (StepCommitted, "shifts", [[9], [-9]]),
    (StepCommitted, "rounding", [-0.1, 1.1]),
    (StepCommitted, "saturated", [-1]),
    (StepCommitted, "underflow", [-1]),
    (StepCommitted, "limited", [-1]),
    (RunFinished, "steps", [-1]),
    (WitnessShard, "step", [0]),
    (WitnessShard, "shard", [-1, 1 << 20]),
    (ProofAttached, "step", [0]),
    (ProofAttached, "shard", [-1, 1 << 20]),
    (ProofAttached, "proof_system", ["", "EZKL"]),
    (ProofClaimed, "step", [0]),
    (ProofClaimed, "shard", [-1, 1 << 20]),
    (StepRecorded, "step", [0]),
    (StepProven, "step", [0]),
    (EpochClosed, "epoch", [0]),
    (EpochClosed, "first_step", [0]),
    (EpochClosed, "last_step", [0]),
    (RunClosed, "steps", [-1]),
    (CheckpointIssued, "note", ["", "x" * 60_001, "\u20ac" * 20_001, "a\r\nb", "a\tb"]),
    (Anchored, "anchor", ["", "x" * 257, "file:///a\nb"]),
    (Anchored, "counter", [-1]),
    (Anchored, "size", [-1]),
    (DeadLetter, "source_topic", ["", "x" * 250, "a/b", "a\n"]),
    (DeadLetter, "partition", [-1]),
    (DeadLetter, "offset", [-1]),
    (DeadLetter, "role", ["", "LEDGER", "x" * 33]),
    (DeadLetter, "reason", ["", "x" * 1025, "two\nlines"]),
    (DeadLetter, "value", [bytes(65537)]),
]

HYPERS: dict[str, list[dict[str, Any]]] = {
    "unsorted": [DICT | {"name": "b"}, DICT],
    "twice": [DICT, DICT],
    "an empty name": [DICT | {"name": ""}],
    "a long name": [DICT | {"name": "x" * 129}],
    "a name of two lines": [DICT | {"name": "a\nb"}],
}

IN_RANGE: list[tuple[type[Event], str, list[Any]]] = [
    (RunStarted, "name", ["x", "x" * 128, "Läufe 走る 🏃", " "]),
    (RunStarted, "optimizer", ["x" * 32, "sgd-momentum_2.0"]),
    (RunStarted, "groups", [(group(max_lr=lr),) for lr in (5e-324, 1.7e308)]),
    (RunStarted, "groups", [(group(hyper=h),) for h in ((), (Hyper("A", 0.0), Hyper("Z", -1.0), Hyper("a", 5.0)))]),
    (RunStarted, "groups", [(group(schedule=s),) * 16 for s in ((), (0.0,) * ITEM_CAPS["schedule"])]),
    (RunStarted, "blocks", [(block(scale_w=w),) * 1024 for w in (0, 62)]),
    (RunStarted, "blocks", [(block(clip=c),) for c in (1, (1 << 31) - 1)]),
    (RunStarted, "beacon", ["", "x" * 256]),
    (RunStarted, "max_rounding", [0.0, 1.0]),
    (RunStarted, "shards", [1, 1 << 20]),
    (StepCommitted, "step", [1, LARGEST]),
    (StepCommitted, "rates", [(0.0,), (0.1,) * 16]),
    (StepCommitted, "shifts", [(), (8, -8)]),
    (StepCommitted, "public", [(), (-LARGEST - 1, LARGEST), (0,) * 8192]),
    (StepCommitted, "saturated", [0, LARGEST]),
    (WitnessShard, "shard", [0, (1 << 20) - 1]),
    (WitnessShard, "pre_path", [(), (bytes(32),) * 20]),
    (WitnessShard, "carry", [(), (bytes(64),) * 2]),
    (WitnessShard, "carry_in_path", [(), (bytes(32),) * 20]),
    (WitnessShard, "ciphertext", [b""]),
    (CheckpointIssued, "note", ["\n", "x" * 60_000, "\u20ac" * 20_000]),
    (Anchored, "anchor", ["x" * 256]),
    (DeadLetter, "reason", ["x" * 1024]),
    (DeadLetter, "value", [b"", bytes(65536)]),
]

NO_SUCH_TYPE: list[tuple[type[Event], str, Any]] = [
    *((RunStarted, "groups", (group(max_lr=lr),)) for lr in (1, np.float64(0.5), math.nan, math.inf)),
    (RunStarted, "srs_class", "DEV"),
    (RunStarted, "groups", [group()]),
    (RunStarted, "groups", (SAMPLES[RunStarted],)),
    (RunStarted, "groups", (group(schedule_kind=SrsClass.DEV),)),
    (RunStarted, "groups", (group(hyper=[Hyper("a", 1.0)]),)),
    (RunStarted, "groups", (group(hyper=(("a", 1.0),)),)),
    (RunStarted, "groups", (group(hyper=(Hyper("a", 1),)),)),
    (RunStarted, "groups", (group(hyper=(Hyper("a", math.nan),)),)),
    (RunStarted, "groups", (group(hyper=tuple(Hyper(f"{n:02}", 1.0) for n in range(17))),)),
    (RunStarted, "blocks", (block(shards=True),)),
    (RunStarted, "max_rounding", 1),
    (RunStarted, "name", "lone \ud800 surrogate"),
    (RunStarted, "blocks", (block(clip=1 << 31),)),
    (RunStarted, "state_root", "00" * 16),
    (StepCommitted, "step", True),
    (StepCommitted, "step", 1.0),
    (StepCommitted, "step", np.int64(1)),
    (StepCommitted, "step", 1 << 63),
    (StepCommitted, "step", 10**5000),
    (StepCommitted, "public", [1, 2]),
    (StepCommitted, "public", (1, 2.0)),
    (StepCommitted, "public", (1 << 63,)),
    (StepCommitted, "public", (0,) * 8193),
    (StepCommitted, "run_id", bytes(31)),
    (StepCommitted, "run_id", bytearray(32)),
    (WitnessShard, "pre", bytes(32)),
    (WitnessShard, "pre_path", (bytes(31),)),
    (WitnessShard, "carry", (bytes(63),)),
    (WitnessShard, "carry", (bytes(64),) * 3),
    (WitnessShard, "ciphertext", None),
]


def cases(table: list[tuple[type[Event], str, list[Any]]]) -> list[Any]:
    return [
        pytest.param(kind, field, value, id=f"{kind.__name__}.{field}-{n}")
        for kind, field, values in table
        for n, value in enumerate(values)
    ]


def sent_unchecked(kind: type[Event], field: str, value: Any) -> bytes:
    """The bytes that a writer without our checks would send."""
    out = io.BytesIO()
    out.write(SCHEMAS[kind].header)
    schemaless_writer(out, SCHEMAS[kind].parsed, dataclasses.asdict(SAMPLES[kind]) | {field: value})
    return out.getvalue()


@pytest.mark.parametrize(("kind", "field", "value"), cases(OUT_OF_RANGE))
def test_a_value_out_of_range_is_refused_on_both_ways(kind: type[Event], field: str, value: Any) -> None:
    python = tuple(map(_part, value)) if isinstance(value, list) else value
    with pytest.raises(UsageError, match=rf"{kind.__name__}\.{field}: expected .*, got "):
        encode(sample(kind, **{field: python}))
    with pytest.raises(DecodeError, match=rf"{kind.__name__}\.{field}: expected .*, got "):
        decode(sent_unchecked(kind, field, value), {kind}, CAP)


@pytest.mark.parametrize("hyper", HYPERS.values(), ids=HYPERS)
def test_hyper_parameters_that_are_not_one_sorted_set_are_refused_on_both_ways(hyper: list[dict[str, Any]]) -> None:
    with pytest.raises(UsageError, match="sorted by name"):
        encode(sample(RunStarted, groups=(group(hyper=tuple(Hyper(**h) for h in hyper)),)))
    with pytest.raises(DecodeError, match="sorted by name"):
        decode(sent_unchecked(RunStarted, "groups", [GROUP | {"hyper": hyper}]), {RunStarted}, CAP)


@pytest.mark.parametrize(("kind", "field", "value"), cases(IN_RANGE))
def test_a_value_at_the_edge_of_its_range_passes(kind: type[Event], field: str, value: Any) -> None:
    event = sample(kind, **{field: value})
    assert decode(encode(event), {kind}, CAP) == event


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [pytest.param(*case, id=f"{case[0].__name__}.{case[1]}-{n}") for n, case in enumerate(NO_SUCH_TYPE)],
)
def test_a_value_of_another_type_is_never_written(kind: type[Event], field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"{kind.__name__}\.{field}: expected .*, got ") as caught:
        encode(sample(kind, **{field: value}))
    assert len(str(caught.value)) < 400


@given(st.one_of(st.binary(), st.text(st.characters()), st.integers(), st.floats(), st.lists(st.none())))
def test_any_value_is_quoted_in_a_few_ascii_characters(value: object) -> None:
    assert len(brief(value)) < 300
    assert brief(value).isascii()
    assert not UNPRINTABLE.search(brief(value))


def test_a_huge_value_is_quoted_in_a_few_characters_too() -> None:
    for value in (bytes(10**6), "\U0001f600" * 10**6, 10**10_000, [0] * 10**6):
        assert len(brief(value)) < 400


@settings(max_examples=200)
@given(st.text(st.characters(), max_size=1500))
def test_any_text_can_be_made_a_dead_letters_reason(text: str) -> None:
    letter = sample(DeadLetter, reason=one_line(text, 1024))
    assert decode(encode(letter), {DeadLetter}, CAP) == letter


def test_a_reason_that_is_fine_stays_as_it_is() -> None:
    assert one_line("expected 3, got 4: Läufe", 1024) == "expected 3, got 4: Läufe"
