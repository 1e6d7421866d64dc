"""Op that devplan does not know.

What it does:
    Names the ops of the run for which devplan has no device rule of its own, so that the usual one
    was taken: all tensors on one device, CPU scalars excepted. Also names ops that do not declare
    their result for operands without values (no Meta kernel, and no CPU kernel that could be
    asked): their result was taken to be like their first operand.

Why it breaks:
    An op of a compiled extension may ask for less or for more than that, and give something else;
    an exception of the model's code (DP302) may then come from the guess.

Example:
    torch.ops.my_kernels.fused_rope(q, k, cos, sin)

Use instead:
    torch.library.register_fake("my_kernels::fused_rope"), which says what the op gives. For its
    devices nothing: this is a limit.

Limits:
    None: this is a limit.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Finding, Fix, Severity
from devplan.rules.context import CheckContext
from devplan.rules.places import listed

SEVERITY = Severity.NOTE


def check(context: CheckContext) -> Iterator[Finding]:
    assumed = sorted({op for run in context.runs for op in run.assumed_ops})
    guessed = sorted({op for run in context.runs for op in run.guessed_ops})
    said = []
    if assumed:
        said.append(f"no device rule is known for {listed(assumed)}; the usual one was taken")
    if guessed:
        said.append(
            f"the shape of what {listed(guessed)} gave is unknown, and was taken to be that of the "
            "first operand"
        )
    if not said:
        return
    ops = sorted({*assumed, *guessed})
    yield Finding(
        code="DP904",
        severity=SEVERITY,
        message=f"unverified: {'; '.join(said)}",
        op=ops[0],
        fix=Fix(
            text="register a fake implementation of the op (torch.library.register_fake)"
            if guessed
            else "tell devplan's maintainers of the op"
        ),
        count=len(ops),
    )
