"""Cells and documents of maps that were judged, for `devplan compare` and `devplan diff`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from devplan.core import Severity, format_bytes
from devplan.mapfile import gib_cell
from devplan.report.findings.json import finding_document
from devplan.report.terminal import UNKNOWN, Terminal, tokens_cell
from devplan.workflows import CopyTotals, Evaluation, peak_share


def run_cell(judged: Evaluation) -> str:
    """``clean``, or the code of the first thing in the way."""
    if judged.check.errors:
        return judged.check.errors[0].code
    return "clean" if judged.is_clean else "not run"


def fullest_cell(judged: Evaluation) -> str:
    """``74.6% cuda:1``."""
    fullest = max(judged.loads, key=peak_share)
    return f"{peak_share(fullest):.1%} {fullest.device}"


def spilled_cell(judged: Evaluation) -> str:
    """``1.45 GiB cpu``."""
    sizes = [f"{gib_cell(size)} {device}" for device, size in judged.spilled_bytes.items()]
    return ", ".join(sizes) or "-"


def reach_cell(judged: Evaluation, limit: int | None) -> str:
    """The most tokens; ``?`` where the model's code did not run."""
    return tokens_cell(judged.most_tokens, limit) if judged.is_growth_known else UNKNOWN


def traffic_cell(traffic: CopyTotals | None) -> str:
    """``29, 18.57 KiB``."""
    if traffic is None:
        return "-"
    return (
        f"{traffic.num_copies:,}, {format_bytes(traffic.num_bytes)}" if traffic.num_copies else "0"
    )


def judged_finding_lines(judged: Evaluation, terminal: Terminal) -> list[str]:
    """Errors and warnings, one paragraph each; why it did not run."""
    found = [d for d in judged.check.findings if d.severity is not Severity.NOTE]
    lines = []
    for each in found:
        text = f"{each.severity.value} {each.code}: {each.message}"
        lines += terminal.paragraph(text, first="    ", rest="      ")
    if not judged.has_run and not judged.check.errors:
        lines += terminal.paragraph(judged.verdict, first="    ", rest="      ")
    return lines


def share_rows(judged: Sequence[tuple[str, Evaluation]], devices: Sequence[str]) -> list[list[str]]:
    """Name, then the peak share of every card; ``-`` for a card that is not of the machine."""
    rows = []
    for name, each in judged:
        shares = {load.device: f"{peak_share(load):.1%}" for load in each.loads}
        rows.append([name, *(shares.get(device, "-") for device in devices)])
    return rows


def judged_document(judged: Evaluation) -> dict[str, Any]:
    """One map."""
    return {
        "name": judged.name,
        "clean": judged.is_clean,
        "verdict": judged.verdict,
        "device_map": dict(judged.subject.device_map),
        "main_device": judged.subject.main_device,
        "cards": {
            load.device: {
                "weights_bytes": load.weight_bytes,
                "buffers_bytes": load.buffer_bytes,
                "kv_cache_bytes": load.cache_bytes,
                "onload_bytes": load.onload_bytes,
                "activations_bytes": load.activation_bytes,
                "reserve_bytes": load.reserve_bytes,
                "capacity_bytes": load.capacity_bytes,
                "peak_share": peak_share(load),
            }
            for load in judged.loads
        },
        "spilled_bytes": dict(judged.spilled_bytes),
        "copies": {
            "prompt": _traffic_document(judged.prompt),
            "token": _traffic_document(judged.token),
        },
        "most_tokens": judged.most_tokens if judged.is_growth_known else None,
        "first_full": judged.first_full,
        "findings": [finding_document(each) for each in judged.check.findings],
    }


def _traffic_document(traffic: CopyTotals | None) -> dict[str, int] | None:
    if traffic is None:
        return None
    return {"num_copies": traffic.num_copies, "bytes": traffic.num_bytes}
