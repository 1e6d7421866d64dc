"""A story in words: what happened, where, with what, why, and what to do."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

from tabulate import tabulate

from devplan.checker import diff_lines, entry_place, source_lines, tensor_lines
from devplan.core import Fix, format_bytes, format_gib
from devplan.diagnosis.failure_report import CardMemory, FailureReport, Kind
from devplan.io import prose, visible

WIDTH = 96
Paint = Callable[[str, str], str]
"""Text and a style (``bold``, ``dim``, ``red``, ``green``, ``yellow``) -> text."""


def plain(text: str, style: str) -> str:
    """The text without a style."""
    return text


def story_text(story: FailureReport) -> str:
    """The note of an exception."""
    return "\n".join(story_lines(story))


def story_lines(story: FailureReport, paint: Paint = plain, width: int = WIDTH) -> list[str]:
    """All of it, for a note or a terminal."""
    rule = f" {story.rule}" if story.rule else ""
    lines = [f"{paint(f'devplan:{rule}', 'red')} {paint(prose(story.headline), 'bold')}"]
    lines += _wrapped(story.meaning, width)
    lines += _where(story, width)
    lines += _cards(story)
    lines += _wrapped_list("why", story.causes, width)
    lines += _remedies(story, paint, width)
    lines += [line for note in story.notes for line in _wrapped(f"note: {note}", width)]
    if story.rule:
        lines.append(f"  `devplan explain {story.rule}` says more")
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


def _where(story: FailureReport, width: int) -> list[str]:
    lines = []
    if story.ranks or story.count > 1:
        lines += _wrapped(_said(story), width)
    if story.op:
        lines.append(f"  op      {visible(story.op)}")
    if story.source:
        lines += source_lines(story.source)
    if story.tensors:
        lines += tensor_lines(story.tensors)
    if story.modules:
        lines += _wrapped(f"module  {_modules(story.modules)}", width, rest="          ")
    if story.entry:
        lines.append(f"  entry   {entry_place(story.entry)}")
    if story.workload:
        lines += _wrapped(f"asked   {_workload(story)}", width, rest="          ")
    if story.confirmation:
        lines += _wrapped(f"check   {story.confirmation.detail}", width, rest="          ")
    return lines


_MOST_RANKS = 16


def _said(story: FailureReport) -> str:
    """``said by rank0, rank1``, or ``said 800 times``."""
    shown = ", ".join(story.ranks[:_MOST_RANKS])
    more = len(story.ranks) - _MOST_RANKS
    by = f" by {shown}{f' and {more} more' if more > 0 else ''}" if story.ranks else ""
    times = f" {story.count:,} times" if story.count > max(1, len(story.ranks)) else ""
    return f"said{times}{by}"


_MOST_MODULES = 3


def _modules(names: tuple[str, ...]) -> str:
    if len(names) <= _MOST_MODULES:
        return " or ".join(names)
    return f"one of {len(names)}: {names[0]}, {names[1]}, ... {names[-1]}"


def _workload(story: FailureReport) -> str:
    seen = story.workload
    end = seen.end_tokens
    until = f", to end at {end:,} at most" if end and end > seen.tokens else ""
    return f"batch {seen.batch}, {seen.tokens:,} tokens{until}"


def _cards(story: FailureReport) -> list[str]:
    """The table of the cards; of a mismatch it says nothing, unless memory was asked for."""
    if not story.cards or story.kind is not Kind.MEMORY:
        return []
    heads = ["card", "allocated", "reserved", "free", "total", "predicted"]
    rows = [_card_cells(card) for card in story.cards]
    aligned = ["left"] + ["right"] * (len(heads) - 1)
    table = tabulate([heads, *rows], tablefmt="plain", disable_numparse=True, colalign=aligned)
    asked = f"; {format_bytes(story.requested_bytes)} asked for" if story.requested_bytes else ""
    return [*(f"    {line.rstrip()}" for line in table.splitlines()), f"    GiB{asked}"]


def _card_cells(card: CardMemory) -> list[str]:
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


def _remedies(story: FailureReport, paint: Paint, width: int) -> list[str]:
    lines = []
    for remedy in story.remedies:
        lines += _wrapped(f"repair: {remedy.text}", width)
        lines += _remedy_body(remedy, story, paint)
    return lines


_MOST_CHANGES = 8


def _remedy_body(remedy: Fix, story: FailureReport, paint: Paint) -> list[str]:
    changes = diff_lines(remedy.changed_entries, story.map_entries)
    styles = {"-": "red", "+": "green"}
    lines = [f"      {paint(line, styles[line[0]])}" for line in changes[:_MOST_CHANGES]]
    if len(changes) > _MOST_CHANGES:
        lines.append(f"      ... {len(changes) - _MOST_CHANGES} more lines")
    return lines + ([f"      {prose(remedy.command)}"] if remedy.command else [])
