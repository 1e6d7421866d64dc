"""More on a GPU than it holds.

What it does:
    Adds up, for every GPU, weights, buffers, the KV cache at the workload, room for offloaded
    blocks while they run, and the activations that a virtual run showed, and compares the sum with
    the GPU's capacity less the reserve.

Why it breaks:
    torch.OutOfMemoryError: CUDA out of memory. Weights and cache beyond capacity less reserve are
    an error; so is a peak beyond the capacity. A peak that only eats into the reserve is a warning,
    since the reserve is there for activations too.

Example:
    --gpus 24GiB,12GiB --context 32768

    device_map:
      model.visual: 0
      model.language_model: 1     # 13.2 GiB of weights
      lm_head: 0

Use instead:
    the map that `devplan suggest MODEL --gpus 24GiB,12GiB --context 32768` writes.

Limits:
    Without a machine no capacity is known. Activations are counted only when the model was run.
    Fragmentation and the CUDA context are in the reserve, not measured.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Card, DeviceMemory, Entry, Finding, Fix, Severity, format_bytes
from devplan.rules.context import CheckContext
from devplan.rules.loads import device_loads

SEVERITY = Severity.ERROR


def check(context: CheckContext) -> Iterator[Finding]:
    if context.machine is None:
        return
    loads = device_loads(context)
    for card in context.machine.cards:
        load = loads.get(card.device)
        if load is None:
            continue
        over = max(
            load.load_bytes - card.budget_bytes,
            load.peak_bytes - card.capacity_bytes,
        )
        eaten = load.peak_bytes - card.budget_bytes
        if over > 0:
            yield _finding(context, card, load, Severity.ERROR, over)
        elif eaten > 0:
            yield _finding(context, card, load, Severity.WARNING, eaten)


def _finding(
    context: CheckContext, card: Card, load: DeviceMemory, severity: Severity, missing: int
) -> Finding:
    workload = context.workload
    what = "lacks" if severity is Severity.ERROR else "takes from its reserve"
    return Finding(
        code="DP101",
        severity=severity,
        message=f"{card.device} {what} {format_bytes(missing)}: {_parts(load)} against "
        f"{format_bytes(card.capacity_bytes)} less {format_bytes(card.reserve_bytes)} of reserve, "
        f"at batch {workload.batch} and {workload.tokens:,} tokens",
        module=card.device,
        entry=_largest_entry(context, card.device),
        fix=Fix(
            text="move layers to a GPU with room, or let `devplan suggest` place them; "
            "a smaller batch or context shrinks the cache"
        ),
    )


def _parts(load: DeviceMemory) -> str:
    parts = {
        "weights": load.weight_bytes,
        "buffers": load.buffer_bytes,
        "cache": load.cache_bytes,
        "onload": load.onload_bytes,
        "activations": load.activation_bytes,
    }
    return " + ".join(f"{format_bytes(size)} {name}" for name, size in parts.items() if size)


def _largest_entry(context: CheckContext, device: str) -> Entry | None:
    """The entry that puts the most on a device."""
    held: dict[str, int] = {}
    for tensor in context.structure.tensors.values():
        entry = context.entry_of(tensor.name)
        if entry is not None and entry.device == device:
            held[entry.key] = held.get(entry.key, 0) + tensor.num_bytes
    if not held:
        return None
    return context.entries[max(held, key=lambda key: held[key])]
