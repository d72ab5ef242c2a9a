"""One event to bytes and back: Avro's single-object encoding, and only its one canonical form.

For every ``event`` that :func:`encode` takes, ``decode(encode(event)) == event``; for all ``data`` that :func:`decode`
takes, ``encode(decode(data)) == data``. So an event has one encoding, and its SHA-256 can be its id.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from io import BytesIO
from typing import Any, TypeVar

from fastavro import schemaless_reader, schemaless_writer

from schemas import events
from schemas.avro import BY_HEADER, HEADER_BYTES, SCHEMAS, EventSchema
from schemas.events import Message
from schemas.layout import Walk, compile_walk
from schemas.ranges import ITEM_CAPS, check
from schemas.text import brief
from zk_autograd.errors import DecodeError, UsageError

M = TypeVar("M", bound=Message)

_Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Codec:
    """How one schema's events become what fastavro takes and gives, and back."""

    schema: EventSchema
    walk: Walk
    fields: tuple[tuple[str, _Convert, _Convert], ...]
    """Name, from fastavro, to fastavro."""


def _same(value: Any) -> Any:
    return value


def _conversions(avro: Any) -> tuple[_Convert, _Convert]:
    kind = avro if isinstance(avro, str) else avro["type"]
    if kind == "enum":
        return getattr(events, avro["name"]), lambda member: member.value
    if kind == "array" and not isinstance(avro["items"], str) and avro["items"]["type"] == "record":
        item, fields = getattr(events, avro["items"]["name"]), _fields(avro["items"])
        return (
            lambda dicts: tuple(item(**{name: read(d[name]) for name, read, _ in fields}) for d in dicts),
            lambda values: [{name: write(getattr(v, name)) for name, _, write in fields} for v in values],
        )
    if kind == "array":
        return tuple, list
    return _same, _same


def _fields(record: Any) -> tuple[tuple[str, _Convert, _Convert], ...]:
    return tuple((f["name"], *_conversions(f["type"])) for f in record["fields"])


def _compile(schema: EventSchema) -> _Codec:
    return _Codec(schema, compile_walk(schema.source, ITEM_CAPS), _fields(schema.source))


_CODECS: dict[type[Message], _Codec] = {event: _compile(schema) for event, schema in SCHEMAS.items()}


def encode(event: Message) -> bytes:
    """``C3 01``, the schema's fingerprint (8 bytes, little-endian), the Avro body.

    Raises:
        UsageError: a field holds what :func:`decode` would refuse, or ``event`` is no event. Who builds an event is its
            caller, so this is no DecodeError. Types are exact: an int is no float, a numpy integer no int.
    """
    if type(event) not in _CODECS:
        raise UsageError(f"encode: expected an event of schemas.events, got {brief(event)}")
    check(event, UsageError)
    return _write(event)


def decode(data: bytes, allowed: Collection[type[M]], cap: int, where: str = "message") -> M:
    """The event that ``data`` encodes, and nothing but that.

    Args:
        data: bytes from anywhere, of any length.
        allowed: the events that may come.
        cap: largest length of ``data`` in bytes; memory and time are bounded by it.
        where: what ``data`` is or where it came from, for the error's message.
    Raises:
        DecodeError: whatever else ``data`` is. No other exception leaves.
    """
    try:
        return _decode(data, allowed, cap)
    except DecodeError as error:
        raise DecodeError(f"{where}: {error}") from None
    except Exception as error:
        # The cause is left out of the chain: its text and its arguments may hold the whole message.
        what = f"{type(error).__name__}: {str(error)[:80]!a}"
        raise DecodeError(f"{where}: expected one well-formed event, got bytes that do not decode ({what})") from None


def _decode(data: bytes, allowed: Collection[type[M]], cap: int) -> M:
    # 1. Size, before anything looks inside.
    if type(data) is not bytes:
        raise DecodeError(f"expected bytes, got {brief(data)}")
    if len(data) > cap:
        raise DecodeError(f"expected at most {cap} bytes, got {len(data)}")
    # 2. A known schema, and one that may come here.
    schema = BY_HEADER.get(data[:HEADER_BYTES])
    if schema is None or schema.event not in allowed:
        came = schema.event.__name__ if schema else f"the header {data[:HEADER_BYTES].hex() or '(none)'}"
        names = ", ".join(sorted(event.__name__ for event in allowed)) or "(no event)"
        raise DecodeError(f"expected the Avro single-object encoding of {names}, got {came}")
    codec = _CODECS[schema.event]
    # 3. The layout, before anything is built.
    end = codec.walk(data, HEADER_BYTES)
    if end != len(data):
        raise DecodeError(f"{schema.event.__name__}: expected its end at byte {end}, got {len(data) - end} bytes more")
    event: M = _read(codec, data)
    return event


def _read(codec: _Codec, data: bytes) -> Any:
    """A second fence, which takes nothing from the walk on trust: fastavro alone would let most of it through."""
    name = codec.schema.event.__name__
    # 4. The values; all bytes are used.
    stream = BytesIO(data)
    stream.seek(HEADER_BYTES)
    raw: Any = schemaless_reader(stream, codec.schema.parsed)
    if stream.tell() != len(data):
        raise DecodeError(f"{name}: expected its end at byte {len(data)}, the decoder stopped at {stream.tell()}")
    event = codec.schema.event(*[read(raw[field]) for field, read, _ in codec.fields])
    # 5. Ranges.
    check(event, DecodeError)
    # 6. The one canonical form.
    if _write(event) != data:
        raise DecodeError(f"{name}: expected the canonical encoding, got {len(data)} bytes that encode otherwise")
    return event


def _write(event: Message) -> bytes:
    codec = _CODECS[type(event)]
    stream = BytesIO()
    stream.write(codec.schema.header)
    raw = {field: write(getattr(event, field)) for field, _, write in codec.fields}
    schemaless_writer(stream, codec.schema.parsed, raw, strict=True)
    return stream.getvalue()
