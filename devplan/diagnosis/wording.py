"""A report in words: what happened, where, with what, why, and what to do."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

from tabulate import tabulate

from devplan.checker import diff_lines, entry_place, source_lines, tensor_lines
from devplan.core import DeviceUsage, Fix, format_bytes, format_gib
from devplan.diagnosis.failure_report import FailureKind, FailureReport
from devplan.io import prose, visible

WIDTH = 96
Paint = Callable[[str, str], str]
"""Text and a style (``bold``, ``dim``, ``red``, ``green``, ``yellow``) -> text."""


def plain(text: str, style: str) -> str:
    """The text without a style."""
    return text


def report_text(report: FailureReport) -> str:
    """The note of an exception."""
    return "\n".join(report_lines(report))


def report_lines(report: FailureReport, paint: Paint = plain, width: int = WIDTH) -> list[str]:
    """All of it, for a note or a terminal."""
    rule = f" {report.rule}" if report.rule else ""
    lines = [f"{paint(f'devplan:{rule}', 'red')} {paint(prose(report.headline), 'bold')}"]
    lines += _wrapped(report.meaning, width)
    lines += _where(report, width)
    lines += _cards(report)
    lines += _wrapped_list("why", report.causes, width)
    lines += _fixes(report, paint, width)
    lines += [line for note in report.notes for line in _wrapped(f"note: {note}", width)]
    if report.rule:
        lines.append(f"  `devplan explain {report.rule}` says more")
    return lines


def _wrapped(text: str, width: int, first: str = "  ", rest: str = "    ") -> list[str]:
    return textwrap.wrap(
        prose(text),
        width=width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _where(report: FailureReport, width: int) -> list[str]:
    lines = []
    if report.ranks or report.count > 1:
        lines += _wrapped(_said(report), width)
    if report.op:
        lines.append(f"  op      {visible(report.op)}")
    if report.source:
        lines += source_lines(report.source)
    if report.tensors:
        lines += tensor_lines(report.tensors)
    if report.modules:
        lines += _wrapped(f"module  {_modules(report.modules)}", width, rest="          ")
    if report.entry:
        lines.append(f"  entry   {entry_place(report.entry)}")
    if report.workload:
        lines += _wrapped(f"asked   {_workload(report)}", width, rest="          ")
    if report.confirmation:
        lines += _wrapped(f"check   {report.confirmation.detail}", width, rest="          ")
    return lines


_MOST_RANKS = 16


def _said(report: FailureReport) -> str:
    """``said by rank0, rank1``, or ``said 800 times``."""
    shown = ", ".join(report.ranks[:_MOST_RANKS])
    more = len(report.ranks) - _MOST_RANKS
    by = f" by {shown}{f' and {more} more' if more > 0 else ''}" if report.ranks else ""
    times = f" {report.count:,} times" if report.count > max(1, len(report.ranks)) else ""
    return f"said{times}{by}"


_MOST_MODULES = 3


def _modules(names: tuple[str, ...]) -> str:
    if len(names) <= _MOST_MODULES:
        return " or ".join(names)
    return f"one of {len(names)}: {names[0]}, {names[1]}, ... {names[-1]}"


def _workload(report: FailureReport) -> str:
    seen = report.workload
    end = seen.end_tokens
    until = f", to end at {end:,} at most" if end and end > seen.tokens else ""
    return f"batch {seen.batch}, {seen.tokens:,} tokens{until}"


def _cards(report: FailureReport) -> list[str]:
    """The table of the cards; of a mismatch it says nothing, unless memory was asked for."""
    if not report.cards or report.kind is not FailureKind.MEMORY:
        return []
    heads = ["card", "allocated", "reserved", "free", "total", "predicted"]
    rows = [_card_cells(card) for card in report.cards]
    aligned = ["left"] + ["right"] * (len(heads) - 1)
    table = tabulate([heads, *rows], tablefmt="plain", disable_numparse=True, colalign=aligned)
    asked = f"; {format_bytes(report.requested_bytes)} asked for" if report.requested_bytes else ""
    return [*(f"    {line.rstrip()}" for line in table.splitlines()), f"    GiB{asked}"]


def _card_cells(card: DeviceUsage) -> list[str]:
    sizes = (
        card.allocated_bytes,
        card.reserved_bytes,
        card.free_bytes,
        card.total_bytes,
        card.predicted_bytes,
    )
    return [visible(card.device), *("-" if size is None else format_gib(size) for size in sizes)]


def _wrapped_list(head: str, texts: tuple[str, ...], width: int) -> list[str]:
    """``why: first``, and the others below it."""
    if len(texts) == 1:
        return _wrapped(f"{head}: {texts[0]}", width)
    lines = [f"  {head}, the likeliest first:"] if texts else []
    for text in texts:
        lines += _wrapped(f"- {text}", width, first="    ", rest="      ")
    return lines


def _fixes(report: FailureReport, paint: Paint, width: int) -> list[str]:
    lines = []
    for fix in report.fixes:
        lines += _wrapped(f"fix: {fix.text}", width)
        lines += _fix_body(fix, report, paint)
    return lines


_MOST_CHANGES = 8


def _fix_body(fix: Fix, report: FailureReport, paint: Paint) -> list[str]:
    changes = diff_lines(fix.changed_entries, report.map_entries)
    styles = {"-": "red", "+": "green"}
    lines = [f"      {paint(line, styles[line[0]])}" for line in changes[:_MOST_CHANGES]]
    if len(changes) > _MOST_CHANGES:
        lines.append(f"      ... {len(changes) - _MOST_CHANGES} more lines")
    return lines + ([f"      {prose(fix.command)}"] if fix.command else [])
