"""The report of `devplan diff`, as text and as JSON."""

from __future__ import annotations

from devplan.io import visible
from devplan.mapfile import (
    SCHEMA_VERSION,
    covering_modules,
    gib_cell,
    model_document,
    workload_document,
)
from devplan.report.evaluation import (
    fullest_cell,
    judged_document,
    judged_finding_lines,
    reach_cell,
    run_cell,
    spilled_cell,
    traffic_cell,
)
from devplan.report.terminal import OWN_LIMIT, Terminal, joined_sections, report_json, table_lines
from devplan.report.words import folded_names, workload_in_words
from devplan.workflows import Change, Evaluation, MapDiff


def diff_text(diff: MapDiff, terminal: Terminal) -> str:
    """What moved, then both maps side by side."""
    heading = [terminal.paint(visible(diff.identity.id), "bold")]
    heading += terminal.paragraph(workload_in_words(diff.workload))
    heading += [f"  A  {visible(diff.before.name)}", f"  B  {visible(diff.after.name)}"]
    found = [
        line
        for letter, judged in (("A", diff.before), ("B", diff.after))
        if (lines := judged_finding_lines(judged, terminal))
        for line in (f"  {letter}", *lines)
    ]
    sections = [
        ("", heading),
        ("Entries", moved_lines(diff, terminal)),
        ("GPUs (GiB; peak: everything at the fullest moment)", _card_lines(diff, terminal)),
        ("Side by side", _side_lines(diff, terminal)),
        ("Findings", found),
        ("Notes", [line for note in diff.notes for line in terminal.paragraph(note)]),
    ]
    return joined_sections(sections, terminal)


def moved_lines(diff: MapDiff, terminal: Terminal) -> list[str]:
    """``cuda:0 -> cuda:1  model.layers.17-27 (11 blocks)``."""
    lines = []
    if diff.before.subject.main_device != diff.after.subject.main_device:
        mains = (diff.before.subject.main_device, diff.after.subject.main_device)
        lines.append("  inputs enter on {} in A and on {} in B".format(*mains))
    moves = [f"{change.before} -> {change.after}" for change in diff.changes]
    wide = max(map(len, moves), default=0)
    for move, change in zip(moves, diff.changes, strict=True):
        lines += terminal.paragraph(
            ", ".join(_names(change, diff)) + _counted(change),
            first=f"  {move:<{wide}}  ",
            rest=" " * (wide + 4),
        )
    return lines or ["  every tensor is on the same device in both"]


def _names(change: Change, diff: MapDiff) -> list[str]:
    """Whole blocks folded, then the modules or tensors of blocks that a map divides."""
    whole = [name for name in change.names if name in set(diff.blocks)]
    parts = [name for name in change.names if name not in set(whole)]
    tensors = diff.before.subject.structure.tensors
    return [*folded_names(whole, diff.blocks), *covering_modules(parts, tensors)]


def _counted(change: Change) -> str:
    count = len(change.names)
    return f"; {count} in all" if count > 1 else ""


def _card_lines(diff: MapDiff, terminal: Terminal) -> list[str]:
    sides = [{load.device: load for load in side.loads} for side in (diff.before, diff.after)]
    devices = dict.fromkeys(device for side in sides for device in side)
    heads = ["card", "A weights", "A cache", "A peak", "B weights", "B cache", "B peak"]
    rows = []
    for device in devices:
        row = [device]
        for side in sides:
            load = side.get(device)
            if load is None:
                row += ["-", "-", "-"]
                continue
            peak = gib_cell(load.load_bytes + load.activation_bytes)
            row += [gib_cell(load.weight_bytes), gib_cell(load.cache_bytes), peak]
        rows.append(row)
    return table_lines(heads, rows, terminal)


def _side_lines(diff: MapDiff, terminal: Terminal) -> list[str]:
    sides: tuple[Evaluation, Evaluation] = (diff.before, diff.after)
    tokens = [reach_cell(side, diff.limit_tokens) for side in sides]
    rows = [
        ("virtual run", *[run_cell(side) for side in sides]),
        ("fullest GPU, of its capacity", *[fullest_cell(side) for side in sides]),
        ("spilled (GiB)", *[spilled_cell(side) for side in sides]),
        ("copies for the prompt", *[traffic_cell(side.prompt) for side in sides]),
        ("copies per generated token", *[traffic_cell(side.token) for side in sides]),
        ("most tokens, foretold", *tokens),
        ("full first", *[side.first_full or "-" for side in sides]),
    ]
    lines = table_lines(("", "A", "B"), rows, terminal)
    own = any(cell.endswith("*") for cell in tokens)
    return [*lines, *([terminal.paint(f"  {OWN_LIMIT}", "dim")] if own else [])]


def diff_json(diff: MapDiff) -> str:
    """The same for programs; keys are added, never renamed, within one schema version."""
    return report_json(
        {
            "schema": SCHEMA_VERSION,
            "status": "same" if diff.is_same else "different",
            "model": model_document(diff.identity),
            "workload": workload_document(diff.workload),
            "limit_tokens": diff.limit_tokens,
            "changes": [
                {"before": each.before, "after": each.after, "names": list(each.names)}
                for each in diff.changes
            ],
            "before": judged_document(diff.before),
            "after": judged_document(diff.after),
            "notes": list(diff.notes),
        }
    )
