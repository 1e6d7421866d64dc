"""The first lines of every report: which model, which machine, which workload."""

from __future__ import annotations

from itertools import groupby

from devplan.core import Card, Machine, ModelIdentity, Workload, format_bytes, is_size
from devplan.io import visible
from devplan.report.terminal import Terminal

_SCALES = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))


def heading_lines(
    model: ModelIdentity,
    machine: Machine,
    workload: Workload,
    terminal: Terminal,
    stored_bytes: int | None = None,
) -> list[str]:
    """Model, class, parameters, dtype and size; machine; workload.

    Parameters
    ----------
    stored_bytes
        Weights of the whole model in memory; None where the plan that says so does not exist.
    """
    facts = [model.class_name, f"{format_count(model.num_parameters)} parameters", model.dtype]
    facts += [model.quantization] if model.quantization else []
    facts += [f"{format_bytes(stored_bytes)} of weights"] if stored_bytes is not None else []
    lines = [terminal.paint(visible(model.id), "bold")]
    lines += terminal.paragraph(", ".join(facts))
    lines += terminal.paragraph(machine_in_words(machine))
    lines += terminal.paragraph(workload_in_words(workload))
    return lines


def machine_in_words(machine: Machine) -> str:
    """``24GiB + 12GiB; main device cuda:0; offload to cpu (64.00 GiB)``."""
    groups = [(name, len(list(run))) for name, run in groupby(map(_card_in_words, machine.cards))]
    cards = " + ".join(f"{count} x {name}" if count > 1 else name for name, count in groups)
    parts = [cards, f"main device {machine.main_device}"]
    for tier in machine.tiers:
        bound = "no bound" if tier.capacity_bytes is None else format_bytes(tier.capacity_bytes)
        parts.append(f"offload to {tier.device} ({bound})")
    return "; ".join(parts)


def _card_in_words(card: Card) -> str:
    if is_size(card.name):
        return card.name
    return f"{card.name} ({format_bytes(card.capacity_bytes)})"


def workload_in_words(workload: Workload) -> str:
    """``batch 1, context of 32,768 tokens``, and the dtypes that were asked for."""
    parts = [f"batch {workload.batch}", f"context of {workload.context_tokens:,} tokens"]
    parts += [f"computing in {workload.dtype}"] if workload.dtype else []
    parts += [f"KV cache in {workload.kv_dtype}"] if workload.kv_dtype else []
    if workload.images is not None:
        size = " of {}x{} pixels".format(*workload.image_size) if workload.image_size else ""
        parts.append(f"{workload.images} image{'' if workload.images == 1 else 's'}{size}")
    elif workload.image_size is not None:
        parts.append(_made_in_words(workload))
    return ", ".join(parts)


def _made_in_words(workload: Workload) -> str:
    """``121 frames of 480x848 pixels, decoded in tiles``."""
    what = f"{workload.frames:,} frames" if workload.frames else "an image"
    tiles = ", decoded in tiles" if workload.tiling else ""
    return f"{what} of {{}}x{{}} pixels{tiles}".format(*workload.image_size)


def format_count(count: int) -> str:
    """A number of parameters as models are named by it: ``8.29B``."""
    for scale, letter in _SCALES:
        if count >= scale:
            return f"{count / scale:.2f}{letter}"
    return str(count)
