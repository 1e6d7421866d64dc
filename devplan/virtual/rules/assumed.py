"""What is applied where no source is known.

Ops of other packages, ops that are newer than the table, and composite ops that reach a dispatch
mode whole (they do under ``torch.inference_mode``; elsewhere their parts are judged, see
`devplan.virtual.rules.decomposes`).  Operands on one device, a CPU scalar excepted, is what holds
for most ops; the mismatch says that it was assumed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from devplan.virtual.rules.call import Call
from devplan.virtual.rules.iterator import outputs_first
from devplan.virtual.rules.rule import (
    Clash,
    clash_at,
    first_accelerator,
    gathering_place,
    one_device,
)


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """One device, any number of CPU scalars excepted."""

    name: str = "assumed"
    source: str = "none: the op is not in the table"

    def weigh(self, call: Call) -> Clash | None:
        firm = [x for x in outputs_first(call.seen) if x.is_output or not x.is_cpu_scalar]
        common = gathering_place(firm)
        odd = next((item for item in firm if item.device != common), None)
        if odd is None:
            return None
        return clash_at(one_device(common, odd.device), common, firm)

    def home(self, call: Call) -> torch.device:
        return first_accelerator(outputs_first(call.seen))
