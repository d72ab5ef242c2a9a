"""Strict decoding: one test for each way in which bytes can be something other than one canonical event."""

from __future__ import annotations

import dataclasses
import io
import struct
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any, get_args

import pytest
from fastavro import schemaless_reader, schemaless_writer
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import codec
from schemas.avro import BY_HEADER, SCHEMAS
from schemas.codec import decode, encode
from schemas.events import (
    CheckpointIssued,
    EnclaveAttested,
    Event,
    Message,
    ProofAttached,
    RunFinished,
    RunOpened,
    RunStarted,
    Signed,
    StepCommitted,
    WitnessShard,
)
from schemas.ranges import ITEM_CAPS
from tests.support.events import SAMPLE_ENVELOPE, SAMPLES, STRATEGIES, any_event, sample
from zk_autograd.errors import DecodeError, UsageError

EVENTS = get_args(Event)
CAP = 900_000
ID = bytes(range(32))


def header(event: type[Message]) -> bytes:
    return SCHEMAS[event].header


def zigzag(value: int, pad: int = 0) -> bytes:
    """An Avro integer; ``pad`` bytes longer than it need be."""
    raw = (value << 1) ^ (value >> 63) if -(1 << 63) <= value < 1 << 63 else value << 1
    out = bytearray()
    while raw > 0x7F:
        out.append(raw & 0x7F | 0x80)
        raw >>= 7
    out.append(raw)
    for _ in range(pad):
        out[-1] |= 0x80
        out.append(0)
    return bytes(out)


def refusal(data: Any, *events: type[Event], cap: int = CAP) -> str:
    """The message with which ``decode`` refuses ``data``."""
    with pytest.raises(DecodeError) as caught:
        decode(data, events or EVENTS, cap)
    assert len(str(caught.value)) < 400
    return str(caught.value)


def write_unchecked(event: type[Message], values: dict[str, Any]) -> bytes:
    """What a writer without our checks would send."""
    out = io.BytesIO()
    out.write(header(event))
    schemaless_writer(out, SCHEMAS[event].parsed, values)
    return out.getvalue()


def plain(event: Message) -> dict[str, Any]:
    values: dict[str, Any] = dataclasses.asdict(event)
    return values


@pytest.mark.parametrize("event", SAMPLES.values(), ids=lambda e: type(e).__name__)
def test_a_sample_comes_back_as_it_went(event: Event) -> None:
    assert decode(encode(event), {type(event)}, CAP) == event


def test_an_envelope_comes_back_as_it_went() -> None:
    assert decode(encode(SAMPLE_ENVELOPE), (Signed,), CAP) == SAMPLE_ENVELOPE


@pytest.mark.parametrize("kind", STRATEGIES, ids=lambda k: k.__name__)
def test_every_event_comes_back_as_it_went(kind: type[Event]) -> None:
    @settings(max_examples=40, deadline=None)
    @given(STRATEGIES[kind])
    def holds(event: Event) -> None:
        data = encode(event)
        back = decode(data, {kind}, CAP)
        assert back == event
        assert type(back) is kind
        assert encode(back) == data

    holds()


WILD: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(),
    st.text(st.characters(), max_size=40),
    st.binary(max_size=70),
    st.lists(st.one_of(st.integers(), st.floats(), st.binary(max_size=33)), max_size=40),
    st.lists(st.one_of(st.integers(), st.floats(), st.binary(max_size=33)), max_size=40).map(tuple),
)


@settings(max_examples=400, deadline=None)
@given(any_event(), st.data())
def test_encode_refuses_exactly_what_decode_would(event: Event, data: st.DataObject) -> None:
    field = data.draw(st.sampled_from([f.name for f in dataclasses.fields(event)]))
    odd: Event = dataclasses.replace(event, **{field: data.draw(WILD)})
    try:
        encoded = encode(odd)
    except UsageError:
        return
    assert decode(encoded, EVENTS, CAP) == odd


def _kind(value: object) -> str:
    return type(value).__name__


@pytest.mark.parametrize("thing", [None, b"x", "RunOpened", 3, object(), RunOpened], ids=_kind)
def test_encode_takes_nothing_but_events(thing: Any) -> None:
    with pytest.raises(UsageError, match="expected an event"):
        encode(thing)


# Size and kind of the input


def test_the_cap_is_looked_at_before_the_bytes() -> None:
    data = encode(RunOpened(ID))
    assert decode(data, {RunOpened}, len(data)) == RunOpened(ID)
    assert "at most 41 bytes, got 42" in refusal(data, RunOpened, cap=len(data) - 1)
    assert "at most 100 bytes, got 1000000" in refusal(bytes(1_000_000), cap=100)


@pytest.mark.parametrize("data", [None, "text", bytearray(b"\xc3\x01"), memoryview(b"\xc3\x01"), 7, []], ids=_kind)
def test_only_bytes_are_decoded(data: Any) -> None:
    assert "expected bytes" in refusal(data)


# Header


@pytest.mark.parametrize("size", range(10))
def test_less_than_a_header_is_refused(size: int) -> None:
    assert "single-object" in refusal(encode(RunOpened(ID))[:size])


def test_a_fingerprint_of_no_schema_is_refused() -> None:
    data = encode(RunOpened(ID))
    for at in range(2, 10):
        assert "single-object" in refusal(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


def test_a_big_endian_fingerprint_is_refused() -> None:
    data = encode(RunOpened(ID))
    refusal(data[:2] + data[9:1:-1] + data[10:])


def test_another_version_of_the_marker_is_refused() -> None:
    refusal(b"\xc3\x02" + encode(RunOpened(ID))[2:])


def test_confluent_framing_is_refused() -> None:
    refusal(b"\x00\x00\x00\x00\x01" + encode(RunOpened(ID))[10:])


def test_an_event_that_may_not_come_here_is_refused_by_name() -> None:
    message = refusal(encode(RunOpened(ID)), RunFinished, StepCommitted)
    assert "encoding of RunFinished, StepCommitted, got RunOpened" in message
    assert "got Signed" in refusal(encode(SAMPLE_ENVELOPE))


def test_the_body_of_one_event_under_the_header_of_another_is_refused() -> None:
    refusal(header(RunFinished) + encode(RunOpened(ID))[10:])
    refusal(header(RunOpened) + encode(SAMPLES[RunFinished])[10:])


# Length


@pytest.mark.parametrize("event", SAMPLES.values(), ids=lambda e: type(e).__name__)
def test_one_byte_after_the_end_is_refused(event: Event) -> None:
    for byte in (b"\x00", b"\xff"):
        assert "1 bytes more" in refusal(encode(event) + byte)


@pytest.mark.parametrize("event", SAMPLES.values(), ids=lambda e: type(e).__name__)
def test_every_truncation_is_refused(event: Event) -> None:
    data = encode(event)
    for size in range(len(data)):
        refusal(data[:size])


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_fixed_field_of_another_length_is_refused(size: int) -> None:
    refusal(header(RunOpened) + bytes(size))


@pytest.mark.parametrize("length", [-1, -(1 << 63), 5, 1 << 31, 1 << 62, (1 << 63) - 1])
def test_a_length_that_is_negative_or_leaves_the_message_is_refused(length: int) -> None:
    assert f"got a length of {length}" in refusal(header(CheckpointIssued) + zigzag(length) + b"note")


# Integers


@pytest.mark.parametrize("pad", [1, 2, 8])
def test_an_integer_in_more_bytes_than_needed_is_refused(pad: int) -> None:
    def body(pad: int) -> bytes:
        return header(RunFinished) + ID + ID + zigzag(5, pad) + ID

    assert decode(body(0), {RunFinished}, CAP) == RunFinished(ID, ID, 5, ID)
    assert "shortest form" in refusal(body(pad))


def test_an_integer_that_does_not_end_is_refused() -> None:
    assert "does not end" in refusal(header(RunFinished) + ID + ID + b"\xff" * 100_000)
    assert "does not end" in refusal(header(RunFinished) + ID + ID + b"\x80")


def test_an_integer_of_more_than_64_bits_is_refused() -> None:
    largest = header(RunFinished) + ID + ID + zigzag((1 << 63) - 1) + ID
    assert decode(largest, {RunFinished}, CAP).steps == (1 << 63) - 1
    for last in (b"\x02", b"\x03", b"\x7f"):
        assert "64-bit" in refusal(header(RunFinished) + ID + ID + b"\xfe" + b"\xff" * 8 + last + ID)


@pytest.mark.parametrize("shard", [1 << 31, -(1 << 31) - 1, (1 << 32) + 7, 1 << 62])
def test_an_int_of_more_than_32_bits_is_refused(shard: int) -> None:
    values = plain(SAMPLES[ProofAttached]) | {"shard": 0}
    good = write_unchecked(ProofAttached, values)
    at = 10 + 32 + 1
    assert good[at] == 0
    assert "integer of 32 bits" in refusal(good[:at] + zigzag(shard) + good[at + 1 :])


@pytest.mark.parametrize("index", [-1, -2, -4, 4, 1 << 40, -(1 << 63)])
def test_an_enum_index_that_names_no_symbol_is_refused(index: int) -> None:
    good = encode(SAMPLES[EnclaveAttested])
    assert "enum index of 0 to 3" in refusal(good[:10] + zigzag(index) + good[11:])


# Arrays


def step_with(public: bytes, rate: bytes = struct.pack("<d", 0.5)) -> bytes:
    rates, no_shifts, rounding = zigzag(1) + rate + zigzag(0), zigzag(0), struct.pack("<d", 0.0)
    begin = header(StepCommitted) + ID + zigzag(1) + ID + rates + no_shifts + public
    return begin + ID + ID + zigzag(0) * 3 + rounding + ID


def test_the_hand_made_step_is_well_formed() -> None:
    event = decode(step_with(zigzag(2) + zigzag(7) + zigzag(8) + zigzag(0)), {StepCommitted}, CAP)
    assert (event.public, event.rates) == ((7, 8), (0.5,))


@pytest.mark.parametrize("count", [8193, 1 << 31, 1 << 62, (1 << 63) - 1])
def test_a_huge_count_is_refused_before_anything_is_allocated(count: int) -> None:
    assert f"at most 8192 items at byte 86, got {count}" in refusal(step_with(zigzag(count)))


@pytest.mark.parametrize("count", [-1, -2, -(1 << 62), -(1 << 63)])
def test_a_block_with_a_negative_count_and_its_size_is_refused(count: int) -> None:
    refusal(step_with(zigzag(count) + zigzag(1) + zigzag(7) + zigzag(0)))


def test_an_array_in_two_blocks_is_refused() -> None:
    assert "another block" in refusal(step_with((zigzag(1) + zigzag(7)) * 2 + zigzag(0)))


def test_fixed_items_beyond_the_end_are_refused() -> None:
    good = encode(sample(ProofAttached, carry_out_path=()))
    assert good[-1] == 0
    assert "got a length of 640" in refusal(good[:-1] + zigzag(20) + ID + zigzag(0))


@pytest.mark.parametrize("field", ITEM_CAPS)
def test_an_array_holds_as_many_items_as_its_cap_and_no_more(field: str) -> None:
    group = {"hyper": [], "max_lr": 0.5, "schedule_kind": "OPEN", "schedule": []}
    items: dict[str, Callable[[int], Any]] = {
        "groups": lambda n: group,
        "hyper": lambda n: {"name": f"h{n:02}", "value": 0.5},
        "schedule": lambda n: n / 2,
        "blocks": lambda n: dataclasses.asdict(SAMPLES[RunStarted].blocks[0]),  # type: ignore[union-attr]
        "rates": lambda n: n / 2,
        "shifts": lambda n: n % 9,
        "public": lambda n: n,
        "carry": lambda n: ID * 2,
    }
    item: Callable[[int], Any] = items.get(field, lambda n: ID)
    cap = ITEM_CAPS[field]
    values = [item(n) for n in range(cap + 1)]
    if field in group:  # a part of a part
        whole = plain(SAMPLES[RunStarted])
        full = write_unchecked(RunStarted, whole | {"groups": [group | {field: values[:cap]}]})
        assert len(getattr(decode(full, {RunStarted}, CAP).groups[0], field)) == cap
        more = write_unchecked(RunStarted, whole | {"groups": [group | {field: values}]})
        assert f"{field}: expected one block of at most {cap}" in refusal(more)
        return
    for kind, event in SAMPLES.items():
        if not hasattr(event, field):
            continue
        full = write_unchecked(kind, plain(event) | {field: values[:cap]})
        assert len(getattr(decode(full, {kind}, CAP), field)) == cap
        assert f"{field}: expected one block of at most {cap}" in refusal(
            write_unchecked(kind, plain(event) | {field: values})
        )


def test_memory_and_time_stay_within_the_cap_for_a_message_of_one_byte_items() -> None:
    sample = write_unchecked(WitnessShard, plain(SAMPLES[WitnessShard]) | {"public": []})
    at = 10 + 32 + 1 + 1 + 32
    assert sample[at] == 0
    for public in (zigzag(890_000) + b"\x7f" * 890_000, (zigzag(1) + b"\x7f") * 440_000):
        hostile = sample[:at] + public + sample[at:]
        tracemalloc.start()
        began = time.thread_time()
        refusal(hostile)
        took = time.thread_time() - began
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert took < 0.05
        assert peak < 100_000


def test_memory_stays_at_a_few_times_the_message_for_the_largest_ones() -> None:
    event = sample(WitnessShard, ciphertext=bytes(890_000))
    data = encode(event)
    tracemalloc.start()
    decode(data, {WitnessShard}, CAP)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * len(data)


# The second fence, without the walk before it


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (header(RunFinished) + ID + ID + zigzag(5, 1) + ID, "canonical"),
        (header(RunFinished) + ID + ID + zigzag(5) + ID + b"\0", "the decoder stopped at 107"),
        (encode(SAMPLES[EnclaveAttested])[:10] + zigzag(-1) + encode(SAMPLES[EnclaveAttested])[11:], "canonical"),
        (step_with((zigzag(1) + zigzag(7)) * 2 + zigzag(0)), "canonical"),
        (step_with(zigzag(-1) + zigzag(1) + zigzag(7) + zigzag(0)), "canonical"),
        (step_with(zigzag(8193) + zigzag(7) * 8193 + zigzag(0)), "0 to 8192 items"),
    ],
    ids=["long integer", "trailing byte", "negative enum", "two blocks", "negative block", "too many items"],
)
def test_the_decoder_behind_the_walk_is_strict_on_its_own(data: bytes, why: str) -> None:
    found = codec._CODECS[BY_HEADER[data[:10]].event]
    schemaless_reader(io.BytesIO(data[10:]), found.schema.parsed)  # fastavro alone takes it
    with pytest.raises(DecodeError, match=why):
        codec._read(found, data)
    refusal(data)


# Text and floats


@pytest.mark.parametrize(
    "text",
    [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80"],
    ids=["no UTF-8", "overlong", "surrogate", "beyond Unicode", "cut short", "continuation"],
)
def test_text_that_is_no_utf8_is_refused(text: bytes) -> None:
    assert "UnicodeDecodeError" in refusal(header(CheckpointIssued) + zigzag(len(text) + 1) + b"a" + text)


NO_NUMBERS = {
    "NaN": b"\x00\x00\x00\x00\x00\x00\xf8\x7f",
    "NaN with a payload": b"\x01\x00\x00\x00\x00\x00\xf8\x7f",
    "signalling NaN": b"\x01\x00\x00\x00\x00\x00\xf0\x7f",
    "infinity": b"\x00\x00\x00\x00\x00\x00\xf0\x7f",
    "-infinity": b"\x00\x00\x00\x00\x00\x00\xf0\xff",
}


@pytest.mark.parametrize("pattern", NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_a_float_that_is_no_number_is_refused_wherever_it_stands(pattern: bytes) -> None:
    refused = refusal(step_with(zigzag(0), rate=pattern))
    assert "rates: expected a tuple of 1 to 16 items, each a finite float" in refused
    data = encode(SAMPLES[RunStarted])
    for value in (0.01, 0.9, 1e-8, 0.005):
        at = data.index(struct.pack("<d", value))
        assert "finite float" in refusal(data[:at] + pattern + data[at + 8 :])


# What leaves


@pytest.mark.parametrize("error", [MemoryError, RecursionError, OverflowError, IndexError, SystemError])
def test_whatever_goes_wrong_inside_leaves_as_a_decode_error(error: type[Exception]) -> None:
    class Broken(frozenset[type[Event]]):
        def __contains__(self, item: object) -> bool:
            raise error("x" * 10_000)

    with pytest.raises(DecodeError, match=error.__name__) as caught:
        decode(encode(RunOpened(ID)), Broken(), CAP)
    assert len(str(caught.value)) < 300
    assert caught.value.__suppress_context__


def test_running_out_of_stack_leaves_as_a_decode_error() -> None:
    data = encode(SAMPLES[RunStarted])
    outcomes: set[str] = set()

    def at_depth(depth: int) -> None:
        if depth:
            at_depth(depth - 1)
            return
        try:
            decode(data, {RunStarted}, CAP)
            outcomes.add("decoded")
        except DecodeError as error:
            outcomes.add("refused" if "RecursionError" in str(error) else str(error))

    for depth in range(sys.getrecursionlimit() - 200, sys.getrecursionlimit()):
        try:
            at_depth(depth)
        except RecursionError:
            break  # not even the call to decode fits on the stack any more
    assert outcomes == {"decoded", "refused"}


def test_a_refusal_names_the_place_that_it_was_given() -> None:
    with pytest.raises(DecodeError, match=r"^steps/3@99: "):
        decode(b"", EVENTS, CAP, where="steps/3@99")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(SCHEMAS)), st.binary(max_size=300))
def test_noise_after_a_known_header_is_refused_or_canonical(kind: type[Message], noise: bytes) -> None:
    data = header(kind) + noise
    try:
        event = decode(data, {kind}, CAP)
    except DecodeError:
        return
    assert encode(event) == data


def test_there_is_a_codec_for_every_schema_and_no_other() -> None:
    assert set(codec._CODECS) == set(SCHEMAS)
