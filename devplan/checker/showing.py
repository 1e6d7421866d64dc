"""How lines of code, tensors and changes of a map look in text, wherever they are shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tabulate import tabulate

from devplan.core import Entry, OperandFact, SourceLine, format_bytes, to_hf_device
from devplan.io import visible


def source_lines(source: SourceLine) -> list[str]:
    """The place, and the code where it is known."""
    lines = [f"  {visible(source.file)}:{source.line} in {visible(source.function)}"]
    return [*lines, f"      {visible(source.text)}"] if source.text else lines


def tensor_lines(tensors: Sequence[OperandFact]) -> list[str]:
    """A table, one tensor a line."""
    rows = [_tensor_cells(tensor) for tensor in tensors]
    table = tabulate(rows, tablefmt="plain", disable_numparse=True)
    return [f"    {line.rstrip()}" for line in table.splitlines()]


def _tensor_cells(tensor: OperandFact) -> list[str]:
    shape = "x".join(map(str, tensor.shape)) or "0-dim"
    size = format_bytes(tensor.num_bytes)
    cells = [tensor.argument, tensor.device, shape, tensor.dtype, size, tensor.name or ""]
    return [visible(cell) for cell in cells]


def diff_lines(
    changed: Mapping[str, str], entries: Iterable[Entry], dropped: Sequence[str] = ()
) -> list[str]:
    """``- model: 1`` and ``+ model: 0`` for every entry that a repair touches."""
    old = {entry.key: f"- {entry_line(entry)}" for entry in entries}
    gone = [old[key] for key in dropped if key in old]
    lines = []
    for key, device in changed.items():
        if key in old and key not in dropped:
            lines.append(old[key])
        lines.append(f"+ {_line(key, to_hf_device(device))}")
    if len(gone) == len(lines):  # renames: each new name below the old one
        return [line for pair in zip(gone, lines, strict=True) for line in pair]
    return [*gone, *lines]


def entry_line(entry: Entry) -> str:
    """One entry as the map writes it."""
    return _line(entry.key, entry.written or to_hf_device(entry.device))


def entry_place(entry: Entry) -> str:
    """``maps/x.yaml:12: model: 1``; without the file where the map is none."""
    where = f"{visible(entry.file)}:{entry.line}: " if entry.file and entry.line else ""
    return f"{where}{entry_line(entry)}"


def _line(key: str, device: int | str) -> str:
    return f"{visible(key) or repr('')}: {visible(str(device))}"
