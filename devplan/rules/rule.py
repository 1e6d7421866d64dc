"""A rule, and its docstring as a page.

The docstring of a rule's module opens with one line, ``Title.``, and has the sections of
`SECTIONS` in their order, each under a heading with a colon at the end of the line::

    Uncovered tensor.

    What it does:
        ...
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType

from devplan.core import Finding, Severity
from devplan.rules.context import CheckContext

SECTIONS = ("What it does", "Why it breaks", "Example", "Use instead", "Limits")

Check = Callable[[CheckContext], Iterator[Finding]]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule of the table."""

    code: str
    name: str
    """``device-mismatch``."""
    severity: Severity
    """What it usually gives; a finding may be milder, and then says why."""
    check: Check
    doc: str

    @property
    def title(self) -> str:
        return self.doc.partition("\n")[0].rstrip(".")

    @property
    def sections(self) -> dict[str, str]:
        """Heading -> text; paragraphs keep their line breaks."""
        found: dict[str, list[str]] = {}
        heading = ""
        for line in self.doc.splitlines()[1:]:
            if line and not line.startswith(" ") and line.endswith(":"):
                heading = line[:-1]
                found[heading] = []
            elif heading:
                found[heading].append(line)
        return {
            name: textwrap.dedent("\n".join(lines)).strip("\n") for name, lines in found.items()
        }


def rule_of(code: str, module: ModuleType) -> Rule:
    """The rule that a module of ``devplan.rules`` holds."""
    return Rule(
        code=code,
        name=module.__name__.rpartition(".")[2].replace("_", "-"),
        severity=module.SEVERITY,
        check=module.check,
        doc=inspect.cleandoc(module.__doc__ or ""),
    )
