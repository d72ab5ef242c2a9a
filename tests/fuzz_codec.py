"""Throws mutated events and envelopes at the strict codec and at the three ways to open an envelope.

    python -m tests.fuzz_codec --count 1000000 --seed 1

Only DecodeError and VerificationError may come out, no input may take over 100 ms of processor time, and whatever is
taken must be what was honestly made: the canonical encoding, and for signed envelopes the very body that was signed
for that topic. A case depends on the seed and its number only: ``--only N`` runs one again.
"""

from __future__ import annotations

import argparse
import random
import resource
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

from schemas.avro import BY_HEADER
from schemas.codec import decode, encode
from schemas.events import DeadLetter, Event, Message, ProofAttached, RunStarted, Signed, WitnessShard
from schemas.signing import decode_unverified, open_introduction, open_signed, seal, signed_message
from schemas.topics import TOPICS
from tests.support.events import SAMPLES, TOPIC_OF, KeySigner, declared, sample
from zk_autograd.errors import DecodeError, VerificationError

CAP = 900_000
TIME_LIMIT = 0.1
"""Seconds of processor time for one input (wall time would measure the machine's other work)."""

MESSAGES: tuple[type[Message], ...] = get_args(Message)
SIGNER = KeySigner()
KEYS = {SIGNER.key_id: SIGNER.public_key}

LARGE: tuple[Event, ...] = (
    sample(WitnessShard, ciphertext=bytes(890_000)),
    declared(SAMPLES[RunStarted], schedule=(0.25,) * 4096),  # type: ignore[arg-type]
    sample(ProofAttached, proof=bytes(60_000)),
    sample(DeadLetter, value=bytes(65_536)),
)
SMALL: tuple[Event, ...] = tuple(SAMPLES.values())

_VARINTS = (
    b"\x00", b"\x01", b"\x02", b"\x7f", b"\x80\x00", b"\xff\x7f", b"\xfe\xff\xff\xff\x0f", b"\xff\xff\xff\xff\x0f",
    b"\x80\x80\x80\x80\x10",
    b"\xfe" + b"\xff" * 8 + b"\x01", b"\xff" * 9 + b"\x01", b"\xff" * 9 + b"\x7f", b"\x80" * 12,
)  # fmt: skip
_DOUBLES = tuple(struct.pack("<d", x) for x in (float("nan"), float("inf"), -float("inf"), -0.0, 5e-324, -1.0))
_TEXTS = (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\x00", b"\n", b"\xe2\x80\xae", b"\xf0\x9f\x98\x80")
_HEADERS = tuple(BY_HEADER)

Mutator = Callable[[random.Random, bytes, bytes], bytes]


def _at(rng: random.Random, data: bytes) -> int:
    return rng.randrange(len(data) + 1)


def _flip(rng: random.Random, data: bytes, donor: bytes) -> bytes:
    at = min(_at(rng, data), len(data) - 1)
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def _overwrite(rng: random.Random, data: bytes, donor: bytes) -> bytes:
    at = _at(rng, data)
    piece = rng.choice(rng.choice((_VARINTS, _DOUBLES, _TEXTS)))
    return data[:at] + piece + data[at + (len(piece) if rng.random() < 0.5 else 1) :]


def _insert(rng: random.Random, data: bytes, donor: bytes) -> bytes:
    at = _at(rng, data)
    piece = rng.randbytes(rng.randrange(1, 9)) if rng.random() < 0.5 else rng.choice(_VARINTS)
    return data[:at] + piece + data[at:]


def _delete(rng: random.Random, data: bytes, donor: bytes) -> bytes:
    at = _at(rng, data)
    return data[:at] + data[at + rng.choice((1, 2, 8, 32, 64)) :]


def _repeat(rng: random.Random, data: bytes, donor: bytes) -> bytes:
    at = _at(rng, data)
    return data[:at] + data[at : at + rng.choice((1, 8, 32, 64))] * rng.choice((2, 3, 50)) + data[at:]


def _truncate(rng: random.Random, data: bytes, donor: bytes) -> bytes:
    return data[: _at(rng, data)]


def _append(rng: random.Random, data: bytes, donor: bytes) -> bytes:
    return data + rng.randbytes(rng.choice((1, 10, 1000)))


def _splice(rng: random.Random, data: bytes, donor: bytes) -> bytes:
    return data[: _at(rng, data)] + donor[_at(rng, donor) :]


def _rehead(rng: random.Random, data: bytes, donor: bytes) -> bytes:
    return rng.choice(_HEADERS) + data[10:]


def _fill(rng: random.Random, data: bytes, donor: bytes) -> bytes:
    at = _at(rng, data)
    return data[:at] + rng.choice((b"\x00", b"\x7f", b"\x80", b"\xff")) * rng.choice((3, 100, 20_000)) + data[at:]


_MUTATORS: tuple[Mutator, ...] = (
    _flip, _flip, _overwrite, _overwrite, _insert, _delete, _repeat, _truncate, _append, _splice, _rehead, _fill,
)  # fmt: skip


def mutate(rng: random.Random, data: bytes, donor: bytes) -> bytes:
    """``data`` after one to four random mutations; ``donor`` is another message to splice with."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        if data:
            data = rng.choice(_MUTATORS)(rng, data, donor)
    return data


@dataclass(frozen=True)
class Case:
    """One input: which door it knocks at, and with what; ``signed_body`` was signed for this case alone."""

    door: str
    topic: str
    value: bytes
    signed_body: bytes = b""


_BODIES = tuple((TOPIC_OF[type(event)], encode(event)) for event in SMALL)
_VALUES = tuple(
    (topic, seal(topic, event, SIGNER), encode(event))
    for topic, event in zip((t for t, _ in _BODIES), SMALL, strict=True)
)
_LARGE_VALUES = tuple((TOPIC_OF[type(e)], seal(TOPIC_OF[type(e)], e, SIGNER), encode(e)) for e in LARGE)

_HONEST = frozenset((topic, body) for topic, _, body in (*_VALUES, *_LARGE_VALUES))
"""Every body that was signed, with its topic: a mutation may well end at another honest envelope."""


def make_case(seed: int, number: int) -> Case:
    """Case ``number`` of the campaign ``seed``."""
    rng = random.Random((seed << 40) + number)
    kind = rng.random()
    if kind < 0.01:
        topic, value, body = rng.choice(_LARGE_VALUES)
        door = rng.choice(("bare", "signed"))
        return Case(door, topic, mutate(rng, value if door == "signed" else body, value))
    if kind < 0.55:
        topic, body = rng.choice(_BODIES)
        return Case("bare", topic, mutate(rng, body, rng.choice(_BODIES)[1]))
    topic, value, body = rng.choice(_VALUES)
    donor = rng.choice(_VALUES)[1]
    if kind < 0.8:
        return Case("signed", rng.choice((topic, topic, *TOPICS)), mutate(rng, value, donor))
    if kind < 0.9:
        return Case(rng.choice(("unverified", "introduction")), topic, mutate(rng, value, donor))
    # A dishonest holder of a known key: the signature holds, the body is hostile.
    hostile = mutate(rng, body, rng.choice(_BODIES)[1]) or b"\0"
    sealed = encode(Signed(hostile, SIGNER.key_id, SIGNER.sign(signed_message(topic, hostile))))
    return Case("signed", topic, sealed, hostile)


def examine(case: Case) -> str:
    """Knock. Returns how it ended; raises AssertionError for a wrong admission, and whatever else comes out."""
    try:
        if case.door == "bare":
            event: Message = decode(case.value, MESSAGES, CAP)
            assert encode(event) == case.value, "taken, but not canonical"
        elif case.door == "signed":
            opened = open_signed(case.topic, case.value, KEYS)
            signed = opened.body == case.signed_body or (case.topic, opened.body) in _HONEST
            assert signed, "taken, but never signed for this topic"
            assert encode(opened.event) == opened.body, "taken, but not canonical"
            assert type(opened.event) in TOPICS[case.topic].events, "taken, but not of this topic"
        elif case.door == "unverified":
            assert encode(decode_unverified(case.topic, case.value).event) in case.value, "taken, but not canonical"
        else:
            assert open_introduction(case.topic, case.value).event.public_key == SIGNER.public_key, "taken, but forged"
    except (DecodeError, VerificationError) as error:
        refusal = error
    else:
        return "taken"
    assert len(str(refusal)) < 600, "the message dumps the input"
    return type(refusal).__name__


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz_codec", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("--count", type=int, default=1_000_000, help="number of inputs (default: 1000000)")
    parser.add_argument("--seed", type=int, default=1, help="which campaign (default: 1)")
    parser.add_argument("--only", type=int, help="run this one case, show it, and let its error out")
    options = parser.parse_args(arguments)
    if options.only is not None:
        case = make_case(options.seed, options.only)
        print(f"{case.door} {case.topic} {len(case.value)} bytes: {case.value[:200].hex()}")
        print(examine(case))
        return 0
    return campaign(options.seed, options.count)


def campaign(seed: int, count: int) -> int:
    """Run ``count`` cases; prints progress and figures; 1 if any case failed, else 0."""
    outcomes: Counter[str] = Counter()
    failures: list[str] = []
    slowest, slowest_number, largest = 0.0, 0, 0
    base_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    for number in range(count):
        case = make_case(seed, number)
        largest = max(largest, len(case.value))
        start = time.thread_time()
        try:
            outcome = examine(case)
        except Exception as error:
            outcome = "FAILED"
            failures.append(f"case {number}: {type(error).__name__}: {str(error)[:200]!a}")
        took = time.thread_time() - start
        outcomes[outcome] += 1
        if took > slowest:
            slowest, slowest_number = took, number
        if took > TIME_LIMIT:
            failures.append(f"case {number}: took {took * 1e3:.0f} ms, expected at most {TIME_LIMIT * 1e3:.0f}")
        if (number + 1) % 100_000 == 0:
            print(
                f"{number + 1} of {count}, {(number + 1) / (time.monotonic() - began):.0f}/s, {dict(outcomes)}",
                flush=True,
            )
        if len(failures) >= 20:
            break
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took_all = time.monotonic() - began
    print(
        f"{sum(outcomes.values())} inputs in {took_all:.0f} s, largest {largest} bytes: {dict(outcomes)}\n"
        f"slowest input {slowest * 1e3:.2f} ms (case {slowest_number}); "
        f"peak RSS {rss / 1024:.0f} MiB, of which {base_rss / 1024:.0f} before the first input"
    )
    for failure in failures:
        print(f"{failure}; again with --seed {seed} --only N", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
