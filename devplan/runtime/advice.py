"""Whether the embedding patch is what a map needs, found by running the model virtually with it.

Nothing is guessed from the map: a map whose run stops at a device mismatch is run again with the
patch, and the patch is advised where fewer things stop it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from devplan.checker import CHECK_ARGUMENTS, RunOptions, prepare, result_of, run_all
from devplan.core import (
    CheckResult,
    Finding,
    Workload,
    accepts,
)
from devplan.machine import MachineLike
from devplan.mapfile import MapLike, model_before_map
from devplan.rules import CheckContext
from devplan.runtime.patching import (
    input_embedding_names,
    patch_embeddings,
    patched_embeddings,
    unpatch_embeddings,
)
from devplan.sandbox import exclusively, in_time


@dataclass(frozen=True, kw_only=True)
class PatchAdvice:
    """Whether to patch, and what the runs without and with the patch found."""

    names: tuple[str, ...] = ()
    """Embeddings to patch; empty: the patch is not needed, or does not help."""
    device: str | None = None
    """Where their output goes, as `patch_embeddings` takes it."""
    before: CheckResult
    """Without the patch."""
    after: CheckResult | None = None
    """With it; None where none is advised."""

    @property
    def is_needed(self) -> bool:
        """Whether the model should be patched."""
        return bool(self.names)

    @property
    def cures(self) -> bool:
        """Whether nothing stops the model once it is patched."""
        return self.after is not None and not self.after.errors


@accepts(model=model_before_map("devplan.needed_patch(MODEL, MAP)"), **CHECK_ARGUMENTS)
@in_time
@exclusively
def needed_patch(
    model: str | nn.Module | Any,
    map: MapLike,
    *,
    machine: MachineLike | None = None,
    main_device: str | int | None = None,
    workload: Workload | None = None,
    options: RunOptions | None = None,
    trust_remote_code: bool = False,
) -> PatchAdvice:
    """Whether a model with a map needs its embeddings patched; arguments as of `devplan.check`.

    Returns
    -------
    PatchAdvice
        ``if advice.is_needed: patch_embeddings(model, advice.names, advice.device)``.

    Raises
    ------
    InputError
        When the model cannot be built, or the map cannot be read or belongs to another model.
    """
    prepared = prepare(
        model,
        map,
        machine=machine,
        main_device=main_device,
        workload=workload,
        trust_remote_code=trust_remote_code,
    )
    return advise(prepared, options or RunOptions())


@exclusively
def advise(
    prepared: CheckContext, options: RunOptions, before: CheckResult | None = None
) -> PatchAdvice:
    """The advice for a model and map that are prepared already.

    Parameters
    ----------
    prepared
        The skeleton and the map; the skeleton is left as it was.
    options
        How the model is run.
    before
        What a check without the patch found, where there was one.
    """
    before = before or check_prepared(prepared, options)
    if not any(run.mismatches for run in before.runs):
        return PatchAdvice(before=before)
    advice = PatchAdvice(before=before)
    for names, device in _ways(prepared, before):
        after = check_patched(prepared, options, names, device)
        if _stops_less(after, advice.after or before):
            advice = PatchAdvice(names=names, device=device, before=before, after=after)
        if advice.cures:
            break
    return advice


def check_prepared(prepared: CheckContext, options: RunOptions) -> CheckResult:
    """Run what is prepared, and judge it."""
    return result_of(run_all(prepared, options))


@exclusively
def check_patched(
    prepared: CheckContext, options: RunOptions, names: tuple[str, ...], device: str | None
) -> CheckResult:
    """The same with some embeddings patched for the time of the run."""
    with _patched(prepared.skeleton.model, names, device):
        return check_prepared(prepared, options)


@contextlib.contextmanager
def _patched(model: nn.Module, names: tuple[str, ...], device: str | None) -> Iterator[None]:
    had = patched_embeddings(model)
    try:
        patch_embeddings(model, names, device)
        yield
    finally:
        unpatch_embeddings(model, names)
        for each in had:  # [live model] a copy that came with a patch keeps it
            patch_embeddings(model, each.name, each.device)


def _ways(
    prepared: CheckContext, before: CheckResult
) -> Iterator[tuple[tuple[str, ...], str | None]]:
    """What is tried: the input embedding first, then every embedding whose output met others."""
    model, main = prepared.skeleton.model, prepared.main_device
    tried = []
    for names in (input_embedding_names(model), _blamed_names(model, before)):
        if names and names not in tried:
            tried.append(names)
            yield names, None
            yield names, main


def _blamed_names(model: nn.Module, before: CheckResult) -> tuple[str, ...]:
    """Embeddings that gave, alone or among others, what met a tensor on another device."""
    operands = (o for run in before.runs for event in run.mismatches for o in event.operands)
    makers = {maker for operand in operands for maker in operand.makers}
    embeddings = (n for n, module in model.named_modules() if isinstance(module, nn.Embedding))
    return tuple(sorted({*input_embedding_names(model), *(n for n in embeddings if n in makers)}))


def _stops_less(after: CheckResult, before: CheckResult) -> bool:
    """Whether less stops the model, and nothing that did not stop it before."""
    known = {_place(error) for error in before.errors}
    left = [_place(error) for error in after.errors]
    return len(left) < len(before.errors) and set(left) <= known


def _place(error: Finding) -> tuple[str, str, str]:
    return error.code, str(error.source), error.op or ""
