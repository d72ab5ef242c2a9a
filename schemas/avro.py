"""The schemas: read from the package, parsed once, each with its fingerprint.

A schema's identity is the CRC-64-AVRO fingerprint of its parsing canonical form (Avro 1.12 specification, "Parsing
Canonical Form" and "Schema Fingerprints"): names, types and order of the fields count, docs do not. Every file is
self-contained (it defines each named type that it uses), so its fingerprint depends on no other file. Fastavro's
fingerprints are those of Apache Avro for Java; Apache's Python library differs where a type is named twice.

The fingerprint names a schema; it does not protect it (64 bits, linear). What protects an event is the signature.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import Any, get_args

from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form

from schemas.events import Message

Schema = dict[str, Any]

MAGIC = b"\xc3\x01"
"""Marker of Avro's single-object encoding, version 1."""

HEADER_BYTES = 10
"""Marker and fingerprint."""


@dataclass(frozen=True, slots=True)
class EventSchema:
    """One event's schema.

    Attributes:
        event: the Python class.
        source: the file as JSON.
        parsed: the same, parsed by fastavro.
        header: marker and fingerprint (little-endian), the first 10 bytes of every encoding.
    """

    event: type[Message]
    source: Schema
    parsed: Any
    header: bytes

    @property
    def fingerprint(self) -> int:
        """CRC-64-AVRO of the canonical form."""
        return int.from_bytes(self.header[len(MAGIC) :], "little")


def _load(event: type[Message]) -> EventSchema:
    text = resources.files("schemas").joinpath(f"{event.__name__}.avsc").read_text("utf-8")
    parsed = parse_schema(json.loads(text))
    crc = bytes.fromhex(fingerprint(to_parsing_canonical_form(parsed), "CRC-64-AVRO"))
    return EventSchema(event, json.loads(text), parsed, MAGIC + crc)


SCHEMAS: dict[type[Message], EventSchema] = {event: _load(event) for event in get_args(Message)}
"""Every schema there is: nothing else can be read or written."""

BY_HEADER: dict[bytes, EventSchema] = {schema.header: schema for schema in SCHEMAS.values()}
