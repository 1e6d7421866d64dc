"""The report of `devplan suggest` as text: what a person at a terminal reads.

The order is that of the questions: does it fit, where does what lie, what does it cost, how good
is it, and last what to do next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import PurePath

from devplan.core import (
    DeviceMapFile,
    Infeasible,
    Machine,
    ModelIdentity,
    Plan,
    Verification,
    Workload,
    format_bytes,
)
from devplan.io import visible
from devplan.mapfile import load_code, load_heading
from devplan.report.cards import card_lines
from devplan.report.costs import timing_lines, traffic_lines
from devplan.report.heading import heading_lines
from devplan.report.sections import (
    certificate_lines,
    offload_lines,
    pin_lines,
    relaxed_lines,
    stage_lines,
    transfer_lines,
)
from devplan.report.tables import joined
from devplan.report.terminal import Terminal


def plan_text(
    plan: Plan,
    map_file: DeviceMapFile,
    terminal: Terminal,
    map_path: str | PurePath,
    outcome: str = "",
) -> str:
    """Report of a plan, ending with the Python that loads the model.

    Parameters
    ----------
    plan, map_file
        The plan and the map file that was made of it.
    terminal
        What the stream can show.
    map_path
        Where the map is, as the reader's Python will open it.
    outcome
        What happened to the file: a value of `devplan.mapfile.WriteOutcome`, or nothing.
    """
    workload = map_file.workload
    verification = map_file.verification
    stages = "Stages" if plan.contiguous else "Stages (not contiguous: the layers return to a card)"
    pins = "Pins (all kept)" if not plan.relaxed else "Pins"
    sections = [
        ("", _heading(plan, map_file, terminal)),
        ("", card_lines(plan.loads, terminal)),
        (stages, stage_lines(plan, terminal)),
        (
            "Transfers",
            transfer_lines(plan, terminal)
            + traffic_lines(plan, map_file.machine, workload, terminal),
        ),
        ("Time (predicted, unmeasured)", timing_lines(plan, terminal)),
        (pins, pin_lines(plan, terminal)),
        ("Pins that could not be kept", relaxed_lines(plan, terminal)),
        ("Offload", offload_lines(plan, terminal)),
        ("Certificate", certificate_lines(plan, terminal)),
        ("Notes", _note_lines(map_file.notes, terminal)),
        (
            "Verification",
            _verification_lines(verification, terminal),
        ),
        ("Map", [f"  {visible(str(map_path))}{f' ({outcome})' if outcome else ''}"]),
        (
            load_heading(map_file),
            [f"  {line}" for line in load_code(map_file, map_path)],
        ),
    ]
    return joined(sections, terminal)


def infeasible_text(
    infeasible: Infeasible,
    model: ModelIdentity,
    machine: Machine,
    workload: Workload,
    terminal: Terminal,
    notes: Sequence[str] = (),
) -> str:
    """Report of a plan that does not exist, ending with what would make it fit."""
    sections = [
        ("", heading_lines(model, machine, workload, terminal)),
        ("", _verdict_lines(infeasible, terminal)),
        (
            "What would make it fit (each alone)",
            [
                line
                for remedy in infeasible.remedies
                for line in terminal.paragraph(remedy.change, rest="    ")
            ],
        ),
        ("Notes", _note_lines(notes, terminal)),
    ]
    return joined(sections, terminal)


def _note_lines(notes: Sequence[str], terminal: Terminal) -> list[str]:
    return [line for note in notes for line in terminal.paragraph(note, rest="    ")]


def _heading(plan: Plan, map_file: DeviceMapFile, terminal: Terminal) -> list[str]:
    # [offload] its bytes hold the buffers too, which weigh next to nothing.
    stored = sum(load.weight_bytes for load in plan.loads) + sum(plan.offload_bytes.values())
    return heading_lines(
        map_file.model, map_file.machine, map_file.workload, terminal, stored_bytes=stored
    )


def _verdict_lines(infeasible: Infeasible, terminal: Terminal) -> list[str]:
    verdict = terminal.paint("Does not fit.", "red")
    sizes = [format_bytes(each.missing_bytes) for each in infeasible.shortfalls]
    wide = max(map(len, sizes), default=0)
    lacks = [
        f"  {each.device} lacks {size:>{wide}}"
        for each, size in zip(infeasible.shortfalls, sizes, strict=True)
    ]
    return [
        verdict,
        *terminal.paragraph(infeasible.reason),
        *lacks,
        *terminal.paragraph(_bound_sentence(infeasible)),
    ]


def _bound_sentence(infeasible: Infeasible) -> str:
    bound = infeasible.lower_bound
    if infeasible.proven and math.isfinite(bound) and bound > 1:
        return f"Proven: every placement of these blocks fills a card to {bound:.1%} or more."
    if infeasible.proven:
        return "Proven: no placement of these blocks keeps within every card."
    known = f"; the lower bound is {bound:.1%}" if math.isfinite(bound) else ""
    return f"Not proven: none was found, yet one may exist{known}."


def _verification_lines(verification: Verification, terminal: Terminal) -> list[str]:
    """What was found, by which calls, and what they do not prove."""
    lines = list(terminal.paragraph(f"{verification.status}: {verification.detail}"))
    if verification.status == "clean" and verification.runs:
        lines += terminal.paragraph(f"proven: {', '.join(verification.runs)}")
    if verification.not_covered:
        lines += terminal.paragraph(f"not covered: {verification.not_covered}")
    return lines
