"""What a field may hold: one rule each, the same for writing and for reading.

The rules look at one field at a time. What fields mean together, and to other events, is for who folds the events.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from schemas.events import (
    Anchored,
    Block,
    CheckpointIssued,
    DeadLetter,
    EnclaveAttested,
    EpochClosed,
    EvidenceClass,
    Group,
    Hyper,
    Message,
    ProofAttached,
    ProofClaimed,
    Role,
    RunClosed,
    RunFinished,
    RunOpened,
    RunStarted,
    ScheduleKind,
    Signed,
    SrsClass,
    StepCommitted,
    StepProven,
    StepRecorded,
    WitnessShard,
)
from schemas.text import UNPRINTABLE, brief
from zk_autograd.errors import ZkAutogradError

MAX_INT = (1 << 31) - 1
MAX_LONG = (1 << 63) - 1
MAX_PATH = 20
"""Nodes of an inclusion path among a step's shards."""

MAX_SHARDS = 1 << MAX_PATH
MAX_DEAD_VALUE = 64 << 10
"""Bytes of a record that a dead letter still carries."""

ITEM_CAPS: Mapping[str, int] = {
    "groups": 16,
    "hyper": 16,
    "schedule": 4096,
    "blocks": 1024,
    "rates": 16,
    "shifts": 1024,
    "public": 8192,
    "pre_path": MAX_PATH,
    "post_path": MAX_PATH,
    "work_path": MAX_PATH,
    "carry": 2,
    "carry_in_path": MAX_PATH,
    "carry_out_path": MAX_PATH,
}
"""Largest number of items of every array field."""


@dataclass(frozen=True, slots=True)
class Rule:
    """``holds(value)`` says whether ``value`` is ``expected``; it never raises, whatever it is given."""

    expected: str
    holds: Callable[[object], bool]


def _integers(low: int, high: int = MAX_LONG) -> Rule:
    def holds(value: object) -> bool:
        return type(value) is int and low <= value <= high

    return Rule(f"an int of {low} to {high}", holds)


def _octets(low: int, high: int | None = None) -> Rule:
    """``low`` to ``high`` bytes; without ``high`` the topic's size cap is the limit."""

    def holds(value: object) -> bool:
        return type(value) is bytes and low <= len(value) and (high is None or len(value) <= high)

    return Rule(f"{low} bytes" if low == high else f"{low} to {high or 'any number of'} bytes", holds)


def _text(limit: int, low: int = 1) -> Rule:
    def holds(value: object) -> bool:
        return type(value) is str and low <= len(value) <= limit and not UNPRINTABLE.search(value)

    return Rule(f"{low} to {limit} printable characters", holds)


def _word(limit: int, alphabet: str) -> Rule:
    pattern = re.compile(f"[{alphabet}]{{1,{limit}}}")

    def holds(value: object) -> bool:
        return type(value) is str and pattern.fullmatch(value) is not None

    return Rule(f"1 to {limit} characters of [{alphabet}]", holds)


NOTE_CAP = 60_000
"""Largest checkpoint, in bytes: the notes of :mod:`ledger.note`."""


def _note_holds(value: object) -> bool:
    if type(value) is not str or not 1 <= len(value) <= NOTE_CAP or UNPRINTABLE.search(value.replace("\n", "")):
        return False
    return len(value.encode()) <= NOTE_CAP


def _one_of(kind: type[Role] | type[EvidenceClass] | type[ScheduleKind] | type[SrsClass]) -> Rule:
    return Rule(f"one of {kind.__name__}.{', .'.join(kind)}", lambda value: type(value) is kind)


def _reals(low: float = -math.inf, above: float = -math.inf, high: float = math.inf) -> Rule:
    def holds(value: object) -> bool:
        return type(value) is float and math.isfinite(value) and low <= value <= high and value > above

    if high < math.inf:
        return Rule(f"a float of {low} to {high}", holds)
    limit = f", at least {low}" if low > -math.inf else f", above {above}" if above > -math.inf else ""
    return Rule(f"a finite float{limit}", holds)


def _items(field: str, item: Rule, low: int = 0) -> Rule:
    cap = ITEM_CAPS[field]

    def holds(value: object) -> bool:
        return type(value) is tuple and low <= len(value) <= cap and all(map(item.holds, value))

    return Rule(f"a tuple of {low} to {cap} items, each {item.expected}", holds)


def _record(kind: type[Group] | type[Block], rules: Mapping[str, Rule]) -> Rule:
    """A part of an event: every field keeps its rule."""

    def holds(value: object) -> bool:
        return type(value) is kind and all(rule.holds(getattr(value, name)) for name, rule in rules.items())

    fields = "; ".join(f"{name}: {rule.expected}" for name, rule in rules.items())
    return Rule(f"a {kind.__name__} ({fields})", holds)


ID = _octets(32, 32)
POINT = _octets(64, 64)
COUNT = _integers(0)
STEP = _integers(1)
SHARD = _integers(0, MAX_SHARDS - 1)
INDEX = _integers(0, MAX_INT)
BITS = _integers(0, 62)
NAME = _text(128)
TOKEN = _word(32, "a-z0-9._-")
BLOB = _octets(0)
RATE = _reals(low=0.0)
PUBLIC = _items("public", _integers(-MAX_LONG - 1))
_VALUE = _reals()


def _hyper_holds(value: object) -> bool:
    if type(value) is not tuple or len(value) > ITEM_CAPS["hyper"]:
        return False
    if not all(type(h) is Hyper and NAME.holds(h.name) and _VALUE.holds(h.value) for h in value):
        return False
    names = [h.name for h in value]
    return names == sorted(set(names))


HYPER = Rule(
    f"a tuple of at most {ITEM_CAPS['hyper']} Hyper sorted by name, each once: {NAME.expected} and {_VALUE.expected}",
    _hyper_holds,
)

FRACTION = _reals(low=0.0, high=1.0)

GROUP = _record(
    Group,
    {
        "hyper": HYPER,
        "max_lr": _reals(above=0.0),
        "schedule_kind": _one_of(ScheduleKind),
        "schedule": _items("schedule", RATE),
    },
)
BLOCK = _record(
    Block,
    {
        "group": _integers(0, ITEM_CAPS["groups"] - 1),
        "shards": _integers(1, MAX_SHARDS),
        "scale_w": BITS,
        "scale_g": BITS,
        "guard": BITS,
        "clip": _integers(1, MAX_INT),
    },
)

_PATHS = {f"{column}_path": _items(f"{column}_path", ID) for column in ("pre", "post", "work")}
_CARRY_PATHS = {f"carry_{side}_path": _items(f"carry_{side}_path", ID) for side in ("in", "out")}


RULES: Mapping[type[Message], Mapping[str, Rule]] = {
    Signed: {"body": _octets(1), "key_id": ID, "signature": _octets(64, 64)},
    EnclaveAttested: {
        "role": _one_of(Role),
        "public_key": _octets(32, 32),
        "evidence_class": _one_of(EvidenceClass),
        "evidence": BLOB,
        "issued_ms": COUNT,
    },
    RunStarted: {
        "name": NAME,
        "nonce": ID,
        "trainer_key_id": ID,
        "optimizer": TOKEN,
        "groups": _items("groups", GROUP, low=1),
        "blocks": _items("blocks", BLOCK, low=1),
        "proof_system": TOKEN,
        "circuit_id": ID,
        "srs_id": ID,
        "srs_class": _one_of(SrsClass),
        "shard_size": _integers(1, MAX_INT),
        "shards": _integers(1, MAX_SHARDS),
        "sampled": _integers(0, MAX_SHARDS),
        "beacon": _text(256, low=0),
        "window": _integers(0, MAX_INT),
        "epoch_steps": _integers(0, MAX_INT),
        "max_rounding": FRACTION,
        "state_root": ID,
        "data_key_id": ID,
    },
    StepCommitted: {
        "run_id": ID,
        "step": STEP,
        "previous": ID,
        "rates": _items("rates", RATE, low=1),
        "shifts": _items("shifts", _integers(-8, 8)),
        "public": PUBLIC,
        "state_root": ID,
        "work_root": ID,
        "saturated": COUNT,
        "underflow": COUNT,
        "limited": COUNT,
        "rounding": FRACTION,
        "carry_root": ID,
    },
    RunFinished: {"run_id": ID, "previous": ID, "steps": COUNT, "state_root": ID},
    WitnessShard: {
        "run_id": ID,
        "step": STEP,
        "shard": SHARD,
        "circuit_id": ID,
        "public": PUBLIC,
        "pre": POINT,
        "post": POINT,
        "work": POINT,
        **_PATHS,
        "ciphertext": BLOB,
        "carry": _items("carry", POINT),
        **_CARRY_PATHS,
    },
    ProofAttached: {
        "run_id": ID,
        "step": STEP,
        "shard": SHARD,
        "proof_system": TOKEN,
        "circuit_id": ID,
        "proof": BLOB,
        **_PATHS,
        **_CARRY_PATHS,
    },
    ProofClaimed: {"run_id": ID, "step": STEP, "shard": SHARD, "proof": ID, "replaces": ID},
    RunOpened: {"run_id": ID},
    StepRecorded: {"run_id": ID, "step": STEP, "event_id": ID},
    StepProven: {
        "run_id": ID,
        "step": STEP,
        "event_id": ID,
        "proofs_digest": ID,
        "challenge": ID,
        "state_root": ID,
        "work_root": ID,
    },
    EpochClosed: {
        "run_id": ID,
        "epoch": STEP,
        "first_step": STEP,
        "last_step": STEP,
        "before": ID,
        "after": ID,
        "last_event": ID,
        "entries_root": ID,
    },
    RunClosed: {"run_id": ID, "event_id": ID, "steps": COUNT},
    CheckpointIssued: {"note": Rule(f"1 to {NOTE_CAP} bytes of printable UTF-8 text with line feeds", _note_holds)},
    Anchored: {
        "anchor": _text(256),
        "counter": COUNT,
        "size": COUNT,
        "root": ID,
        "checkpoint_id": ID,
        "receipt": BLOB,
    },
    DeadLetter: {
        "source_topic": _word(249, "A-Za-z0-9._-"),
        "partition": INDEX,
        "offset": COUNT,
        "role": TOKEN,
        "reason": _text(1024),
        "digest": ID,
        "value": _octets(0, MAX_DEAD_VALUE),
    },
}


def check(event: Message, error: type[ZkAutogradError]) -> None:
    """Hold every field of ``event`` to its rule; raises ``error`` naming the first that breaks it."""
    for field, rule in RULES[type(event)].items():
        value = getattr(event, field)
        if not rule.holds(value):
            raise error(f"{type(event).__name__}.{field}: expected {rule.expected}, got {brief(value)}")
