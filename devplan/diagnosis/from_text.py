"""The reports of a pasted text, with a map where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from devplan.core import DeviceUsage, SourceLine
from devplan.diagnosis.expressions import op_of_text, op_of_wrapper
from devplan.diagnosis.failure_report import FailureKind, FailureReport
from devplan.diagnosis.fixes import CommandFacts, in_words
from devplan.diagnosis.lines import CodePlace, code_place, is_model_line
from devplan.diagnosis.messages import Recognised
from devplan.diagnosis.pasted.errors import PastedError, PastedFrame, Stream
from devplan.diagnosis.pasted.reading import TRACEBACK_HEAD, read_pasted

Item = TypeVar("Item")
MOST_AT_AN_END = 10
"""Different failures that are reported: the first ones and the last ones."""
MOST_LINES = 12
"""Of a deep stack the inner part."""
_LONGEST_MESSAGE = 2000
"""Characters; a text that is longer is a whole log."""


@dataclass(frozen=True, kw_only=True)
class TextFailure:
    """A report as far as the text goes."""

    report: FailureReport
    recognised: Recognised
    places: tuple[CodePlace, ...]
    """The frames of the model's code, outermost first."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What a text is about."""

    reports: tuple[FailureReport, ...]
    """Each failure once, however many processes said it; in the order of the text."""
    unknown: tuple[PastedError, ...] = ()
    """Errors of the text that the table does not know."""
    left_out: int = 0
    """Errors that are not reported, since the text holds too many different ones."""


def explain_text(
    text: str | bytes, map: Any = None, model: str | None = None, *, trust_remote_code: bool = False
) -> Explanation:
    """Explain a pasted traceback, a log, or a message alone.

    Parameters
    ----------
    text
        As it was pasted: colours, prefixes, fragments, several processes; bytes are UTF-8.
    map
        The map that the model was loaded with; its entry behind the failure is then named, and the
        check is run.
    model
        Which model the map is for, where it does not say so.
    trust_remote_code
        Whether code that comes with the model may run.

    Returns
    -------
    Explanation
        Empty where nothing is recognised.

    Raises
    ------
    InputError
        When the map cannot be read, or nobody says which model it is for.

    Examples
    --------
    >>> found = explain_text("RuntimeError: Cannot copy out of meta tensor; no data!")
    >>> found.reports[0].id
    'meta-copied'
    """
    streams = read_pasted(text)
    failures, more = _ends(_merged([each for stream in streams for each in _failures_of(stream)]))
    if map is not None and failures:
        from devplan.diagnosis.with_map import MappedModel

        mapped = MappedModel.of(map, model, trust_remote_code=trust_remote_code)
        reports = tuple(mapped.report_of(each) for each in failures)
    else:
        reports = tuple(
            in_words(each.report, each.recognised, CommandFacts(model=model)) for each in failures
        )
    unknown, others = _ends(_unknown(streams))
    left_out = sum(each.report.count for each in more) + sum(each.count for each in others)
    return Explanation(
        reports=reports,
        unknown=tuple(unknown),
        left_out=left_out + sum(stream.left_out for stream in streams),
    )


def _ends(row: list[Item]) -> tuple[list[Item], list[Item]]:
    """The first and the last of many, and those between."""
    if len(row) <= 2 * MOST_AT_AN_END:
        return row, []
    return row[:MOST_AT_AN_END] + row[-MOST_AT_AN_END:], row[MOST_AT_AN_END:-MOST_AT_AN_END]


def _failures_of(stream: Stream) -> list[TextFailure]:
    found = [_from_text(each.recognised, each, stream) for each in stream.errors if each.recognised]
    if not found and (recognised := stream.scan.first) is not None:
        frames = stream.errors[-1].frames if stream.errors else ()
        bare = PastedError(type="", message="", frames=frames)
        found.append(_from_text(recognised, bare, stream))
    return found


def _from_text(recognised: Recognised, error: PastedError, stream: Stream) -> TextFailure:
    places = tuple(code_place(frame) for frame in error.frames if is_model_line(frame))
    lines = tuple(place.source for place in places)
    innermost = places[-1] if places else None
    report = FailureReport(
        id=recognised.message.id,
        kind=recognised.message.kind,
        exception=error.type.rpartition(".")[2],
        message=_own_words(recognised),
        meaning="",
        rule=recognised.message.rule,
        op=_op(recognised, error.frames),
        module_class=innermost.classes[0] if innermost and len(innermost.classes) == 1 else None,
        source=lines[-1] if lines else None,
        stack=lines[-MOST_LINES:],
        devices=recognised.devices,
        requested_bytes=recognised.size("requested"),
        cards=_cards(recognised),
        ranks=(stream.rank,) if stream.rank else (),
        count=error.count,
        notes=_notes(innermost, stream, recognised),
    )
    return TextFailure(report=report, recognised=recognised, places=places)


def _cards(recognised: Recognised) -> tuple[DeviceUsage, ...]:
    """The card that a message about memory describes."""
    if recognised.message.kind is not FailureKind.MEMORY or not recognised.devices:
        return ()
    card = DeviceUsage(
        device=recognised.devices[0],
        total_bytes=recognised.size("total"),
        free_bytes=recognised.size("free"),
        allocated_bytes=recognised.size("allocated"),
    )
    return (card,)


def _own_words(recognised: Recognised) -> str:
    """The message; of a whole log, or of a traceback in pieces, only what the pattern matched."""
    text = recognised.text
    if len(text) <= _LONGEST_MESSAGE and TRACEBACK_HEAD not in text:
        return text
    match = recognised.message.pattern.search(text)
    return (match[0] if match else text)[:_LONGEST_MESSAGE].partition(TRACEBACK_HEAD)[0]


def _op(recognised: Recognised, frames: Sequence[PastedFrame]) -> str | None:
    if "wrapper" in recognised.facts:
        return op_of_wrapper(recognised.facts["wrapper"])
    innermost = frames[-1] if frames else None
    return op_of_text(innermost.failing or innermost.text) if innermost else None


def _notes(place: CodePlace | None, stream: Stream, recognised: Recognised) -> tuple[str, ...]:
    notes = []
    if place is not None and place.same_release is False:
        notes.append(
            f"{place.source.file} of the installed release has other code in line "
            f"{place.source.line}: the text is of another release"
        )
    # [warnings] other messages anywhere in the text, before the error mostly.
    also = [each for each in stream.scan.ids if each != recognised.message.id]
    if also:
        notes.append(f"the text also holds: {', '.join(also)}")
    return tuple(notes)


def _merged(failures: Sequence[TextFailure]) -> list[TextFailure]:
    """The same failure of several processes, or of several tries, once."""
    groups: dict[tuple[str, SourceLine | None], list[TextFailure]] = {}
    for each in failures:
        groups.setdefault((each.report.id, each.report.source), []).append(each)
    return [_one(group) for group in groups.values()]


def _one(group: Sequence[TextFailure]) -> TextFailure:
    ranks = tuple(dict.fromkeys(rank for each in group for rank in each.report.ranks))
    count = sum(each.report.count for each in group)
    return replace(group[0], report=replace(group[0].report, ranks=ranks, count=count))


def _unknown(streams: Sequence[Stream]) -> list[PastedError]:
    """Errors that the table does not know, each once."""
    counts: dict[PastedError, int] = {}
    for stream in streams:
        for error in stream.errors:
            if error.recognised is None:
                message = error.message.partition(TRACEBACK_HEAD)[0]
                bare = PastedError(type=error.type, message=message)
                counts[bare] = counts.get(bare, 0) + error.count
    return [replace(error, count=count) for error, count in counts.items()]
