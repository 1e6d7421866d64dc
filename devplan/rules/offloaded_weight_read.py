"""Offloaded weight that code reads outside its module.

What it does:
    Reports every place in the virtual run where the model's code needs the values of a weight on
    cpu or disk at a moment when no hook has loaded it: it reads layer.weight itself, or makes or
    moves a tensor to the device where it found that weight.

Why it breaks:
    accelerate loads a weight that is offloaded when the forward of its own module begins, and takes
    it away when that ends. At every other moment the weight is on the meta device, without values:
    "Cannot copy out of meta tensor; no data!", "Tensor on device meta is not on the expected
    device cpu!", or numbers that mean nothing. A buffer is not offloaded with the weights, and may
    be read.

Example:
    relative = self.LayerNorm(self.rel_embeddings.weight)      # in the model's code

    device_map:
      encoder.rel_embeddings: disk
      encoder.layer: 0
      encoder.LayerNorm: 0

Use instead:
    device_map:
      encoder.rel_embeddings: 0
      encoder.layer: 0
      encoder.LayerNorm: 0

Limits:
    Which weight it was is not known where the tensor without values came through code that did not
    ask that weight for its device. What is computed on meta alone and never used is not reported.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Finding, Fix, Severity
from devplan.rules.context import CheckContext
from devplan.rules.fixes import entries_that_meet
from devplan.rules.mismatches import MismatchGroup, MismatchKind, mismatch_groups, one_mistake
from devplan.rules.places import listed, words_for

SEVERITY = Severity.ERROR


def check(context: CheckContext) -> Iterator[Finding]:
    for group in one_mistake(mismatch_groups(context, MismatchKind.OFFLOADED), _weight):
        yield _finding(context, group)


def _weight(group: MismatchGroup) -> str | None:
    """The weight that the values on meta would have come from."""
    return next((o.name for o in group.first.operands if o.device == "meta" and o.name), None)


def _finding(context: CheckContext, group: MismatchGroup) -> Finding:
    event = group.first
    weight = _weight(group)
    what = "a weight that is offloaded"
    if weight is not None:
        what = f"{weight}, which is offloaded to {context.device_of(weight)},"
    changed = entries_that_meet(event, context)
    where = listed(list(changed)) if changed else "the module that holds it"
    return Finding(
        code="DP403",
        severity=SEVERITY,
        message=f"{words_for(event.module)} needs {what} outside the forward of its module, where "
        f"it is on the meta device and has no values ({listed(group.phases)})",
        module=event.module,
        op=event.op,
        source=event.source,
        also_at=group.also_at,
        tensors=event.operands,
        entry=context.entry_of(weight) if weight is not None else None,
        pytorch_message=event.message,
        fix=Fix(
            text=f"do not offload {where}, or let that line of code call the module",
            changed_entries=changed,
        ),
        count=group.count,
    )
