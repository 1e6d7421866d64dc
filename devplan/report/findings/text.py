"""Findings for a person: what, where, what PyTorch would say, which line, what to change.

One paragraph a finding, the worst first; notes, which are limits of the check, come last and in
one line each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from devplan.checker import diff_lines, entry_place, source_lines, tensor_lines
from devplan.core import CheckResult, Entry, Finding, RunRecord, Severity
from devplan.io import shown, visible
from devplan.report.terminal import Terminal
from devplan.rules import RULES, listed

# Lines of a diff that a terminal shows; renamed layers are many and alike.
_MOST_CHANGES = 8

NOT_TRIED = "The changed map was not run: change the entries, then check it again."

_STYLES = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}


def text_report(results: Sequence[CheckResult], terminal: Terminal) -> str:
    """All maps, and a last line that sums up where there are several."""
    parts = [_map_text(shown_result(result), terminal) for result in results]
    if len(results) > 1:
        clean = sum(result.is_clean for result in results)
        parts.append(f"{len(results)} maps: {clean} without errors, {len(results) - clean} with")
    return "\n\n".join(parts) + "\n"


def _map_text(result: CheckResult, terminal: Terminal) -> str:
    sections = [_heading(result, terminal)]
    findings = [d for d in result.findings if d.severity is not Severity.NOTE]
    sections += [finding_lines(each, result, terminal) for each in findings]
    notes = [d for d in result.findings if d.severity is Severity.NOTE]
    if notes:
        sections.append([terminal.paint("Notes", "bold"), *_note_lines(notes, terminal)])
    sections.append(_summary(result, terminal))
    return "\n\n".join("\n".join(lines) for lines in sections)


def _heading(result: CheckResult, terminal: Terminal) -> list[str]:
    lines = [terminal.paint(result.map_name, "bold")]
    lines += terminal.paragraph(f"{result.model}, {result.class_name}")
    for run in result.runs[:1]:
        done = f"ran {', '.join(run.phases)}" if run.phases else "stopped in its first phase"
        lines += terminal.paragraph(f"{done} with {run.inputs}: {run.num_ops:,} ops", rest="    ")
        lines += [line for note in run.notes for line in terminal.paragraph(note, rest="    ")]
    if ran := [_short(run) for run in result.runs[1:]]:
        lines += terminal.paragraph(f"also ran: {'; '.join(ran)}", rest="    ")
    return lines


def _short(run: RunRecord) -> str:
    """A short call by its name, and where it stopped."""
    return f"{run.name} (stopped in {run.error.phase})" if run.error is not None else run.name


def finding_lines(finding: Finding, result: CheckResult, terminal: Terminal) -> list[str]:
    """One finding."""
    name = RULES[finding.code].name
    head = f"{finding.severity.value} {finding.code}"
    lines = [f"{terminal.paint(head, _STYLES[finding.severity])} {name}{_place(finding)}"]
    lines += terminal.paragraph(finding.message)
    if finding.pytorch_message:
        lines += terminal.paragraph(f"PyTorch: {finding.pytorch_message}", rest="    ")
    if finding.source:
        lines += source_lines(finding.source)
    if finding.also_at:
        others = listed([visible(str(source)) for source in finding.also_at])
        lines += terminal.paragraph(f"also at {others}", rest="    ")
    if finding.tensors:
        lines += tensor_lines(finding.tensors)
    if finding.fix.text:
        lines += terminal.paragraph(f"fix: {finding.fix.text}", rest="    ")
    return lines + _change_lines(finding, result, terminal)


def _place(finding: Finding) -> str:
    return f"  {entry_place(finding.entry)}" if finding.entry else ""


def _change_lines(finding: Finding, result: CheckResult, terminal: Terminal) -> list[str]:
    changes = change_lines(finding, result.entries)
    shown = changes[:_MOST_CHANGES]
    styles = {"-": "red", "+": "green"}
    lines = [f"    {terminal.paint(line, styles[line[0]])}" for line in shown]
    rest = len(changes) - len(shown)
    return [*lines, f"    {terminal.ellipsis} {rest} more lines; json has all"] if rest else lines


def _note_lines(notes: Sequence[Finding], terminal: Terminal) -> list[str]:
    return [
        line
        for note in notes
        for line in terminal.paragraph(f"{note.code} {note.message}", rest="        ")
    ]


def _summary(result: CheckResult, terminal: Terminal) -> list[str]:
    counts = {
        "error": len(result.errors),
        "warning": len(result.warnings),
        "note": len(result.findings) - len(result.errors) - len(result.warnings),
    }
    words = counts_in_words(counts)
    ignored = f"; {len(result.ignored)} ignored" if result.ignored else ""
    if not result.errors and not result.warnings:
        verdict = terminal.paint("clean" if result.runs else "nothing found", "green")
        return [f"{verdict}{f' ({words})' if words else ''}{ignored}"]
    first = next(d.code for d in result.findings)
    lines = [f"{words}{ignored}; `devplan explain {first}` says more"]
    if any(error.fix.changed_entries for error in result.errors):
        lines += terminal.paragraph(NOT_TRIED, first="")
    return lines


# -------------------------------------------------- repairs as lines of a diff, and counts


def change_lines(diagnostic: Finding, entries: Iterable[Entry]) -> list[str]:
    """``- model: 1`` and ``+ model: 0`` for every entry that the repair touches."""
    return diff_lines(diagnostic.fix.changed_entries, entries, diagnostic.fix.dropped_entries)


def counts_in_words(counts: Mapping[str, int]) -> str:
    """``2 errors, 1 warning``."""
    words = [
        f"{number} {kind}{'s' if number > 1 else ''}" for kind, number in counts.items() if number
    ]
    return ", ".join(words)


def shown_result(result: CheckResult) -> CheckResult:
    """The result as a person may see it: names of strangers are escaped and short."""
    found = tuple(shown_finding(each, result) for each in result.findings)
    aside = tuple(shown_finding(each, result) for each in result.ignored)
    return shown(replace(result, findings=found, ignored=aside))


def shown_finding(finding: Finding, result: CheckResult) -> Finding:
    """The same for one finding.  Its sentences hold names as they are, which are short first."""
    message, text = finding.message, finding.fix.text
    for name in _unfit_names(result):
        for form in (name, repr(name)[1:-1]):
            message = message.replace(form, visible(name))
            text = text.replace(form, visible(name))
    return shown(replace(finding, message=message, fix=replace(finding.fix, text=text)))


def _unfit_names(result: CheckResult) -> list[str]:
    """Names of this map that cannot be shown as they are, the longest first."""
    names = {result.model, result.class_name, result.map_name}
    for entry in result.entries:
        names |= {entry.key, entry.device or "", entry.written or ""}
    unfit = (name for name in names if name and visible(name) != name)
    return sorted(unfit, key=len, reverse=True)
