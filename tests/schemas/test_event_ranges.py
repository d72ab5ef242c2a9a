"""What each field may hold; the same rule stands on the way out and on the way in."""

from __future__ import annotations

import dataclasses
import io
import math
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
    CheckpointIssued,
    DeadLetter,
    EnclaveAttested,
    Event,
    Hyper,
    ProofAttached,
    RunClosed,
    RunFinished,
    RunStarted,
    SrsClass,
    StepCommitted,
    StepProven,
    WitnessShard,
)
from schemas.ranges import ITEM_CAPS
from schemas.text import UNPRINTABLE, brief, one_line
from tests.support.events import SAMPLES, sample
from zk_autograd.errors import DecodeError, UsageError

CAP = 900_000
LARGEST = (1 << 63) - 1
DICT = {"name": "a", "value": 1.0}

OUT_OF_RANGE: list[tuple[type[Event], str, list[Any]]] = [
    (EnclaveAttested, "issued_ms", [-1]),
    (RunStarted, "name", ["", "x" * 129, "a\nb", "a\x00", "\x1b[31mred", "a\u202eb", "\u200b", "\ufeff", "\x85"]),
    (RunStarted, "optimizer", ["", "x" * 33, "Adam", "a b", "adam\n", "ädam"]),
    (RunStarted, "proof_system", ["", "x" * 33, "EZKL", "ezkl\n", "ez/kl"]),
    (RunStarted, "max_lr", [0.0, -0.0, -1e-9]),
    (RunStarted, "schedule", [[0.1, -0.1], [-5e-324]]),
    (RunStarted, "scale_w", [-1, 63]),
    (RunStarted, "scale_g", [-1, 63]),
    (RunStarted, "guard", [-1, 63]),
    (RunStarted, "clip", [0, -1]),
    (RunStarted, "shard_size", [0, -5]),
    (RunStarted, "shards", [0, -1, (1 << 20) + 1]),
    (StepCommitted, "step", [0, -1]),
    (StepCommitted, "lr", [-0.1]),
    (StepCommitted, "saturated", [-1]),
    (StepCommitted, "underflow", [-1]),
    (StepCommitted, "limited", [-1]),
    (RunFinished, "steps", [-1]),
    (WitnessShard, "step", [0]),
    (WitnessShard, "shard", [-1, 1 << 20]),
    (ProofAttached, "step", [0]),
    (ProofAttached, "shard", [-1, 1 << 20]),
    (ProofAttached, "proof_system", ["", "EZKL"]),
    (StepProven, "step", [0]),
    (RunClosed, "steps", [-1]),
    (CheckpointIssued, "note", ["", "x" * 4097, "\u20ac" * 1366, "a\r\nb", "a\tb"]),
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
    (RunStarted, "max_lr", [5e-324, 1.7e308]),
    (RunStarted, "hyper", [(), (Hyper("A", 0.0), Hyper("Z", -1.0), Hyper("a", 5.0))]),
    (RunStarted, "schedule", [(), (0.0,) * ITEM_CAPS["schedule"]]),
    (RunStarted, "scale_w", [0, 62]),
    (RunStarted, "clip", [1, (1 << 31) - 1]),
    (RunStarted, "shards", [1, 1 << 20]),
    (StepCommitted, "step", [1, LARGEST]),
    (StepCommitted, "lr", [0.0]),
    (StepCommitted, "public", [(), (-LARGEST - 1, LARGEST), (0,) * 32]),
    (StepCommitted, "saturated", [0, LARGEST]),
    (WitnessShard, "shard", [0, (1 << 20) - 1]),
    (WitnessShard, "pre_path", [(), (bytes(32),) * 20]),
    (WitnessShard, "ciphertext", [b""]),
    (CheckpointIssued, "note", ["\n", "x" * 4096, "\u20ac" * 1365]),
    (Anchored, "anchor", ["x" * 256]),
    (DeadLetter, "reason", ["x" * 1024]),
    (DeadLetter, "value", [b"", bytes(65536)]),
]

NO_SUCH_TYPE: list[tuple[type[Event], str, Any]] = [
    (RunStarted, "max_lr", 1),
    (RunStarted, "max_lr", np.float64(0.5)),
    (RunStarted, "max_lr", math.nan),
    (RunStarted, "max_lr", math.inf),
    (RunStarted, "srs_class", "DEV"),
    (RunStarted, "schedule_kind", SrsClass.DEV),
    (RunStarted, "hyper", [Hyper("a", 1.0)]),
    (RunStarted, "hyper", (("a", 1.0),)),
    (RunStarted, "hyper", (Hyper("a", 1),)),
    (RunStarted, "hyper", (Hyper("a", math.nan),)),
    (RunStarted, "hyper", tuple(Hyper(f"{n:02}", 1.0) for n in range(17))),
    (RunStarted, "name", "lone \ud800 surrogate"),
    (RunStarted, "clip", 1 << 31),
    (RunStarted, "state_root", "00" * 16),
    (StepCommitted, "step", True),
    (StepCommitted, "step", 1.0),
    (StepCommitted, "step", np.int64(1)),
    (StepCommitted, "step", 1 << 63),
    (StepCommitted, "step", 10**5000),
    (StepCommitted, "public", [1, 2]),
    (StepCommitted, "public", (1, 2.0)),
    (StepCommitted, "public", (1 << 63,)),
    (StepCommitted, "public", (0,) * 33),
    (StepCommitted, "run_id", bytes(31)),
    (StepCommitted, "run_id", bytearray(32)),
    (WitnessShard, "pre", bytes(32)),
    (WitnessShard, "pre_path", (bytes(31),)),
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
    python = tuple(value) if isinstance(value, list) else value
    with pytest.raises(UsageError, match=rf"{kind.__name__}\.{field}: expected .*, got "):
        encode(sample(kind, **{field: python}))
    with pytest.raises(DecodeError, match=rf"{kind.__name__}\.{field}: expected .*, got "):
        decode(sent_unchecked(kind, field, value), {kind}, CAP)


@pytest.mark.parametrize("hyper", HYPERS.values(), ids=HYPERS)
def test_hyper_parameters_that_are_not_one_sorted_set_are_refused_on_both_ways(hyper: list[dict[str, Any]]) -> None:
    with pytest.raises(UsageError, match="sorted by name"):
        encode(sample(RunStarted, hyper=tuple(Hyper(**h) for h in hyper)))
    with pytest.raises(DecodeError, match="sorted by name"):
        decode(sent_unchecked(RunStarted, "hyper", hyper), {RunStarted}, CAP)


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
