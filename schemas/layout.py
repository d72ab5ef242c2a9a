"""Walks encoded bytes against a schema before anything is built of them.

Avro says how many items follow, and a decoder believes it: 900 kB of one-byte longs become 46 MB of Python objects
in 0.1 s, all to be refused afterwards. So the bytes are walked first, with the cap of every array at hand. After the
walk: each varint is the shortest one and fits its type, each array is a single block within its cap, each length
lies within the message, each enum index names a symbol, and the message ends where the bytes end. Memory and time
are then bounded by the message's own length; what is left for the decoder to refuse is malformed UTF-8.

Source: Avro 1.12 specification, "Binary encoding".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from zk_autograd.errors import DecodeError

Walk = Callable[[bytes, int], int]
"""``(data, start) -> end`` of one value; raises DecodeError."""

_FIXED_WIDTH = {"double": 8}
_INT_BITS = {"int": 32, "long": 64}


def compile_walk(schema: Any, caps: Mapping[str, int]) -> Walk:
    """The walk for one record.

    Args:
        schema: an Avro record as JSON. Only record, fixed, enum, array, int, long, double, bytes and string may
            occur in it: unions, maps, booleans, null and recursion have traps that no event needs.
        caps: for every field that is an array, its name and the largest number of items.
    """
    return _walk(schema, schema["name"], caps, {})


def _walk(schema: Any, path: str, caps: Mapping[str, int], widths: dict[str, int]) -> Walk:
    kind = schema if isinstance(schema, str) else schema["type"] if isinstance(schema, dict) else "union"
    width = _width(schema, widths)
    if width is not None:
        return _fixed(width, path)
    if kind in _INT_BITS:
        return _integer(_INT_BITS[kind], path)
    if kind in ("bytes", "string"):
        return _sized(path)
    if kind == "enum":
        return _enum(len(schema["symbols"]), path)
    if kind == "array":
        item = schema["items"]
        item_width = _width(item, widths)
        walk = _walk(item, f"{path}[]", caps, widths)
        return _array(caps[path.rpartition(".")[2]], walk, item_width, path)
    if kind == "record":
        return _record([_walk(f["type"], f"{path}.{f['name']}", caps, widths) for f in schema["fields"]])
    raise TypeError(f"{path}: no event may use Avro's {kind!r}")


def _width(schema: Any, widths: dict[str, int]) -> int | None:
    """Bytes of a value whose encoding always takes equally many; learns the names of fixed types on its way."""
    if isinstance(schema, str):
        return _FIXED_WIDTH.get(schema) or widths.get(schema)
    if isinstance(schema, dict) and schema["type"] == "fixed":
        widths[schema["name"]] = schema["size"]
        return int(schema["size"])
    return None


def varint(data: bytes, start: int, path: str) -> tuple[int, int]:
    """The zigzag integer at ``start`` and where it ends; only the shortest form of 64 bits passes."""
    raw = shift = 0
    for at in range(start, min(start + 10, len(data))):
        byte = data[at]
        raw |= (byte & 0x7F) << shift
        if byte < 0x80:
            if (byte == 0 and at > start) or raw >> 64:
                raise DecodeError(
                    f"{path}: expected the shortest form of a 64-bit integer at byte {start}, got another"
                )
            return (raw >> 1) ^ -(raw & 1), at + 1
        shift += 7
    raise DecodeError(f"{path}: expected an integer at byte {start}, got one that does not end (of {len(data)} bytes)")


def _end(data: bytes, start: int, size: int, path: str) -> int:
    if size < 0 or size > len(data) - start:
        raise DecodeError(
            f"{path}: expected 0 to {len(data) - start} bytes from byte {start} on, got a length of {size}"
        )
    return start + size


def _fixed(size: int, path: str) -> Walk:
    def walk(data: bytes, start: int) -> int:
        return _end(data, start, size, path)

    return walk


def _integer(bits: int, path: str) -> Walk:
    limit = 1 << (bits - 1)

    def walk(data: bytes, start: int) -> int:
        value, end = varint(data, start, path)
        if not -limit <= value < limit:
            raise DecodeError(f"{path}: expected an integer of {bits} bits at byte {start}, got {value}")
        return end

    return walk


def _sized(path: str) -> Walk:
    def walk(data: bytes, start: int) -> int:
        size, begin = varint(data, start, path)
        return _end(data, begin, size, path)

    return walk


def _enum(symbols: int, path: str) -> Walk:
    def walk(data: bytes, start: int) -> int:
        index, end = varint(data, start, path)
        if not 0 <= index < symbols:
            raise DecodeError(f"{path}: expected an enum index of 0 to {symbols - 1} at byte {start}, got {index}")
        return end

    return walk


def _array(cap: int, item: Walk, width: int | None, path: str) -> Walk:
    def walk(data: bytes, start: int) -> int:
        count, at = varint(data, start, path)
        if count == 0:
            return at
        if not 0 < count <= cap:
            raise DecodeError(f"{path}: expected one block of at most {cap} items at byte {start}, got {count}")
        if width is not None:
            at = _end(data, at, count * width, path)
        else:
            for _ in range(count):
                at = item(data, at)
        more, end = varint(data, at, path)
        if more:
            raise DecodeError(f"{path}: expected the array's end at byte {at}, got another block of {more} items")
        return end

    return walk


def _record(fields: list[Walk]) -> Walk:
    def walk(data: bytes, start: int) -> int:
        at = start
        for field in fields:
            at = field(data, at)
        return at

    return walk
