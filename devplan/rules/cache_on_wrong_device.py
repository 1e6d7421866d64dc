"""Cache on another device than the layer that uses it.

What it does:
    Reports mismatches inside transformers' cache classes, and hooks that copy a cache between
    devices at every call.

Why it breaks:
    Each layer keeps its keys and values where it is computed. A cache that is allocated on one
    device for all layers, or that is made before the map is applied, meets the keys of another
    device: an error. A class that does not name its cache in _skip_keys_device_placement has it
    copied by every hook instead, whole, at every token: a warning.

Example:
    cache = StaticCache(config, max_cache_len=4096, device="cuda:0")
    model.generate(**inputs, past_key_values=cache)     # layers 16 to 31 are on cuda:1

Use instead:
    model.generate(**inputs)     # the cache is made layer by layer

Limits:
    Caches of a model's own kind are found as mismatches (DP301) or hidden transfers (DP305).
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Finding, Fix, Severity, TransferEvent, format_bytes
from devplan.rules.context import CheckContext
from devplan.rules.mismatches import MismatchKind, mismatch_groups, mixture
from devplan.rules.places import counted, listed, words_for

SEVERITY = Severity.ERROR

# Names under which models of transformers take their caches: the values of
# _skip_keys_device_placement in 5.23.0, those of older releases, and the one of 5.24.0.
CACHE_ARGUMENTS = frozenset(
    {
        "cache",
        "past_key_values",
        "past_key_value",
        "encoder_past_key_values",
        "cache_params",
        "layer_past",
        "mems",
    }
)


def check(context: CheckContext) -> Iterator[Finding]:
    for group in mismatch_groups(context, MismatchKind.CACHE):
        event = group.first
        yield Finding(
            code="DP304",
            severity=SEVERITY,
            message=f"the cache of {words_for(event.module)} is on another device than its keys: "
            f"{event.op} mixes {mixture(event.operands)} ({listed(group.phases)})",
            module=event.module,
            op=event.op,
            source=event.source,
            tensors=event.operands,
            entry=context.entry_of(event.module),
            pytorch_message=event.message,
            fix=Fix(text="let the model make its cache layer by layer, after the map is applied"),
            count=group.count,
        )
    yield from _copied_caches(context)


def _copied_caches(context: CheckContext) -> Iterator[Finding]:
    copies: dict[str, list[TransferEvent]] = {}
    for run in context.runs:
        for event in run.transfers:
            if event.asked_by == "hook" and event.argument in CACHE_ARGUMENTS:
                copies.setdefault(event.argument, []).append(event)
    for argument, events in copies.items():
        number = sum(event.count for event in events)
        size = sum(event.count * event.num_bytes for event in events)
        yield Finding(
            code="DP304",
            severity=Severity.WARNING,
            message=f"hooks copy the cache ({argument}) between devices: "
            f"{counted(number, 'copy')} of {format_bytes(size)} in one run",
            module=events[0].module,
            entry=context.entry_of(events[0].module),
            fix=Fix(text=f"add {argument!r} to _skip_keys_device_placement of the model's class"),
            count=number,
        )
