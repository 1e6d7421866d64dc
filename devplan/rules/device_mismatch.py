"""Op that receives tensors from two devices.

What it does:
    Reports the ops of the virtual run that received tensors from devices which PyTorch does not let
    them mix, with PyTorch's own message. Lines of code that one change of the map would repair, or
    that meet the same tensor of the model, are one finding. Where they are in a module that must
    stay whole (DP201), the finding says so, and its repair joins all split modules of that class.

Why it breaks:
    The model raises this error in production, at the first forward that takes this way. accelerate
    moves the inputs of modules; it does not move tensors between modules, or inside a
    module that the map splits.

Example:
    Qwen2-VL in transformers 4.48, image and text

    device_map:
      visual: 0
      model: 1          # the masks follow the embeddings to cuda:1, the ids stay on cuda:0
      lm_head: 1

Use instead:
    device_map:
      visual: 0
      model: 1
      model.embed_tokens: 0
      lm_head: 1

Limits:
    Only what the run reached is known; DP902 names the rest. After a mismatch the run goes on with
    the tensor moved, as a person would repair it, so that later findings assume that repair.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from functools import partial

from devplan.core import Finding, Fix, MismatchEvent, Severity
from devplan.rules.context import CheckContext
from devplan.rules.fixes import entries_that_meet, entry_behind, joined_on_one_device
from devplan.rules.mismatches import (
    MismatchGroup,
    MismatchKind,
    mismatch_groups,
    mixture,
    odd_operands,
    one_mistake,
    split_around,
)
from devplan.rules.places import counted, listed, words_for

SEVERITY = Severity.ERROR


def check(context: CheckContext) -> Iterator[Finding]:
    groups = mismatch_groups(context, MismatchKind.MISMATCH)
    for group in one_mistake(groups, partial(_cause, context)):
        yield _finding(context, group)


def _cause(context: CheckContext, group: MismatchGroup) -> Hashable:
    """The tensors of the model that lie elsewhere, or the change that brings all together."""
    named = tuple(o.name for o in odd_operands(group.first, context) if o.name)
    changed = tuple(sorted(_changed(group.first, context).items()))
    return (changed, () if changed else named) if changed or named else None


def _finding(context: CheckContext, group: MismatchGroup) -> Finding:
    event = group.first
    changed = _changed(event, context)
    others = len(group.modules) - 1
    more = f" and {counted(others, 'other module')}" if others else ""
    return Finding(
        code="DP301",
        severity=SEVERITY,
        message=f"{event.op} in {words_for(event.module)}{more} mixes {mixture(event.operands)} "
        f"({listed(group.phases)}){_split(event, context)}",
        module=event.module,
        op=event.op,
        source=event.source,
        also_at=group.also_at,
        tensors=event.operands,
        entry=entry_behind(event, changed, context),
        pytorch_message=event.message,
        fix=Fix(text=_fix_text(context, group, bool(changed)), changed_entries=changed),
        count=group.count,
    )


def _changed(event: MismatchEvent, context: CheckContext) -> dict[str, str]:
    """The entries that bring the operands together; all of a class that must stay whole."""
    changed = dict(entries_that_meet(event, context))
    split = split_around(event, context)
    if any(changed == joined_on_one_device(context, module) for module in split):
        for module in split:
            changed |= joined_on_one_device(context, module)
    return changed


def _split(event: MismatchEvent, context: CheckContext) -> str:
    """The cause, where the map splits a module that must stay whole."""
    split = split_around(event, context)
    if not split:
        return ""
    kind = context.structure.modules[split[0]]
    verb = "is" if len(split) == 1 else "are"
    return (
        f"; {listed(split)} {verb} split, and a {kind} must stay whole, as the model declares in "
        "_no_split_modules"
    )


def _fix_text(context: CheckContext, group: MismatchGroup, by_map: bool) -> str:
    event = group.first
    odd = odd_operands(event, context)[0]
    code = f"move {odd.argument} to the device of the others in that line of code"
    return f"change the map, or {code}" if by_map else f"no entry repairs it; {code}"
