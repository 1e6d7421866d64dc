"""Writes what is derived from the table of keys: the JSON Schema and the reference page.

Run ``make pages`` in the root of the repository after every change of the table
(``devplan/mapfile/keys.py``); a test fails until it was run.

Reading a map needs no JSON Schema library, as the reader walks the same table.  The schema
(draft 2020-12) is for editors and for other programs; the tests check with it everything that is
written or refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from devplan.mapfile.keys import MAP_FILE, SCHEMA_VERSION
from devplan.mapfile.shape import (
    Coded,
    Either,
    Key,
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

_OPENING = f"""\
<!-- Made by `make pages` from devplan/mapfile/keys.py; edit that. -->

# The map file

`devplan suggest` writes a YAML file, by default `maps/<model>__<machine>__<workload>.yaml`. Its
device map goes into transformers, diffusers or accelerate as it is; loading needs no devplan:

```python
import yaml
from transformers import Qwen2_5_VLForConditionalGeneration

model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
    "Qwen/Qwen2.5-VL-7B-Instruct",
    dtype="bfloat16",
    device_map=yaml.safe_load(open("maps/MAP.yaml"))["device_map"],
)
```

Everything else in the file says what the map was made for and what was proven about it.

* Bytes are whole numbers, and `_bytes` is in their name.
* A device is `cuda:0`, `cpu` or `disk`. In `device_map` alone, `cuda:0` is `0`, as
  `hf_device_map` has it; both are read.
* An entry places everything inside its module, and the longest matching entry wins. `""` is the
  whole model. An exception inside a placed module runs only if it has no modules of its own, such
  as `embed_tokens`. With `model.layers: 0` and `model.layers.7: 1`, accelerate gives the modules
  inside layer 7 hooks for GPU 0, and the layer fails (DP301): name every layer instead.
* Names that YAML would take for something else need quotes: `'1.0'`, `'on'`, `'null'`.
* Every key is there unless it may be absent; what is not known is `null`. Unknown keys, repeated
  keys and wrong values are refused with file, line and remedy.
* The same input writes the same bytes. A file that holds something else is replaced only with
  `--force`; without it the plan is shown and not written. A file that is no map is refused before
  anything is planned. `-o -` (or `/dev/stdout`) writes the map to stdout and the report to stderr.
* A relative folder under `model.id` is looked up in the current folder, then beside the map, then
  one folder above it. A map is data: nothing in it runs ([security](security.md)).
* A file is whole or not there, as is everything that devplan writes: a full disk, a signal or a
  missing permission leaves the old file as it was.

`devplan/schema.json` is the JSON Schema (draft 2020-12) of schema version {SCHEMA_VERSION}.
Beyond it, devplan refuses a file whose values contradict each other: a device that the machine
does not have, a reserve or capacity that differs from the machine's, parts that do not add up to
the capacity, a gap that is not that of its bounds.

## Keys
"""

_REPORT = """
## The JSON report

`devplan suggest --json` prints one object. For a plan it has every key of the file and these:

| key | value | meaning |
|---|---|---|
| `status` | `"plan"` | |
| `stages` | list of `device`, `blocks` | Contiguous runs of blocks in execution order. |
| `contiguous` | true or false | Whether every device holds one run of the layers. |
| `map_path` | text or null | Where the file was written. |
| `load` | `imports` (list of lines), `line` | The Python that loads the model with the map. |

When nothing fits, it has `model`, `machine`, `workload` and `main_device` as the file has them,
and these:

| key | value | meaning |
|---|---|---|
| `status` | `"infeasible"` | |
| `reason` | text | One line with the numbers. |
| `prediction` | GPU -> as in the file | The placement that overflows least; empty without one. |
| `shortfalls` | list of `device`, `missing_bytes` | What the GPUs lack in that placement. |
| `lower_bound` | number or null | No placement is below this share; null: no bound is known. |
| `proven` | true or false | Whether it is proven that nothing fits. |
| `remedies` | list of text | Changes that make it fit, the smallest of each kind. |
"""


def published_texts() -> dict[str, str]:
    """Path from the root of the repository -> the text that belongs there."""
    schema_text = json.dumps(schema(), indent=2) + "\n"
    return {"devplan/schema.json": schema_text, "docs/map-file.md": reference_text()}


def schema() -> dict[str, Any]:
    """The schema of a map file as JSON Schema."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:devplan:map-file:{SCHEMA_VERSION}",
        "title": "devplan map file",
        "description": "A device map for a Hugging Face model, and what it was made for.",
    } | shape_schema(MAP_FILE)


def shape_schema(shape: Shape) -> dict[str, Any]:
    """JSON Schema of one shape."""
    match shape:
        case Text():
            limits = {"pattern": shape.pattern, "enum": list(shape.choices)}
            return {"type": "string"} | {name: value for name, value in limits.items() if value}
        case Whole():
            bounds = {"minimum": shape.minimum, "maximum": shape.maximum}
            stated = {name: bound for name, bound in bounds.items() if bound is not None}
            return {"type": "integer"} | stated
        case Number():
            return {"type": "number", "minimum": shape.minimum, "maximum": shape.maximum}
        case Nullable():
            return {"anyOf": [shape_schema(shape.inner), {"type": "null"}]}
        case Either():
            return {"anyOf": [shape_schema(option) for option in shape.options]}
        case ListOf():
            items = shape_schema(shape.item)
            return {"type": "array", "items": items, "minItems": shape.min_items}
        case TableOf():
            return {
                "type": "object",
                "propertyNames": shape_schema(shape.key),
                "additionalProperties": shape_schema(shape.value),
                "minProperties": shape.min_entries,
            }
        case Optional() | Coded():
            return shape_schema(shape.inner)
        case Record():
            return {
                "type": "object",
                "properties": {
                    key.name: {"description": key.meaning} | shape_schema(key.shape)
                    for key in shape.keys
                },
                "required": [k.name for k in shape.keys if not isinstance(k.shape, Optional)],
                "additionalProperties": False,
            }


def reference_text() -> str:
    """Text of ``docs/map-file.md``."""
    parts = [_OPENING]
    for key in MAP_FILE.keys:
        parts.append(f"\n### `{key.name}`\n\n{key.meaning} ({words(key.shape)})\n")
        rows = [
            f"| `{path}` | {words(leaf.shape)} | {leaf.meaning} |" for path, leaf in _leaves(key)
        ]
        if rows:
            parts.append("\n| key | value | meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n")
    return "".join(parts) + _REPORT


def _leaves(key: Key, prefix: str = "") -> Iterator[tuple[str, Key]]:
    """Every key below a key, with its path."""
    path, shape = f"{prefix}{key.name}", key.shape
    while isinstance(shape, Nullable | Optional | Coded):
        shape = shape.inner
    if isinstance(shape, ListOf):
        path, shape = f"{path}[]", shape.item
    elif isinstance(shape, TableOf):
        path, shape = f"{path}.*", shape.value
    if isinstance(shape, Record):
        for inner in shape.keys:
            if not isinstance(inner.shape, ListOf) or not isinstance(inner.shape.item, Record):
                yield f"{path}.{inner.name}", inner
            yield from _leaves(inner, f"{path}.")


def words(shape: Shape) -> str:
    """The values of a shape, in words."""
    match shape:
        case Text() | Either():
            return shape.expected
        case Whole(minimum=None):
            return "integer"
        case Whole() if shape.minimum == shape.maximum:
            return f"the integer {shape.minimum}"
        case Whole():
            return f"integer, {shape.minimum} or more"
        case Number():
            return f"number, {shape.minimum:g} or more"
        case Nullable():
            return f"{words(shape.inner)}; or null"
        case Optional():
            return f"{words(shape.inner)}; may be absent"
        case Coded():
            return words(shape.inner)
        case ListOf():
            is_plain = not isinstance(shape.item, Record)
            return f"list: {words(shape.item)}" if is_plain else "list of mappings"
        case TableOf() if isinstance(shape.value, Record):
            return f"a mapping per key; key: {shape.key.expected}"
        case TableOf():
            return f"mapping; key: {shape.key.expected}; value: {words(shape.value)}"
        case Record():
            return "mapping"
