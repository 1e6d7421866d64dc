"""Model that is not the map's.

What it does:
    Compares class, number of parameters, configuration and revision of the model with those that
    stand in the map. Another class or size is an error, another configuration a warning, another
    revision of the same configuration a note.

Why it breaks:
    Entries fit other modules, sizes and caches are those of another model: a GPU overflows, or a
    module is in no entry.

Example:
    devplan.load("./qwen2.5-vl-3b", "maps/qwen2.5-vl-7b-instruct__24+12gib__b1-c32768.yaml")

Use instead:
    the map of that model: `devplan suggest ./qwen2.5-vl-3b --gpus ...`.

Limits:
    A map that was planned from the built-in catalogue knows the values that the catalogue has; only
    these are compared with a checkpoint's config.json.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import DeviceMapFile, Finding, Fix, ModelFacts, Severity
from devplan.environment import changes_of, is_configured_otherwise
from devplan.rules.context import CheckContext

SEVERITY = Severity.ERROR

_SHOWN = 3


def check(context: CheckContext) -> Iterator[Finding]:
    yield from context.found_here("DP509")


def other_model(map_file: DeviceMapFile, model: ModelFacts, remake: str) -> Finding | None:
    """How class, size, configuration or revision differ from the map's; None where none does."""
    planned = map_file.model
    if model.class_name is not None and model.class_name != planned.class_name:
        return _other(
            Severity.ERROR,
            f"this model is a {model.class_name}, the map is for a {planned.class_name}",
            planned.class_name,
            model.class_name,
            remake,
        )
    if model.num_parameters is not None and model.num_parameters != planned.num_parameters:
        return _other(
            Severity.ERROR,
            f"this model has {model.num_parameters:,} parameters, the map is for "
            f"{planned.num_parameters:,}",
            f"{planned.num_parameters:,}",
            f"{model.num_parameters:,}",
            remake,
        )
    changed = _configuration(map_file, model, remake)
    if (
        changed is None
        and planned.revision
        and model.revision
        and planned.revision != model.revision
    ):
        is_same = planned.config_hash is not None and planned.config_hash == model.config_hash
        return _other(
            Severity.NOTE if is_same else Severity.WARNING,
            f"this model is of revision {model.revision}, the map is for {planned.revision}"
            + (", with the same configuration" if is_same else ""),
            planned.revision,
            model.revision,
            "" if is_same else f"load revision={planned.revision!r}, or {remake}",
        )
    return changed


def _configuration(map_file: DeviceMapFile, model: ModelFacts, remake: str) -> Finding | None:
    if not is_configured_otherwise(map_file, model):
        return None
    planned = map_file.model
    words = "; ".join(changes_of(map_file, model)[:_SHOWN])
    return _other(
        Severity.WARNING,
        "this model's configuration differs from the one that the map was planned with"
        + (f": {words}" if words else ", its hash differs"),
        planned.config_hash,
        model.config_hash,
        remake,
    )


def _other(severity: Severity, message: str, planned: str, found: str, remake: str) -> Finding:
    return Finding(
        code="DP509",
        severity=severity,
        module="model",
        message=message,
        planned=planned,
        found=found,
        fix=Fix(text=remake),
    )
