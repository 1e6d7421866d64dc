"""The pages of the rules for a terminal."""

from __future__ import annotations

from devplan.report.terminal import Terminal
from devplan.rules import FAMILIES, RULES, Rule


def rule_text(rule: Rule, terminal: Terminal) -> str:
    """One page."""
    lines = [terminal.paint(f"{rule.code} {rule.name}", "bold"), f"{rule.title}."]
    lines.append(terminal.paint(f"{rule.severity.value}; {FAMILIES[rule.code[:3]]}", "dim"))
    for heading, text in rule.sections.items():
        lines += ["", terminal.paint(heading, "bold")]
        lines += [f"  {line}".rstrip() for line in text.splitlines()]
    return "\n".join(lines) + "\n"


def rules_text(terminal: Terminal) -> str:
    """All rules, one a line, by family."""
    wide = max(len(rule.name) for rule in RULES.values())
    lines = []
    for family, about in FAMILIES.items():
        lines.append(terminal.paint(f"{family}: {about}", "bold"))
        lines += [
            f"  {code}  {rule.name:<{wide}}  {rule.title}"
            for code, rule in RULES.items()
            if code.startswith(family)
        ]
    return "\n".join(lines) + "\n"
