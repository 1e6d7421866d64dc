"""Parameter or buffer that no entry covers.

What it does:
    Looks for parameters and buffers that no entry of the map governs.

Why it breaks:
    accelerate refuses such a map before anything runs: "The device_map provided does not give any
    device for the following parameters". Buffers that are not saved with the model (the
    frequencies of rotary embeddings) escape that refusal: they stay on the CPU, no hook moves the
    inputs of their module, and the first op may mix devices. These are a warning.

    transformers 5 does not call accelerate for a map of one device. There it loads parameters
    without an entry on the CPU, which is a warning too: the run shows whether an op mixes devices.
    A parameter that is tied to one with an entry lies with that, and is no finding.

Example:
    device_map:
      model.embed_tokens: 0
      model.layers: 1
      # model.norm and lm_head are missing

Use instead:
    device_map:
      model.embed_tokens: 0
      model.layers: 1
      model.rotary_emb: 1   # a buffer that is not saved
      model.norm: 0
      lm_head: 0

Limits:
    A parameter that the loading code creates later (an adapter, a scale of a quantized linear) is
    not in the skeleton and is not asked for.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Finding, Fix, Severity, format_bytes, is_inside, parse_whole
from devplan.mapfile import covering_modules
from devplan.rules.context import CheckContext, TensorFact
from devplan.rules.places import counted, listed
from devplan.rules.unknown_module import Renames

SEVERITY = Severity.ERROR

LEFT_ON_CPU = (
    "from_pretrained loads them on the CPU and puts no hooks for a map of one device; "
    "accelerate.dispatch_model and devplan.apply refuse the map"
)


def check(context: CheckContext) -> Iterator[Finding]:
    tensors = context.structure.tensors.values()
    uncovered = [tensor for tensor in tensors if context.device_of(tensor.name) is None]
    saved = [tensor for tensor in uncovered if tensor.persistent]
    unsaved = [tensor for tensor in uncovered if not tensor.persistent]
    if context.is_unhooked:
        tied = {t.first_name for t in tensors if context.device_of(t.name) is not None}
        left = [tensor for tensor in saved if tensor.first_name not in tied]
        if left:
            yield _finding(context, left, Severity.WARNING, LEFT_ON_CPU)
    elif saved:
        yield _finding(context, saved, Severity.ERROR, "accelerate refuses the map")
    if unsaved:
        why = "they stay on the CPU, and no hook moves the inputs of their modules"
        yield _finding(context, unsaved, Severity.WARNING, why)


def _finding(
    context: CheckContext, tensors: list[TensorFact], severity: Severity, why: str
) -> Finding:
    modules = covering_modules([t.name for t in tensors], context.structure.tensors)
    kind = "parameter" if any(t.is_parameter for t in tensors) else "buffer"
    size = format_bytes(sum(t.num_bytes for t in tensors if t.name == t.first_name))
    renamed = _renamed(context)
    missing = [m for m in modules if not any(is_inside(m, new) for new in renamed)]
    changed = {module: _neighbour_device(context, module) for module in missing}
    return Finding(
        code="DP001",
        severity=severity,
        message=f"no entry covers {counted(len(tensors), kind)} of {size}, in {listed(modules)}: "
        f"{why}",
        module=modules[0],
        fix=Fix(
            text=f"add an entry for {listed(missing)}"
            if missing
            else "rename the entries whose modules were renamed (DP002)",
            changed_entries=changed,
        ),
    )


def _renamed(context: CheckContext) -> list[str]:
    """Modules that unknown entries of the map were meant for."""
    renames = Renames(name for name in context.structure.modules if name)
    unknown = [key for key in context.entries if not context.is_known(key)]
    return [new for key in unknown for new in renames.candidates(key)[:1]]


def _neighbour_device(context: CheckContext, module: str) -> str:
    """The device of the layer before in the same stack, else the main device."""
    parent, _, last = module.rpartition(".")
    if last.isdecimal() and last != "0":
        before = context.device_of(f"{parent}.{parse_whole(last) - 1}")
        if before is not None:
            return before
    return context.main_device
