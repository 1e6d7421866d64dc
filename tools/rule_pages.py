"""Writes the pages of the rules: ``make pages``.

Run it in the root of the repository after you change a rule's docstring or the table; a
test fails until it was run.
"""

from __future__ import annotations

from devplan.rules import FAMILIES, RULES, Rule

FOLDER = "docs/rules"
_MADE = "<!-- Made by `make pages` from devplan/rules; edit that. -->"

_CHECKLIST = """\
## Add a rule

1. `devplan/rules/NAME.py`: the docstring with its five sections, `SEVERITY`, and
   `check(context)`, which yields findings and does nothing else.
2. `devplan/rules/table.py`: a code of its family that was never used before, and the module.
3. `tests/checks/cases/CODE_NAME/`: `case.yaml` (model, machine, runs), `map.yaml` that triggers the
   rule, `clean.yaml` that does not; for a rule about the machine at hand one `map` and two
   environments.
4. `DEVPLAN_OVERWRITE=1 python -m pytest tests/checks/test_cases.py` writes `expected.txt`; read it.
5. `make pages` writes the rule's page.
6. `make test`: every forgotten step above fails there."""


def published_texts() -> dict[str, str]:
    """Path from the root of the repository -> the text that belongs there."""
    pages = {f"{FOLDER}/{code}.md": page_text(rule) for code, rule in RULES.items()}
    return {f"{FOLDER}/README.md": index_text(), **pages}


def page_text(rule: Rule) -> str:
    """The page of one rule as Markdown."""
    lines = [_MADE, "", f"# {rule.code}: {rule.title}", ""]
    lines += [f"`{rule.name}`, {rule.severity.value}, {FAMILIES[rule.code[:3]]}", ""]
    for heading, text in rule.sections.items():
        body = _code(text) if heading in ("Example", "Use instead") else text
        lines += [f"## {heading}", "", body, ""]
    return "\n".join(lines).rstrip() + "\n"


def _code(text: str) -> str:
    """Examples are code; a `Use instead` in sentences stays prose."""
    is_prose = text.rstrip().endswith(".") and "```" not in text
    return text if is_prose else f"```text\n{text}\n```"


def index_text() -> str:
    """The list of all rules by family, and the checklist."""
    lines = [_MADE, "", "# Rules", ""]
    lines += ["`devplan explain CODE` prints a page. Codes are never used again for another rule."]
    for family, about in FAMILIES.items():
        lines += ["", f"## {family}: {about}", "", "| code | rule | gives | |", "|---|---|---|---|"]
        lines += [
            f"| [{code}]({code}.md) | {rule.name} | {rule.severity.value} | {rule.title} |"
            for code, rule in RULES.items()
            if code.startswith(family)
        ]
    return "\n".join([*lines, "", _CHECKLIST, ""])
