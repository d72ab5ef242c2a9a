"""Events for tests: one fixed sample of each, hypothesis strategies for all, and a signer with a key in memory."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import strategies as st

from schemas.events import (
    Anchored,
    Block,
    CheckpointIssued,
    DeadLetter,
    EnclaveAttested,
    EpochClosed,
    Event,
    EvidenceClass,
    Group,
    Hyper,
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
from schemas.signing import key_id
from schemas.text import UNPRINTABLE
from schemas.topics import TOPICS

E = TypeVar("E", bound=Event)


class KeySigner:
    """Signs with a key made from ``seed``; equal seeds make equal keys."""

    def __init__(self, seed: str = "test") -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(seed.encode()).digest())
        self.public_key = self._key.public_key().public_bytes_raw()
        self.key_id = key_id(self.public_key)

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


def digest(label: str) -> bytes:
    """32 bytes that look like any id."""
    return hashlib.sha256(label.encode()).digest()


def point(label: str) -> bytes:
    """64 bytes that look like a commitment (they are no curve point)."""
    return digest(label + " x") + digest(label + " y")


_PATH = (digest("left"), digest("right"), digest("up"))
_NOTE = "log.example/run\n12\nl2qR0PZ5pIY0bKxF0Fhs7s4RBIfYF0BzR0t1r2b3c4U=\n\n\u2014 log.example/run wXyz\n"

SAMPLES: dict[type[Event], Event] = {
    type(event): event
    for event in (
        EnclaveAttested(Role.TRAINER, KeySigner().public_key, EvidenceClass.SIMULATED, b"evidence", 1_760_000_000_000),
        RunStarted(
            name="digits, first run",
            nonce=digest("nonce"),
            trainer_key_id=digest("trainer"),
            optimizer="adam",
            groups=(
                Group(
                    (Hyper("beta1", 0.9), Hyper("beta2", 0.999), Hyper("eps", 1e-8)),
                    0.01,
                    ScheduleKind.TABLE,
                    (0.01, 0.005, 0.0),
                ),
            ),
            blocks=(Block(0, 8, 21, 14, 4, 16382),),
            proof_system="ezkl",
            circuit_id=digest("circuit"),
            srs_id=digest("srs"),
            srs_class=SrsClass.DEV,
            shard_size=5320,
            shards=8,
            sampled=2,
            beacon="file:" + "0f" * 32,
            window=4,
            epoch_steps=100,
            max_rounding=0.25,
            state_root=digest("genesis"),
            data_key_id=digest("data key"),
        ),
        StepCommitted(
            run_id=digest("run"),
            step=1,
            previous=digest("run"),
            rates=(0.01,),
            shifts=(-8, 0, 8),
            public=(0, 65528, -1, 1 << 40, -(1 << 63), (1 << 63) - 1),
            state_root=digest("state 1"),
            work_root=digest("work 1"),
            saturated=3,
            underflow=1200,
            limited=0,
            rounding=0.125,
            carry_root=digest("carry 1"),
        ),
        RunFinished(digest("run"), digest("step 300"), 300, digest("state 300")),
        WitnessShard(
            run_id=digest("run"),
            step=1,
            shard=7,
            circuit_id=digest("circuit"),
            public=(0, 65528, 77),
            pre=point("pre"),
            post=point("post"),
            work=point("work"),
            pre_path=_PATH,
            post_path=_PATH,
            work_path=_PATH,
            ciphertext=digest("ciphertext") * 30,
            carry=(point("carry in"), point("carry out")),
            carry_in_path=_PATH,
            carry_out_path=_PATH,
        ),
        ProofAttached(
            run_id=digest("run"),
            step=1,
            shard=7,
            proof_system="ezkl",
            circuit_id=digest("circuit"),
            proof=digest("proof") * 178,
            pre_path=_PATH,
            post_path=_PATH,
            work_path=_PATH,
            carry_in_path=_PATH,
            carry_out_path=_PATH,
        ),
        ProofClaimed(digest("run"), 1, 3, digest("proof event"), digest("claim")),
        RunOpened(digest("run")),
        StepRecorded(digest("run"), 1, digest("step 1")),
        StepProven(
            digest("run"),
            1,
            digest("step 1"),
            digest("proofs 1"),
            digest("challenge 1"),
            digest("state 1"),
            digest("work 1"),
        ),
        EpochClosed(
            digest("run"),
            3,
            201,
            300,
            digest("state 200"),
            digest("state 300"),
            digest("step 300"),
            digest("entries"),
        ),
        RunClosed(digest("run"), digest("finished"), 300),
        CheckpointIssued(_NOTE),
        Anchored("file:///var/lib/anchor", 5, 12, digest("root"), digest("checkpoint"), b"receipt"),
        DeadLetter("zk.proofs", 3, 99, "ledger", "body: expected its end", digest("value"), b"value"),
    )
}


def sample(kind: type[E], **changes: Any) -> E:
    """The sample of ``kind`` with some fields changed, to whatever a test wants."""
    found: Any = SAMPLES[kind]  # type: ignore[index]
    changed: E = replace(found, **changes)
    return changed


def declared(start: RunStarted, **changes: Any) -> RunStarted:
    """``start`` with some fields of its first group or first block changed, or of its own."""
    group = {k: v for k, v in changes.items() if k in Group.__dataclass_fields__}
    block = {k: v for k, v in changes.items() if k in Block.__dataclass_fields__ and k != "shards"}
    own = {k: v for k, v in changes.items() if k not in group and k not in block}
    if group:
        own["groups"] = (replace(start.groups[0], **group), *start.groups[1:])
    if block:
        own["blocks"] = (replace(start.blocks[0], **block), *start.blocks[1:])
    return replace(start, **own)


SAMPLE_ENVELOPE = Signed(b"body", digest("key"), point("signature"))

TOPIC_OF: dict[type[Event], str] = {event: t.name for t in reversed(TOPICS.values()) for event in t.events}
"""The first that carries it."""

ids = st.binary(min_size=32, max_size=32)
points = st.binary(min_size=64, max_size=64)
counts = st.integers(0, (1 << 63) - 1)
steps = st.integers(1, (1 << 63) - 1)
shards = st.integers(0, (1 << 20) - 1)
rates = st.floats(0.0, sys.float_info.max)
paths = st.lists(ids, max_size=20).map(tuple)
publics = st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=32).map(tuple)
tokens = st.text("abcdefghijklmnopqrstuvwxyz0123456789._-", min_size=1, max_size=32)
_printable = st.characters(codec="utf-8").filter(lambda c: not UNPRINTABLE.search(c))


def texts(limit: int) -> st.SearchStrategy[str]:
    """1 to ``limit`` printable characters of any script."""
    return st.text(_printable, min_size=1, max_size=limit)


hypers = (
    st.lists(
        st.builds(Hyper, name=texts(128), value=st.floats(allow_nan=False, allow_infinity=False)),
        max_size=16,
        unique_by=lambda h: h.name,
    )
    .map(lambda found: sorted(found, key=lambda h: h.name))
    .map(tuple)
)

_groups = st.builds(
    Group,
    hyper=hypers,
    max_lr=st.floats(0.0, sys.float_info.max, exclude_min=True),
    schedule_kind=st.sampled_from(ScheduleKind),
    schedule=st.lists(rates, max_size=50).map(tuple),
)
_blocks = st.builds(
    Block,
    group=st.integers(0, 15),
    shards=st.integers(1, 1 << 20),
    scale_w=st.integers(0, 62),
    scale_g=st.integers(0, 62),
    guard=st.integers(0, 62),
    clip=st.integers(1, (1 << 31) - 1),
)

STRATEGIES: dict[type[Event], st.SearchStrategy[Event]] = {
    EnclaveAttested: st.builds(
        EnclaveAttested,
        role=st.sampled_from(Role),
        public_key=ids,
        evidence_class=st.sampled_from(EvidenceClass),
        evidence=st.binary(max_size=2000),
        issued_ms=counts,
    ),
    RunStarted: st.builds(
        RunStarted,
        name=texts(128),
        nonce=ids,
        trainer_key_id=ids,
        optimizer=tokens,
        groups=st.lists(_groups, min_size=1, max_size=3).map(tuple),
        blocks=st.lists(_blocks, min_size=1, max_size=5).map(tuple),
        proof_system=tokens,
        circuit_id=ids,
        srs_id=ids,
        srs_class=st.sampled_from(SrsClass),
        shard_size=st.integers(1, (1 << 31) - 1),
        shards=st.integers(1, 1 << 20),
        sampled=st.integers(0, 1 << 20),
        beacon=st.one_of(st.just(""), texts(256)),
        window=st.integers(0, (1 << 31) - 1),
        epoch_steps=st.integers(0, (1 << 31) - 1),
        max_rounding=st.floats(0.0, 1.0),
        state_root=ids,
        data_key_id=ids,
    ),
    StepCommitted: st.builds(
        StepCommitted,
        run_id=ids,
        step=steps,
        previous=ids,
        rates=st.lists(rates, min_size=1, max_size=4).map(tuple),
        shifts=st.lists(st.integers(-8, 8), max_size=5).map(tuple),
        public=publics,
        state_root=ids,
        work_root=ids,
        saturated=counts,
        underflow=counts,
        limited=counts,
        rounding=st.floats(0.0, 1.0),
        carry_root=ids,
    ),
    RunFinished: st.builds(RunFinished, run_id=ids, previous=ids, steps=counts, state_root=ids),
    WitnessShard: st.builds(
        WitnessShard,
        run_id=ids,
        step=steps,
        shard=shards,
        circuit_id=ids,
        public=publics,
        pre=points,
        post=points,
        work=points,
        pre_path=paths,
        post_path=paths,
        work_path=paths,
        ciphertext=st.binary(max_size=2000),
        carry=st.lists(points, max_size=2).map(tuple),
        carry_in_path=paths,
        carry_out_path=paths,
    ),
    ProofAttached: st.builds(
        ProofAttached,
        run_id=ids,
        step=steps,
        shard=shards,
        proof_system=tokens,
        circuit_id=ids,
        proof=st.binary(max_size=2000),
        pre_path=paths,
        post_path=paths,
        work_path=paths,
        carry_in_path=paths,
        carry_out_path=paths,
    ),
    ProofClaimed: st.builds(ProofClaimed, run_id=ids, step=steps, shard=shards, proof=ids, replaces=ids),
    RunOpened: st.builds(RunOpened, run_id=ids),
    StepRecorded: st.builds(StepRecorded, run_id=ids, step=steps, event_id=ids),
    StepProven: st.builds(
        StepProven,
        run_id=ids,
        step=steps,
        event_id=ids,
        proofs_digest=ids,
        challenge=ids,
        state_root=ids,
        work_root=ids,
    ),
    EpochClosed: st.builds(
        EpochClosed,
        run_id=ids,
        epoch=steps,
        first_step=steps,
        last_step=steps,
        before=ids,
        after=ids,
        last_event=ids,
        entries_root=ids,
    ),
    RunClosed: st.builds(RunClosed, run_id=ids, event_id=ids, steps=counts),
    CheckpointIssued: st.builds(
        CheckpointIssued, note=st.text(st.one_of(_printable, st.just("\n")), min_size=1, max_size=1000)
    ),
    Anchored: st.builds(
        Anchored,
        anchor=texts(256),
        counter=counts,
        size=counts,
        root=ids,
        checkpoint_id=ids,
        receipt=st.binary(max_size=2000),
    ),
    DeadLetter: st.builds(
        DeadLetter,
        source_topic=st.from_regex(r"[A-Za-z0-9._-]{1,249}", fullmatch=True),
        partition=st.integers(0, (1 << 31) - 1),
        offset=counts,
        role=tokens,
        reason=texts(1024),
        digest=ids,
        value=st.binary(max_size=2000),
    ),
}


def any_event() -> st.SearchStrategy[Event]:
    """Any event there is, every field within its range."""
    return st.sampled_from(list(STRATEGIES)).flatmap(STRATEGIES.__getitem__)
