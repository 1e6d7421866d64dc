"""The published JSON Schema (draft 2020-12), made from the table of keys.

Reading a map needs no JSON Schema library: the reader walks the same table.  The schema is for
editors and for other programs.  ``make pages`` writes it, a test compares
it with the table, and the tests check with it everything that is written or refused.
"""

from __future__ import annotations

import json
from functools import singledispatch
from typing import Any

from devplan.mapfile.keys import MAP_FILE, SCHEMA_VERSION
from devplan.mapfile.shape import (
    Either,
    ListOf,
    Nullable,
    Number,
    Optional,
    Record,
    Shape,
    TableOf,
    Text,
    Whole,
)


def schema_text() -> str:
    """Text of ``devplan/schema.json``."""
    return json.dumps(schema(), indent=2) + "\n"


def schema() -> dict[str, Any]:
    """The schema of a map file as JSON Schema."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:devplan:map-file:{SCHEMA_VERSION}",
        "title": "devplan map file",
        "description": "A device map for a Hugging Face model, and what it was made for.",
    } | shape_schema(MAP_FILE)


@singledispatch
def shape_schema(shape: Shape) -> dict[str, Any]:
    """JSON Schema of one shape."""
    raise AssertionError(f"no JSON Schema for {shape!r}")


@shape_schema.register
def _(shape: Text) -> dict[str, Any]:
    text: dict[str, Any] = {"type": "string"}
    if shape.pattern:
        text["pattern"] = shape.pattern
    if shape.choices:
        text["enum"] = list(shape.choices)
    return text


@shape_schema.register
def _(shape: Whole) -> dict[str, Any]:
    bounds = {"minimum": shape.minimum, "maximum": shape.maximum}
    return {"type": "integer"} | {
        name: bound for name, bound in bounds.items() if bound is not None
    }


@shape_schema.register
def _(shape: Number) -> dict[str, Any]:
    return {"type": "number", "minimum": shape.minimum, "maximum": shape.maximum}


@shape_schema.register
def _(shape: Nullable) -> dict[str, Any]:
    return {"anyOf": [shape_schema(shape.inner), {"type": "null"}]}


@shape_schema.register
def _(shape: Either) -> dict[str, Any]:
    return {"anyOf": [shape_schema(option) for option in shape.options]}


@shape_schema.register
def _(shape: ListOf) -> dict[str, Any]:
    return {"type": "array", "items": shape_schema(shape.item), "minItems": shape.min_items}


@shape_schema.register
def _(shape: TableOf) -> dict[str, Any]:
    return {
        "type": "object",
        "propertyNames": shape_schema(shape.key),
        "additionalProperties": shape_schema(shape.value),
        "minProperties": shape.min_entries,
    }


@shape_schema.register
def _(shape: Optional) -> dict[str, Any]:
    return shape_schema(shape.inner)


@shape_schema.register
def _(shape: Record) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            key.name: {"description": key.meaning} | shape_schema(key.shape) for key in shape.keys
        },
        "required": [key.name for key in shape.keys if not isinstance(key.shape, Optional)],
        "additionalProperties": False,
    }
