"""Many block names in few words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from devplan.core import is_inside, parent
from devplan.mapfile import covering_modules

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
