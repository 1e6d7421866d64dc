"""The table of `devplan compare`, as text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence

from devplan.mapfile import SCHEMA_VERSION, machine_document, model_document, workload_document
from devplan.report.evaluation import (
    fullest_cell,
    judged_document,
    judged_finding_lines,
    reach_cell,
    run_cell,
    share_rows,
    spilled_cell,
    traffic_cell,
)
from devplan.report.terminal import (
    OWN_LIMIT,
    UNKNOWN,
    Terminal,
    joined_sections,
    report_json,
    table_lines,
)
from devplan.report.words import heading_lines
from devplan.workflows import Comparison, Contender, Evaluation

HEADS = ("planner", "run", "fullest GPU", "spilled", "copies", "most tokens")
MOST_CARDS = 8
"""Columns of shares that 80 characters hold beside the planners."""


def compare_text(comparison: Comparison, terminal: Terminal) -> str:
    """One row a planner, the peak of every card, and what is in the way."""
    drawn = [each for each in comparison.contenders if each.judged is not None]
    rows = [_cells(each, comparison.limit_tokens) for each in comparison.contenders]
    sections = [
        (
            "",
            heading_lines(comparison.identity, comparison.machine, comparison.workload, terminal),
        ),
        ("", [*table_lines(HEADS, rows, terminal, words=3), *_legend(comparison, rows, terminal)]),
        *_share_sections(drawn, comparison.machine.devices, terminal),
        ("What is in the way", _in_the_way(comparison, terminal)),
        ("Notes", [line for note in comparison.notes for line in terminal.paragraph(note)]),
    ]
    return joined_sections(sections, terminal)


def _cells(contender: Contender, limit: int | None) -> tuple[str, ...]:
    judged = contender.judged
    if judged is None:
        return (contender.name, "no map", "-", "-", "-", "-")
    return (
        contender.name,
        run_cell(judged),
        fullest_cell(judged),
        spilled_cell(judged),
        traffic_cell(judged.token or judged.prompt),
        reach_cell(judged, limit),
    )


def _legend(
    comparison: Comparison, rows: Sequence[tuple[str, ...]], terminal: Terminal
) -> list[str]:
    shown = next((each.judged for each in comparison.contenders if each.judged), None)
    copies = "of one generated token" if shown and shown.token else "of one forward"
    sentences = [
        f"accelerate: infer_auto_device_map as called by hand ({_version('accelerate', shown)})",
        "auto (the same as balanced), balanced_low_0, sequential: from_pretrained(device_map=...) "
        f"({_version(comparison.library, shown)})",
        "fullest GPU: everything at the fullest moment of the virtual run, of its capacity",
        "spilled: GiB of weights on cpu or disk",
        f"copies: between devices, {copies}",
        "most tokens: per sequence, foretold",
    ]
    cells = {row[-1] for row in rows}
    sentences += [OWN_LIMIT] if any(cell.endswith("*") for cell in cells) else []
    sentences += ["?: not known, as the model's code was not run"] if UNKNOWN in cells else []
    return [terminal.paint(line, "dim") for line in terminal.paragraph("; ".join(sentences))]


def _version(library: str, judged: Evaluation | None) -> str:
    installed = judged.subject.installed if judged else {}
    return f"{library} {installed[library]}" if library in installed else library


def _share_sections(
    drawn: Sequence[Contender], devices: Sequence[str], terminal: Terminal
) -> list[tuple[str, list[str]]]:
    """Peak share of every card, so many cards a table as a line holds."""
    if not drawn:
        return []
    heading, found = "Everything on each GPU at the fullest moment, of its capacity", []
    for start in range(0, len(devices), MOST_CARDS):
        some = devices[start : start + MOST_CARDS]
        rows = share_rows([(each.name, each.judged) for each in drawn], some)
        found.append((heading, table_lines(("planner", *some), rows, terminal)))
        heading = ""
    return found


def _in_the_way(comparison: Comparison, terminal: Terminal) -> list[str]:
    lines = []
    for each in comparison.contenders:
        said = (
            terminal.paragraph(each.refusal, first="    ", rest="      ")
            if each.judged is None
            else judged_finding_lines(each.judged, terminal)
        )
        lines += [f"  {each.name}", *said] if said else []
    return lines


def compare_json(comparison: Comparison) -> str:
    """The same for programs; keys are added, never renamed, within one schema version."""
    return report_json(
        {
            "schema": SCHEMA_VERSION,
            "status": "clean" if comparison.own.is_clean else "no clean map",
            "model": model_document(comparison.identity),
            "machine": machine_document(comparison.machine),
            "workload": workload_document(comparison.workload),
            "limit_tokens": comparison.limit_tokens,
            "planners": [_planner_document(each) for each in comparison.contenders],
            "notes": list(comparison.notes),
        }
    )


def _planner_document(contender: Contender) -> dict:
    if contender.judged is None:
        return {"name": contender.name, "clean": False, "refusal": contender.refusal}
    return {**judged_document(contender.judged), "refusal": None}
