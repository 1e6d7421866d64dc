"""The report of `devplan suggest`, as text and as JSON.

The text answers in this order: does the model fit, on which GPU is each part, what does that cost,
how good is the plan, and what to do next.  The keys of the JSON are those of the map file and a few
more; ``docs/map-file.md`` lists them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import PurePath

from devplan.core import (
    BlockGraph,
    DeviceMapFile,
    DeviceMemory,
    Infeasible,
    Machine,
    ModelIdentity,
    Plan,
    Verification,
    Workload,
    format_bytes,
)
from devplan.io import visible
from devplan.mapfile import (
    SCHEMA_VERSION,
    import_lines,
    load_code,
    load_heading,
    load_line,
    machine_document,
    model_document,
    prediction_document,
    to_document,
    workload_document,
)
from devplan.report.sections import (
    card_lines,
    certificate_lines,
    offload_lines,
    overflow_lines,
    pin_lines,
    relaxed_lines,
    stage_lines,
    timing_lines,
    traffic_lines,
    transfer_lines,
)
from devplan.report.terminal import Terminal, joined_sections, report_json
from devplan.report.words import heading_lines


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
    stages = (
        "Stages"
        if plan.contiguous
        else "Stages (not contiguous: the layers return to a GPU that they have left)"
    )
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
    return joined_sections(sections, terminal)


def infeasible_text(
    infeasible: Infeasible,
    model: ModelIdentity,
    machine: Machine,
    workload: Workload,
    graph: BlockGraph,
    terminal: Terminal,
    notes: Sequence[str] = (),
) -> str:
    """Report of a plan that does not exist, ending with what would make it fit."""
    sections = [
        ("", heading_lines(model, machine, workload, terminal)),
        ("", _verdict_lines(infeasible, terminal)),
        ("Closest placement", _overflow_lines(infeasible, graph, workload, terminal)),
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
    return joined_sections(sections, terminal)


def _note_lines(notes: Sequence[str], terminal: Terminal) -> list[str]:
    return [line for note in notes for line in terminal.paragraph(note, rest="    ")]


def _heading(plan: Plan, map_file: DeviceMapFile, terminal: Terminal) -> list[str]:
    # [offload] its bytes hold the buffers too, which weigh next to nothing.
    stored = sum(load.weight_bytes for load in plan.loads) + sum(plan.offload_bytes.values())
    return heading_lines(
        map_file.model, map_file.machine, map_file.workload, terminal, stored_bytes=stored
    )


def _verdict_lines(infeasible: Infeasible, terminal: Terminal) -> list[str]:
    return [
        terminal.paint("Does not fit.", "red"),
        *terminal.paragraph(infeasible.reason),
        *terminal.paragraph(_bound_sentence(infeasible)),
    ]


def _overflow_lines(
    infeasible: Infeasible, graph: BlockGraph, workload: Workload, terminal: Terminal
) -> list[str]:
    """The table of GPUs in the placement that overflows least, and its largest part in words."""
    if not infeasible.loads:
        return []
    largest = _largest_part(infeasible.loads, graph, workload)
    return overflow_lines(infeasible.loads, terminal) + terminal.paragraph(largest)


def _largest_part(loads: Sequence[DeviceMemory], graph: BlockGraph, workload: Workload) -> str:
    """Which part takes most of the memory of all GPUs, and what it comes from."""
    sums = {
        "weights": sum(load.weight_bytes + load.buffer_bytes for load in loads),
        "KV cache": sum(load.cache_bytes for load in loads),
        "activations": sum(load.activation_bytes for load in loads),
        "reserve": sum(load.reserve_bytes for load in loads),
    }
    sizes = ", ".join(f"{name} {format_bytes(size)}" for name, size in sums.items() if size)
    text = f"Of all GPUs together: {sizes}."
    most = max(loads, key=lambda load: load.activation_bytes)
    if not most.activation_bytes:
        return text
    alike = sum(load.activation_bytes == most.activation_bytes for load in loads)
    where = "every GPU" if alike == len(loads) > 1 else most.device
    size = format_bytes(most.activation_bytes)
    if not most.activation_block:
        return f"{text} The code between the blocks needs {size} on {where} while it runs."
    block = graph.block(most.activation_block)
    what = f"{block.name} ({block.class_name})"
    if most.activation_bytes == block.loading_bytes:
        return f"{text} Loading {what} needs {size} on {where}."
    if graph.components:
        return f"{text} Running {what} needs {size} on {where}."
    tokens = workload.tokens * workload.batch
    return f"{text} A prefill of {tokens:,} tokens at once needs {size} on {where}, in {what}."


def _bound_sentence(infeasible: Infeasible) -> str:
    bound = infeasible.lower_bound
    if infeasible.proven and math.isfinite(bound) and bound > 1:
        return f"Proven: every placement of these blocks fills a GPU to {bound:.1%} or more."
    if infeasible.proven:
        return "Proven: no placement of these blocks fits on every GPU."
    known = f"; the lower bound is {bound:.1%}" if math.isfinite(bound) else ""
    return f"Not proven: no placement was found, but one may exist{known}."


def _verification_lines(verification: Verification, terminal: Terminal) -> list[str]:
    """What was found, by which calls, and what they do not prove."""
    lines = list(terminal.paragraph(f"{verification.status}: {verification.detail}"))
    if verification.status == "clean" and verification.runs:
        lines += terminal.paragraph(f"proven: {', '.join(verification.runs)}")
    if verification.not_covered:
        lines += terminal.paragraph(f"not covered: {verification.not_covered}")
    return lines


# --------------------------------------------------------------------------------------- JSON


def plan_json(
    plan: Plan, map_file: DeviceMapFile, map_path: str | PurePath, *, written: bool = True
) -> str:
    """Report of a plan as JSON text.

    Parameters
    ----------
    map_path
        Where the map is, as Python will open it.
    written
        Whether the file is there; otherwise ``map_path`` is null in the report.
    """
    shown = map_path.as_posix() if isinstance(map_path, PurePath) else map_path
    report = {"status": "plan", **to_document(map_file)}
    report["stages"] = [
        {"device": stage.device, "blocks": list(stage.blocks)} for stage in plan.stages
    ]
    report["contiguous"] = plan.contiguous
    report["map_path"] = shown if written else None
    report["load"] = {"imports": import_lines(map_file), "line": load_line(map_file, shown)}
    return report_json(report)


def infeasible_json(
    infeasible: Infeasible,
    model: ModelIdentity,
    machine: Machine,
    workload: Workload,
    notes: Sequence[str] = (),
) -> str:
    """Report of a plan that does not exist as JSON text."""
    bound = infeasible.lower_bound
    report = {
        "status": "infeasible",
        "schema": SCHEMA_VERSION,
        "model": model_document(model),
        "machine": machine_document(machine),
        "workload": workload_document(workload),
        "main_device": machine.main_device,
        "reason": infeasible.reason,
        "shortfalls": [
            {"device": device, "missing_bytes": missing}
            for device, missing in infeasible.shortfalls.items()
        ],
        "prediction": prediction_document(infeasible.loads),
        "lower_bound": bound if math.isfinite(bound) else None,
        "proven": infeasible.proven,
        "remedies": [remedy.change for remedy in infeasible.remedies],
        "notes": list(notes),
    }
    return report_json(report)
