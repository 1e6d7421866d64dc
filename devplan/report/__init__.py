"""What a person or a program is told: plans and infeasible plans as text and as JSON.

Nothing here decides, measures or prints: data in, text out.  The command line prints.
"""

from __future__ import annotations

from devplan.report.json import infeasible_json, plan_json
from devplan.report.sums import does_not_run, sums_text
from devplan.report.terminal import Terminal, terminal_of
from devplan.report.text import infeasible_text, plan_text

__all__ = [
    "Terminal",
    "does_not_run",
    "infeasible_json",
    "infeasible_text",
    "plan_json",
    "plan_text",
    "sums_text",
    "terminal_of",
]
