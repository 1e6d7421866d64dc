"""``devplan explain``: the page of a rule."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def explain_command(
    code: Annotated[
        str | None,
        typer.Argument(
            metavar="CODE",
            help="Code of a rule (DP301) or its name (device-mismatch). Default: list all.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Print what a rule of `devplan check` finds, why it breaks, and what to do.

    \b
    devplan explain DP301
    """
    from devplan.report import terminal_of
    from devplan.report.rules import rule_text, rules_text

    terminal = terminal_of(sys.stdout)
    print(rules_text(terminal) if code is None else rule_text(find_rule(code), terminal), end="")
    return 0


def find_rule(text: str):
    """The rule of a code or a name, however it is written.

    Raises
    ------
    InputError
        With the nearest codes and names.
    """
    from devplan.checks.table import RULES
    from devplan.errors import InputError, nearest

    by_name = {rule.name: rule for rule in RULES.values()}
    wanted = text.strip()
    rule = RULES.get(wanted.upper()) or by_name.get(wanted.lower().replace("_", "-"))
    if rule is None:
        near = nearest(wanted, [*RULES, *by_name]) or "; `devplan explain` lists all"
        raise InputError(f"no rule has the code {text!r}{near}")
    return rule
