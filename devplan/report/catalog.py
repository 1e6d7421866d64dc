"""The catalogues of models and GPUs, as text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from devplan.catalog import CatalogModel, Gpu
from devplan.core import format_bytes, format_gib
from devplan.report.terminal import Terminal, joined_sections, report_json, table_lines

if TYPE_CHECKING:
    from devplan.workflows import ModelSummary


HEADS = ("model", "class", "verified", "parameters", "stored GiB")
_KINDS = {
    "transformers": "a class of transformers, built at full size and run virtually",
    "diffusers": "a class of diffusers, built at full size and run virtually",
    "tensors": "the model's own code is not available: planned from the names and shapes of "
    "its tensors "
    "(DP901)",
    "code": "the model's own code, of which nothing but these totals is public",
}
"""What devplan can do with an entry, by its library."""


def models_text(entries: Sequence[CatalogModel], terminal: Terminal) -> str:
    """One line an entry."""
    rows = [
        (
            entry.id,
            entry.class_name,
            entry.verified,
            _count(entry),
            format_gib(entry.stored_bytes) if entry.stored_bytes else "-",
        )
        for entry in entries
    ]
    how = (
        "verified: the class, built on the meta device, has the published number of parameters "
        "to the last (exact), or within the rounding in which it was published (rounded); "
        "unverified: its layers are not public. `devplan models NAME` shows one."
    )
    sections = [("", table_lines(HEADS, rows, terminal, words=3)), ("", terminal.paragraph(how))]
    return joined_sections(sections, terminal)


def models_json(entries: Sequence[CatalogModel]) -> str:
    """The same for programs."""
    return report_json({"models": [_facts(entry) for entry in entries]})


def model_text(known: ModelSummary, terminal: Terminal) -> str:
    """Everything about one entry."""
    entry = known.entry
    sections = [
        ("", _heading(known, terminal)),
        ("Parameters", _parameter_lines(entry, terminal)),
        ("Checkpoint", _checkpoint_lines(entry, terminal)),
        ("Weights by dtype", _size_lines(known, terminal)),
        ("Sources", _source_lines(entry, terminal)),
        ("Try", [f"  {command}" for command in commands(entry)]),
    ]
    return joined_sections(sections, terminal)


def model_json(known: ModelSummary) -> str:
    """The same for programs."""
    sizes = [{"name": size.name, "how": size.how, "bytes": size.num_bytes} for size in known.sizes]
    more = {
        "executable": known.executable,
        "max_tokens": known.max_tokens,
        "sizes": sizes,
        "why_no_sizes": known.why_no_sizes or None,
        "config": dict(known.entry.config),
        "commands": list(commands(known.entry)),
    }
    return report_json({**_facts(known.entry), **more})


def commands(entry: CatalogModel) -> tuple[str, ...]:
    """What to type next; of a model that cannot be planned yet, what has to be there first."""
    if entry.library == "code":
        return (
            "devplan suggest ./FOLDER --gpus 2x24GiB   # config.json and safetensors files: a plan",
            "devplan suggest ./FOLDER --gpus 2x24GiB --trust-remote-code   # its *.py too: a proof",
        )
    return (
        f"devplan fit {entry.id} --card a100-80gb",
        f"devplan suggest {entry.id} --gpus 2x80GiB",
        f"devplan check MAP.yaml --model {entry.id}",
    )


def _count(entry: CatalogModel) -> str:
    if entry.published_parameters is None:
        return "-"
    return f"{entry.published_parameters:,}"


def _heading(known: ModelSummary, terminal: Terminal) -> list[str]:
    entry = known.entry
    lines = [terminal.paint(entry.id, "bold")]
    model_type = f", model type {entry.model_type}" if entry.model_type else ""
    lines += terminal.paragraph(f"{entry.class_name}{model_type}: {_KINDS[entry.library]}")
    if known.max_tokens:
        lines += terminal.paragraph(f"up to {known.max_tokens:,} tokens")
    return lines + (terminal.paragraph(entry.note) if entry.note else [])


def _parameter_lines(entry: CatalogModel, terminal: Terminal) -> list[str]:
    rounding = f", published rounded to {entry.rounded_to:,}" if entry.rounded_to > 1 else ""
    lines = terminal.paragraph(f"{_count(entry)} ({entry.verified}{rounding})")
    for reason, number in entry.adjustments.items():
        lines += terminal.paragraph(f"{number:,} of them: {reason}", first="    ")
    return lines


def _checkpoint_lines(entry: CatalogModel, terminal: Terminal) -> list[str]:
    if entry.stored_bytes is None:
        return []
    basis = "as published" if entry.checkpoint_bytes else "computed"
    method = (entry.quantization_config or {}).get("quant_method")
    dtype = f"{method} and {entry.dtype}" if method else entry.dtype
    size = f"{format_bytes(entry.stored_bytes)}, {entry.stored_bytes:,} bytes"
    lines = terminal.paragraph(f"{size} ({basis}), {dtype}")
    for reason, number in entry.checkpoint_beyond.items():
        lines += terminal.paragraph(f"{number:,} of them: {reason}", first="    ")
    return lines


def _size_lines(known: ModelSummary, terminal: Terminal) -> list[str]:
    if not known.sizes:
        return terminal.paragraph(known.why_no_sizes)
    rows = [(size.name, size.how, format_gib(size.num_bytes)) for size in known.sizes]
    return table_lines(("dtype", "how", "GiB"), rows, terminal, words=2)


def _source_lines(entry: CatalogModel, terminal: Terminal) -> list[str]:
    return [
        line
        for of, source in entry.sources.items()
        for line in terminal.paragraph(f"{of}: {source}", rest="    ")
    ]


def _facts(entry: CatalogModel) -> dict[str, Any]:
    return {
        "id": entry.id,
        "library": entry.library,
        "class": entry.class_name,
        "model_type": entry.model_type,
        "dtype": entry.dtype,
        "quantization": (entry.quantization_config or {}).get("quant_method"),
        "parameters": entry.published_parameters,
        "adjustments": dict(entry.adjustments),
        "verified": entry.verified,
        "rounded_to": entry.rounded_to,
        "stored_bytes": entry.stored_bytes,
        "checkpoint_bytes": entry.checkpoint_bytes,
        "sources": dict(entry.sources),
        "note": entry.note or None,
    }


# --------------------------------------------------------------------------------------- GPUs


_GPU_HEADS = ("name", "reported as", "GiB")
_HOW = (
    "GiB: what torch reports, which a plan counts on; * what the driver reports, ** the marketed "
    "size, where no better figure was found. Write them as --gpus rtx-4090, 2xa100-80gb or h100x4; "
    "any other GPU by its size, as --gpus 2x24GiB."
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
    heads = (*_GPU_HEADS[:-1], f"{_GPU_HEADS[-1]}{' ' * widest}")
    lines = table_lines(heads, rows, terminal, words=2)
    return joined_sections([("", lines), ("", terminal.paragraph(_HOW))], terminal)


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
