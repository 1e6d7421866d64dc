"""Models, machines, workloads and many blocks in few words; the first lines of every report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from devplan.core import (
    Card,
    Machine,
    ModelIdentity,
    Workload,
    format_bytes,
    is_inside,
    is_size,
    parent,
)
from devplan.io import visible
from devplan.mapfile import covering_modules
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
    parts = [f"batch {workload.batch}", f"context of {workload.tokens:,} tokens"]
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


# ------------------------------------------------------------------------------------- blocks


# Names that a line shows before it only counts: more do not help to find the block.
_MOST_NAMES = 4


def blocks_in_words(names: Sequence[str], all_blocks: Iterable[str]) -> str:
    """``model.visual (35 blocks), lm_head``: whole modules where all their blocks are meant."""
    words = folded_names(names, all_blocks)
    if len(words) > _MOST_NAMES:
        words = [*words[:_MOST_NAMES], f"{len(words) - _MOST_NAMES} more"]
    return ", ".join(words)


def folded_names(names: Sequence[str], all_blocks: Iterable[str]) -> list[str]:
    """The same as a list that names them all."""
    words = []
    for module in covering_modules(names, all_blocks):
        inside = sum(is_inside(name, module) for name in names)
        words.append(f"{module or 'the whole model'} ({inside} blocks)" if inside > 1 else module)
    return _collapse_runs(words)


def _collapse_runs(names: Sequence[str]) -> list[str]:
    """``layers.3, layers.4, layers.5`` becomes ``layers.3-5``."""
    words = []
    for _, run in groupby(enumerate(names), key=lambda item: _run_key(*item)):
        run_names = [name for _, name in run]
        last = f"-{layer_index(run_names[-1])}" if len(run_names) > 1 else ""
        words.append(run_names[0] + last)
    return words


def _run_key(position: int, name: str) -> tuple[str, int | str]:
    """Equal for neighbours that are numbered one after another."""
    index = layer_index(name)
    return (parent(name), index - position) if index is not None else (name, "")


def layer_index(name: str) -> int | None:
    """The number of a layer in its stack; None for what is no numbered module."""
    last = name.rpartition(".")[2]
    return int(last) if last.isascii() and last.isdecimal() else None


def layers_in_words(blocks: Sequence[str]) -> str:
    """``17 layers of model.layers (0-16), 2 other blocks``."""
    stacks: dict[str, list[int]] = {}
    others = 0
    for block in blocks:
        index = layer_index(block)
        if index is None:
            others += 1
        else:
            stacks.setdefault(parent(block), []).append(index)
    words = [_stack_in_words(stack, indices) for stack, indices in stacks.items()]
    if others:
        kind = "other block" if words else "block"
        words.append(f"{others} {kind}{'s' if others > 1 else ''}")
    return ", ".join(words)


def _stack_in_words(stack: str, indices: Sequence[int]) -> str:
    runs = _collapse_runs([f"{stack}.{index}" for index in indices])
    numbers = ", ".join(run.removeprefix(f"{stack}.") for run in runs)
    where = f" of {stack}" if stack else ""
    return f"{len(indices)} layer{'s' if len(indices) > 1 else ''}{where} ({numbers})"
