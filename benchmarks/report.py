"""What a benchmark found: prose, tables and requirements, and how they become markdown."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from tools.commit import commit

MEASURED_WITH = ("torch", "transformers", "accelerate", "numpy")


class RefusedError(Exception):
    """A benchmark cannot run here or as asked; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows with the same keys; the keys are the headings."""

    title: str
    rows: Sequence[Mapping[str, object]]


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """A bound that devplan sets itself, and whether this run kept it."""

    text: str
    measured: str
    met: bool


@dataclass(frozen=True, kw_only=True)
class Report:
    """One benchmark's result."""

    title: str
    prose: str
    """What was measured and how, in markdown."""
    tables: Sequence[Table]
    requirements: Sequence[Requirement] = ()

    @property
    def missed(self) -> list[Requirement]:
        return [requirement for requirement in self.requirements if not requirement.met]


def as_markdown(report: Report, command: str) -> str:
    """The page of a report; nothing in it changes between runs but what was measured."""
    parts = [f"# {report.title}", report.prose.strip(), setting(command)]
    if report.requirements:
        rows = [
            {"required": r.text, "measured": r.measured, "met": "yes" if r.met else "**no**"}
            for r in report.requirements
        ]
        parts.append(_table("Requirements", rows))
    parts += [_table(table.title, table.rows) for table in report.tables]
    return "\n\n".join(parts) + "\n"


def setting(command: str) -> str:
    """Where it was measured, in general words."""
    versions = ", ".join(f"{name} {_version(name)}" for name in MEASURED_WITH)
    return (
        f"`{command}`, Python {platform.python_version()}, {versions}; "
        f"{len(os.sched_getaffinity(0))} CPU cores ({platform.machine()}), no GPU used; "
        f"at commit {commit()}."
    )


def write(report: Report, name: str, folder: Path) -> Path:
    """Write the page of a report into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.md"
    path.write_text(as_markdown(report, f"python -m benchmarks {name}"), encoding="utf-8")
    return path


def _version(name: str) -> str:
    return importlib.metadata.version(name).partition("+")[0]


def _table(title: str, rows: Sequence[Mapping[str, object]]) -> str:
    # Cells are texts already: tabulate must not read "24" or "0.50" as numbers and reformat them.
    body = tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)
    return f"## {title}\n\n{body}"
