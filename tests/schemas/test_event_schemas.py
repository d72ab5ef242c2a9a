"""The schema files: stable, self-contained, free of Avro's traps, and the same shape as the Python events."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import pytest
from fastavro.schema import fingerprint, parse_schema

from schemas import events
from schemas.avro import BY_HEADER, SCHEMAS, EventSchema
from schemas.events import Event, Message, Signed
from schemas.layout import compile_walk
from schemas.ranges import ITEM_CAPS, RULES

PINNED: dict[str, str] = json.loads((Path(__file__).parent / "fingerprints.json").read_text("utf-8"))
ALL = [pytest.param(schema, id=schema.event.__name__) for schema in SCHEMAS.values()]


def parts(schema: Any) -> Iterator[Any]:
    """A schema and every schema inside it."""
    yield schema
    if isinstance(schema, dict):
        for field in schema.get("fields", []):
            yield from parts(field["type"])
        if "items" in schema:
            yield from parts(schema["items"])


def kind(part: Any) -> str:
    return str(part if isinstance(part, str) else part["type"] if isinstance(part, dict) else "union")


@pytest.mark.parametrize("schema", ALL)
def test_a_fingerprint_never_changes(schema: EventSchema) -> None:
    assert f"{schema.fingerprint:016x}" == PINNED[schema.event.__name__], (
        "this schema's canonical form changed, so no log written before can be read: give the new form a new name"
    )


def test_every_pinned_schema_is_still_there_and_every_schema_is_pinned() -> None:
    assert set(PINNED) == {event.__name__ for event in SCHEMAS}


def test_every_file_is_an_event_and_every_event_has_its_file() -> None:
    files = {entry.name for entry in resources.files("schemas").iterdir() if entry.name.endswith(".avsc")}
    assert files == {f"{event.__name__}.avsc" for event in get_args(Message)}
    assert set(get_args(Message)) == {Signed, *get_args(Event)}


def test_headers_are_marker_and_little_endian_fingerprint_and_all_differ() -> None:
    assert len(BY_HEADER) == len(SCHEMAS)
    for schema in SCHEMAS.values():
        assert schema.header == b"\xc3\x01" + int(PINNED[schema.event.__name__], 16).to_bytes(8, "little")


def test_the_fingerprint_is_the_specifications() -> None:
    # Table of the Avro specification's test data (share/test/data/schema-tests.txt): "null" and "int".
    for text, crc in (('"null"', 0x63DD24E7CC258F8A), ('"int"', 0x7275D51A3F395C8F)):
        assert bytes.fromhex(fingerprint(text, "CRC-64-AVRO")) == crc.to_bytes(8, "little")


@pytest.mark.parametrize("schema", ALL)
def test_a_file_parses_on_its_own_whatever_was_parsed_before(schema: EventSchema) -> None:
    alone: Any = parse_schema(schema.source, named_schemas={})
    assert alone["fields"] == schema.parsed["fields"]
    assert schema.source["namespace"] == "zk_autograd.v1"


def test_a_type_shared_by_files_is_defined_alike_in_each() -> None:
    seen: dict[str, Any] = {}
    for schema in SCHEMAS.values():
        for part in parts(schema.source):
            if isinstance(part, dict) and "name" in part:
                assert seen.setdefault(part["name"], part) == part


@pytest.mark.parametrize("schema", ALL)
def test_no_schema_uses_what_decodes_dangerously(schema: EventSchema) -> None:
    allowed = {"record", "fixed", "enum", "array", "int", "long", "double", "bytes", "string"}
    named = {part["name"] for part in parts(schema.source) if isinstance(part, dict) and "name" in part}
    for part in parts(schema.source):
        assert kind(part) in allowed | named, "unions, maps, booleans and null have traps that no event needs"
        assert "logicalType" not in part
        if kind(part) == "record":
            assert part["fields"], "an empty record takes no bytes: an array of them has no end"
        if kind(part) == "fixed":
            assert part["size"] > 0
    references = [part for part in parts(schema.source) if isinstance(part, str) and part in named]
    records = {part["name"] for part in parts(schema.source) if kind(part) == "record"}
    assert not records & set(references), "a record that is referred to by name may hold itself"


@pytest.mark.parametrize(
    "trap", ["null", "boolean", "float", ["null", "int"], {"type": "map", "values": "int"}], ids=lambda t: kind(t)
)
def test_the_layout_refuses_to_compile_what_no_event_may_use(trap: Any) -> None:
    schema = {"type": "record", "name": "Trap", "fields": [{"name": "field", "type": trap}]}
    with pytest.raises(TypeError, match=r"Trap\.field"):
        compile_walk(schema, {})


@pytest.mark.parametrize("schema", ALL)
def test_every_field_says_what_it_means(schema: EventSchema) -> None:
    for part in parts(schema.source):
        if isinstance(part, dict) and part["type"] in ("record", "enum", "fixed"):
            assert part["doc"]
        if kind(part) == "record":
            assert all(len(field["doc"]) > 10 and field["doc"].endswith(".") for field in part["fields"])


@pytest.mark.parametrize("schema", ALL)
def test_python_fields_are_the_schemas_fields_in_the_same_order_and_each_has_a_rule(schema: EventSchema) -> None:
    names = [field["name"] for field in schema.source["fields"]]
    assert [field.name for field in fields(schema.event)] == names
    assert list(RULES[schema.event]) == names


def test_python_enums_and_nested_records_are_the_schemas() -> None:
    for schema in SCHEMAS.values():
        for part in parts(schema.source):
            if kind(part) == "enum":
                members: type[StrEnum] = getattr(events, part["name"])
                assert [(m.name, m.value) for m in members] == [(s, s) for s in part["symbols"]]
            if kind(part) == "record" and part is not schema.source:
                nested = getattr(events, part["name"])
                assert [field.name for field in fields(nested)] == [field["name"] for field in part["fields"]]


def test_every_array_has_a_cap_and_the_docs_state_it() -> None:
    arrays = [found for schema in SCHEMAS.values() for found in arrays_of(schema.source)]
    assert {name for name, _ in arrays} == set(ITEM_CAPS)
    for name, doc in arrays:
        assert re.search(rf"at most {ITEM_CAPS[name]}\b", doc), name


def arrays_of(record: Any) -> Iterator[tuple[str, str]]:
    """Name and doc of every array of a record, and of the records in it."""
    for field in record["fields"]:
        if kind(field["type"]) == "array":
            yield field["name"], field["doc"]
            items = field["type"]["items"]
            if kind(items) == "record":
                yield from arrays_of(items)


def test_events_are_values() -> None:
    for event in SCHEMAS:
        assert event.__dataclass_params__.frozen, event  # type: ignore[union-attr]
        assert "__slots__" in vars(event), event
