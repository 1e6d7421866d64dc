"""Op without a device rule.

What it does:
    Names the ops of the run for which devplan has no device rule of its own, so that the usual one
    was taken: all tensors on one device, CPU scalars excepted.

Why it breaks:
    An op of a compiled extension may ask for less or for more than that.

Example:
    torch.ops.my_kernels.fused_rope(q, k, cos, sin)

Use instead:
    Nothing: this is a limit.

Limits:
    None: this is a limit.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.checks.places import listed
from devplan.checks.subject import Subject
from devplan.findings import Diagnostic, Severity

SEVERITY = Severity.NOTE


def check(subject: Subject) -> Iterator[Diagnostic]:
    ops = sorted({op for run in subject.runs for op in run.assumed_ops})
    if not ops:
        return
    yield Diagnostic(
        code="DP904",
        severity=SEVERITY,
        message=f"no device rule is known for {listed(ops)}; the usual one was taken",
        op=ops[0],
        remedy="tell devplan's maintainers of the op",
        count=len(ops),
    )
