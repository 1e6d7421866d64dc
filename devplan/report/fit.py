"""The table of `devplan fit`, as text and as JSON."""

from __future__ import annotations

import shlex
from itertools import groupby
from typing import Any

from devplan.core import Infeasible, Machine, format_bytes, to_hf_device_map
from devplan.mapfile import (
    SCHEMA_VERSION,
    contract_entries,
    gib_cell,
    machine_document,
    model_document,
    workload_document,
)
from devplan.report.terminal import (
    OWN_LIMIT,
    UNKNOWN,
    Terminal,
    joined_sections,
    report_json,
    table_lines,
    tokens_cell,
)
from devplan.report.words import format_count, workload_in_words
from devplan.workflows import FitResult, Row, VerifiedPlan

HEADS = ("machine", "weights", "GiB", "share", "most tokens", "batch", "full first", "run")


def fit_text(result: FitResult, terminal: Terminal) -> str:
    """One row an offer and precision, the best first, and how to go on."""
    identity = result.identity
    heading = [terminal.paint(identity.id, "bold")]
    heading += terminal.paragraph(
        f"{identity.class_name}, {format_count(identity.num_parameters)} parameters"
    )
    heading += terminal.paragraph(f"asked: {workload_in_words(result.workload)}")
    rows = [_cells(row) for row in result.rows]
    sections = [
        ("", heading),
        ("", [*table_lines(HEADS, rows, terminal, words=2), *_legend(result, terminal)]),
        ("What does not run", _broken_lines(result, terminal)),
        ("Next", _next_lines(result, terminal)),
        ("Notes", [line for note in result.notes for line in terminal.paragraph(note)]),
    ]
    return joined_sections(sections, terminal)


def _cells(row: Row) -> tuple[str, ...]:
    start = (row.offer.label, row.precision, gib_cell(row.weight_bytes))
    if isinstance(row.asked, Infeasible):
        return (*start, "-", "-", "-", f"lacks {format_bytes(row.missing_bytes)}", "-")
    if not row.fits:
        return (*start, f"{row.share:.1%}", "-", "-", "-", row.asked.errors[0].code)
    if row.tokens is None:
        return (*start, f"{row.share:.1%}", UNKNOWN, UNKNOWN, "-", _run_cell(row))
    sequences = "any" if row.most_sequences is None else f"{row.most_sequences:,}"
    limit = row.limit_tokens if row.ends_at_model else None
    return (
        *start,
        f"{row.share:.1%}",
        tokens_cell(row.most_tokens, limit),
        sequences,
        row.first_full or "-",
        _run_cell(row),
    )


def _run_cell(row: Row) -> str:
    if row.is_proven:
        return "clean"
    ran = [a for a in (row.asked, row.tokens, row.sequences) if _was_run(a)]
    return "part" if ran else "-"


def _was_run(answer: VerifiedPlan | Infeasible | None) -> bool:
    return isinstance(answer, VerifiedPlan) and answer.is_proven


def _legend(result: FitResult, terminal: Terminal) -> list[str]:
    asked = result.workload
    sentences = [
        "share: load of the fullest GPU less reserve and activations, as asked",
        f"most tokens: per sequence at batch {asked.batch}",
        f"batch: most sequences of {asked.tokens:,} tokens",
        "run clean: all three were run virtually; -: planned, not run",
    ]
    if any(row.ends_at_model for row in result.rows):
        sentences.append(OWN_LIMIT)
    if any(row.fits and row.tokens is None for row in result.rows):
        sentences.append("?: not known, as the model's code was not run")
    loads = {row.precision: row.load for row in result.rows if row.fits and row.load}
    sentences += [f"{precision}: {load}" for precision, load in loads.items()]
    if any(row.offer.kind for row in result.rows):
        sentences.append("of a kind of GPU the fewest that suffice are shown")
    text = "; ".join(sentences)
    return [terminal.paint(line, "dim") for line in terminal.paragraph(text)]


def _broken_lines(result: FitResult, terminal: Terminal) -> list[str]:
    lines = []
    for row in result.rows:
        for name, answer in _answers(row).items():
            if isinstance(answer, VerifiedPlan) and answer.errors:
                text = f"{row.offer.label}, {row.precision}, {name}: {answer.verification.detail}"
                lines += terminal.paragraph(text, rest="    ")
    return lines


def _answers(row: Row) -> dict[str, VerifiedPlan | Infeasible | None]:
    return {"workload": row.asked, "most_tokens": row.tokens, "most_sequences": row.sequences}


def _next_lines(result: FitResult, terminal: Terminal) -> list[str]:
    """The command that writes the map of the best row, or what the nearest miss lacks."""
    if not result.rows:
        return []
    best, asked = result.rows[0], result.workload
    if not result.fits:
        reason = best.asked.reason if isinstance(best.asked, Infeasible) else "it does not run"
        return terminal.paragraph(
            f"Nothing fits. The nearest is {best.offer.label} with {best.precision}: {reason}"
        )
    command = f"devplan suggest {result.identity.id} --gpus {gpus_option(best.offer.machine)}"
    options = {
        "--batch": asked.batch if asked.batch > 1 else None,
        "--context": asked.tokens,
        "--kv-dtype": asked.kv_dtype,
        "--images": asked.images,
        "--image-size": "{}x{}".format(*asked.image_size) if asked.image_size else None,
    }
    told = [f"{name} {value}" for name, value in options.items() if value is not None]
    told += ["--packed"] if result.identity.packed else []
    told += [f"--quantize {shlex.quote(best.quantize)}"] if best.quantize else []
    return terminal.paragraph(" ".join([command, *told]), rest="      ")


def gpus_option(machine: Machine) -> str:
    """The cards as ``--gpus`` takes them: ``2x24GiB,12GiB``."""
    runs = [(name, len(list(run))) for name, run in groupby(card.name for card in machine.cards)]
    return ",".join(f"{count}x{name}" if count > 1 else name for name, count in runs)


# --------------------------------------------------------------------------------------- JSON


def fit_json(result: FitResult) -> str:
    """The same for programs; keys are added, never renamed, within one schema version."""
    return report_json(
        {
            "schema": SCHEMA_VERSION,
            "status": "fits" if result.fits else "nothing fits",
            "model": model_document(result.identity),
            "workload": workload_document(result.workload),
            "rows": [_row_document(row) for row in result.rows],
            "notes": list(result.notes),
        }
    )


def _row_document(row: Row) -> dict[str, Any]:
    asked = row.asked
    return {
        "label": row.offer.label,
        "machine": machine_document(row.offer.machine),
        "fewest_of": row.offer.kind,
        "num_cards": len(row.offer.machine.cards),
        "capacity_bytes": row.total_bytes,
        "precision": row.precision,
        "load_with": row.load or None,
        "weights_bytes": row.weight_bytes,
        "fits": row.fits,
        "share": row.share,
        "most_tokens": row.most_tokens,
        "tokens_limited_by": _limited_by(row),
        "first_full": row.first_full,
        "most_sequences": row.most_sequences,
        "missing_bytes": row.missing_bytes,
        "reason": asked.reason if isinstance(asked, Infeasible) else None,
        "device_map": None
        if isinstance(asked, Infeasible)
        else to_hf_device_map(contract_entries(asked.plan.placement)),
        "runs": {
            name: {"status": answer.verification.status, "detail": answer.verification.detail}
            for name, answer in _answers(row).items()
            if isinstance(answer, VerifiedPlan)
        },
    }


def _limited_by(row: Row) -> str | None:
    if row.most_tokens is None:
        return None
    return "model" if row.ends_at_model else "memory"
