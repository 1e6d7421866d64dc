"""The report of `devplan doctor`: this machine and its differences from the map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from devplan.core import DeviceMapFile, Environment, Finding, FoundCard, Severity, format_bytes
from devplan.mapfile import SCHEMA_VERSION, gib_cell, lock_document
from devplan.report.sections import format_seconds
from devplan.report.terminal import Terminal, joined_sections, report_json, table_lines
from devplan.report.words import machine_in_words, workload_in_words
from devplan.rules import RULES

_HEADS = ("card", "name", "GiB", "free", "others", "capability", "nvidia-smi")
_STYLES = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}
_FEW_LINKS = 4
_YES_NO = {True: "yes", False: "no", None: "?"}
_LIBRARIES = ("transformers", "accelerate", "safetensors", "diffusers")


def doctor_text(
    environment: Environment,
    found: Sequence[Finding],
    terminal: Terminal,
    *,
    map_file: DeviceMapFile | None = None,
    map_name: str = "",
    notes: Sequence[str] = (),
) -> str:
    """The whole report; without a map only what stands in the way of any."""
    sections = [("This machine", machine_lines(environment, terminal))]
    sections.append(("Links", _link_lines(environment, terminal)))
    sections.append(("Peer access", _peer_lines(environment, terminal)))
    if map_file is not None:
        sections.append((f"Map {map_name}", _map_lines(map_file, terminal)))
    counted = [each for each in found if each.severity is not Severity.NOTE]
    sections += [("", difference_lines(each, terminal)) for each in counted]
    remarks = [each for each in found if each.severity is Severity.NOTE]
    lines = [line for each in remarks for line in _note_lines(each, terminal)]
    said = (*environment.notes, *notes)
    lines += [line for note in said for line in terminal.paragraph(note, rest="    ")]
    sections.append(("Notes", lines))
    sections.append(
        ("", _verdict_lines(found, environment, terminal, has_map=map_file is not None))
    )
    return joined_sections(sections, terminal)


def machine_lines(environment: Environment, terminal: Terminal) -> list[str]:
    """Driver, libraries, memory, and a table of the cards."""
    versions = environment.versions
    lines = terminal.paragraph(
        f"{_driver(environment)}; torch {versions.get('torch', '?')} {_build(environment)}; "
        f"Python {environment.python}"
    )
    others = [f"{name} {versions[name]}" for name in _LIBRARIES if name in versions]
    lines += terminal.paragraph(", ".join(others) or "no other library of a map is installed")
    lines += terminal.paragraph(_rooms(environment))
    if not environment.cards:
        return lines + terminal.paragraph("no GPU that torch can use")
    rows = [_cells(card) for card in environment.cards]
    return [*lines, "", *table_lines(_HEADS, rows, terminal, words=2)]


def _driver(environment: Environment) -> str:
    if environment.driver is None and environment.driver_cuda is None:
        return "no NVIDIA driver"
    name = f"driver {environment.driver}" if environment.driver else "driver of unknown version"
    latest = environment.driver_cuda
    return name if latest is None else f"{name} for CUDA up to {latest[0]}.{latest[1]}"


def _build(environment: Environment) -> str:
    if environment.torch_hip is not None:
        return f"for ROCm {environment.torch_hip}"
    return f"for CUDA {environment.torch_cuda}" if environment.torch_cuda else "without CUDA"


def _rooms(environment: Environment) -> str:
    memory = "?" if environment.memory_bytes is None else format_bytes(environment.memory_bytes)
    disk = "?" if environment.disk_bytes is None else format_bytes(environment.disk_bytes)
    return f"{memory} of CPU memory free; {disk} of disk for {environment.offload_folder}"


def _cells(card: FoundCard) -> list[str]:
    return [
        card.device,
        card.name,
        gib_cell(card.capacity_bytes),
        "?" if card.free_bytes is None else gib_cell(card.free_bytes),
        gib_cell(card.taken_bytes),
        ".".join(map(str, card.compute_capability)) if card.compute_capability else "?",
        "?" if card.driver_index is None else f"GPU {card.driver_index}",
    ]


def _link_lines(environment: Environment, terminal: Terminal) -> list[str]:
    """Links of one kind in one sentence."""
    kinds: dict[tuple[str, int, float, str], list[str]] = {}
    for link in environment.links:
        kind = (link.name, link.bytes_per_s, link.latency_s, link.basis)
        kinds.setdefault(kind, []).append(f"{link.source} - {link.target}")
    lines = []
    for (name, bytes_per_s, latency_s, basis), pairs in kinds.items():
        where = ", ".join(pairs) if len(pairs) <= _FEW_LINKS else f"{len(pairs)} pairs"
        rate = f"{bytes_per_s / 10**9:.3g} GB/s, {format_seconds(latency_s)} ({basis})"
        lines += terminal.paragraph(f"{where}: {name}, {rate}", rest="    ")
    if any(link.basis != "measured" for link in environment.links):
        lines += terminal.paragraph("by the names of the GPUs; --measure times copies instead")
    return lines


def _peer_lines(environment: Environment, terminal: Terminal) -> list[str]:
    """One sentence where all pairs are alike, else a matrix: rows reach columns."""
    answers = set(environment.peers.values())
    if len(answers) < 2:
        words = {True: "each GPU reads the others' memory", False: "no GPU reads another's"}
        return [line for each in answers for line in terminal.paragraph(words[each])]
    devices = [card.device for card in environment.cards]
    rows = [
        [a, *("." if a == b else _YES_NO[environment.peers.get((a, b))] for b in devices)]
        for a in devices
    ]
    return [*table_lines(["from", *devices], rows, terminal), "  rows read the memory of columns"]


def _map_lines(map_file: DeviceMapFile, terminal: Terminal) -> list[str]:
    model = map_file.model
    lines = terminal.paragraph(f"{model.id}, {model.class_name}")
    lines += terminal.paragraph(machine_in_words(map_file.machine))
    lines += terminal.paragraph(workload_in_words(map_file.workload))
    needs = ", ".join(
        f"{format_bytes(load.load_bytes + load.activation_bytes)} on {load.device}"
        for load in map_file.loads
    )
    lines += terminal.paragraph(f"puts {needs}, without the reserve")
    return lines + terminal.paragraph(_lock_words(map_file))


def _lock_words(map_file: DeviceMapFile) -> str:
    lock = map_file.environment
    if lock is None:
        return "not locked; `devplan lock` writes the environment into it"
    cards = ", ".join(f"{card.device} {card.name}" for card in lock.cards)
    return f"locked to {cards}, driver {lock.driver}" if cards else "locked to versions only"


def difference_lines(difference: Finding, terminal: Terminal) -> list[str]:
    """One difference: what, and what to do."""
    head = f"{difference.severity.value} {difference.code}"
    painted = terminal.paint(head, _STYLES[difference.severity])
    lines = [f"{painted} {RULES[difference.code].name}"]
    lines += terminal.paragraph(difference.message)
    if difference.fix.text:
        lines += terminal.paragraph(f"fix: {difference.fix.text}", rest="    ")
    return lines


def _note_lines(difference: Finding, terminal: Terminal) -> list[str]:
    remedy = f"; {difference.fix.text}" if difference.fix.text else ""
    return terminal.paragraph(f"{difference.code} {difference.message}{remedy}", rest="    ")


def _verdict_lines(
    found: Sequence[Finding], environment: Environment, terminal: Terminal, *, has_map: bool
) -> list[str]:
    counts = {
        severity: sum(each.severity is severity for each in found)
        for severity in (Severity.ERROR, Severity.WARNING)
    }
    words = [
        f"{count} {severity.value}{'' if count == 1 else 's'}"
        for severity, count in counts.items()
        if count
    ]
    if has_map:
        verdict = "this machine does not fit the map" if counts[Severity.ERROR] else "the map fits"
    elif counts[Severity.ERROR]:
        verdict = "no map can be used like this"
    else:
        verdict = "nothing prevents the use of a map" if environment.cards else "no GPU here"
    more = "; `devplan explain CODE` says more" if found else ""
    text = f"{verdict}{': ' if words else ''}{', '.join(words)}{more}"
    style = "red" if counts[Severity.ERROR] else "green"
    first, *rest = terminal.paragraph(text, first="")
    return [terminal.paint(first, style), *rest]


# --------------------------------------------------------------------------------------- JSON


def doctor_json(
    environment: Environment,
    found: Sequence[Finding],
    *,
    map_file: DeviceMapFile | None = None,
    map_name: str | None = None,
    remapped_to: str | None = None,
    notes: Sequence[str] = (),
) -> str:
    """The machine, the map's name and lock, the differences, and whether one matters."""
    lock = map_file.environment if map_file else None
    return report_json(
        {
            "schema": SCHEMA_VERSION,
            "fits": None
            if map_file is None
            else not any(each.severity is Severity.ERROR for each in found),
            "map": map_name,
            "lock": lock_document(lock) if lock else None,
            "remapped_to": remapped_to,
            "differences": [difference_document(each) for each in found],
            "environment": environment_document(environment),
            "notes": [*environment.notes, *notes],
        }
    )


def difference_document(difference: Finding) -> dict[str, Any]:
    """One difference."""
    return {
        "code": difference.code,
        "severity": difference.severity.value,
        "subject": difference.module,
        "message": difference.message,
        "planned": difference.planned,
        "present": difference.found,
        "remedy": difference.fix.text,
    }


def environment_document(environment: Environment) -> dict[str, Any]:
    """The machine; pairs of devices are written with a blank between them, as in a map."""
    document = asdict(environment)
    document["peers"] = [
        {"source": a, "target": b, "access": access} for (a, b), access in environment.peers.items()
    ]
    document["links"] = [asdict(link) for link in environment.links]
    del document["notes"]
    return document
