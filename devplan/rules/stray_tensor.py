"""Tensor that no hook moves.

What it does:
    Reports mismatches of the virtual run in which an operand is a parameter or buffer of a module
    without a hook, or a plain attribute that is neither.

Why it breaks:
    accelerate moves the inputs and the weights of modules that an entry names. A bare parameter of
    a module around them stays where its entry put it, a plain tensor attribute where it was made;
    the op finds it on another device than its partner.

Example:
    device_map:
      model.image_newline: 1
      model.vision_tower: 0
      model.multi_modal_projector: 0
      model.language_model: 1
      lm_head: 0

Use instead:
    device_map:
      model.image_newline: 0        # where the image features are
      ...

Limits:
    A plain attribute (self.table = torch.arange(8), or in a list or a dict) is known where a module
    that is running, or a part of it, holds the operand. Moving a tensor by an entry helps when all
    its partners are on one device.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Finding, Fix, Severity, ensure, is_inside
from devplan.rules.context import CheckContext
from devplan.rules.mismatches import (
    MismatchGroup,
    MismatchKind,
    mismatch_groups,
    mixture,
    one_mistake,
    stray_operand,
)
from devplan.rules.places import words_for

SEVERITY = Severity.ERROR


def check(context: CheckContext) -> Iterator[Finding]:
    groups = mismatch_groups(context, MismatchKind.STRAY)
    for group in one_mistake(groups, lambda group: stray_operand(group.first, context).name):
        yield _finding(context, group)


def _finding(context: CheckContext, group: MismatchGroup) -> Finding:
    event = group.first
    stray = stray_operand(event, context)
    ensure(stray is not None and stray.name is not None, "a stray operand without a name")
    partners = {operand.device for operand in event.operands} - {stray.device}
    is_placed = stray.name in context.structure.tensors
    repairs = is_placed and len(partners) == 1
    changed = {_placed_by(stray.name, context): min(partners)} if repairs else {}
    kind = "no hook moves it" if is_placed else "it is a plain attribute, and no hook moves it"
    return Finding(
        code="DP303",
        severity=SEVERITY,
        message=f"{event.op} in {words_for(event.module)} mixes {mixture(event.operands)}: "
        f"{stray.name} stays on {stray.device}, {kind}",
        module=event.module,
        op=event.op,
        source=event.source,
        also_at=group.also_at,
        tensors=event.operands,
        entry=context.entry_of(stray.name),
        pytorch_message=event.message,
        fix=Fix(
            text=f"give {next(iter(changed))} an entry on the device of the other operands"
            if changed
            else "register it as a buffer of the module that uses it, or move it in that line of "
            "code",
            changed_entries=changed,
        ),
        count=group.count,
    )


def _placed_by(tensor: str, context: CheckContext) -> str:
    """The name to put in the map: that of its module, where no other entry lies in that.

    The hook of a module moves a buffer; an entry of the buffer's own name does not, in releases
    that load only what is in the checkpoint.
    """
    owner = context.structure.tensors[tensor].owner
    is_free = owner and not any(is_inside(key, owner) and key != tensor for key in context.entries)
    return owner if is_free and not context.is_hooked(owner) else tensor
