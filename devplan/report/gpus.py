"""The GPUs that devplan knows by name, as text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence

from devplan.catalog import Gpu
from devplan.core import format_gib
from devplan.report.tables import joined, report_json, table_lines
from devplan.report.terminal import Terminal

HEADS = ("name", "reported as", "GiB")
_HOW = (
    "GiB: what torch reports, which a plan counts on; * what the driver reports, ** the marketed "
    "size, where no better figure was found. Write them as --gpus rtx-4090, 2xa100-80gb or h100x4; "
    "any other card by its size, as --gpus 2x24GiB."
)
_MARKS = {"torch": "", "driver": "*", "marketed": "**"}


def gpus_text(gpus: Sequence[Gpu], terminal: Terminal) -> str:
    """One line a card."""
    widest = max(map(len, _MARKS.values()))
    rows = [
        (
            gpu.id,
            gpu.name,
            f"{format_gib(gpu.capacity_bytes)}{_MARKS[gpu.capacity_source]:{widest}}",
        )
        for gpu in gpus
    ]
    # [marks] stand behind the column: the decimal points stay below each other.
    heads = (*HEADS[:-1], f"{HEADS[-1]}{' ' * widest}")
    lines = table_lines(heads, rows, terminal, words=2)
    return joined([("", lines), ("", terminal.paragraph(_HOW))], terminal)


def gpus_json(gpus: Sequence[Gpu]) -> str:
    """The same for programs."""
    return report_json(
        {
            "gpus": [
                {
                    "name": gpu.id,
                    "reported_as": gpu.name,
                    "aliases": list(gpu.aliases),
                    "capacity_bytes": gpu.capacity_bytes,
                    "capacity_source": gpu.capacity_source,
                    "compute_capability": _capability(gpu),
                    "source": gpu.source,
                }
                for gpu in gpus
            ]
        }
    )


def _capability(gpu: Gpu) -> str | None:
    return ".".join(map(str, gpu.compute_capability)) if gpu.compute_capability else None
