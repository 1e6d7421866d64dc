"""The report of an exception that is on its way.

Whatever goes wrong here must not hide what went wrong there: devplan's own errors become a sentence
in the note.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from devplan.core import (
    DeviceMap,
    DeviceMapFile,
    DeviceUsage,
    Entry,
    InputError,
    MismatchEvent,
    parse_whole,
    wrong,
)
from devplan.diagnosis.document import log_report
from devplan.diagnosis.expressions import failing_node, failing_operands, op_of_node, op_of_wrapper
from devplan.diagnosis.failure_report import FailureKind, FailureReport
from devplan.diagnosis.fixes import CommandFacts, by_entries, in_words
from devplan.diagnosis.messages import Recognised, recognise
from devplan.diagnosis.placed import (
    held_models,
    in_pipeline,
    loads_of,
    map_file,
    model_id,
    part_for,
    placed_subject,
)
from devplan.diagnosis.sites import (
    Site,
    innermost_named,
    model_lines,
    module_names,
    seen_workload,
    sites_of,
)
from devplan.diagnosis.wording import report_text
from devplan.rules import (
    CheckContext,
    entries_that_meet,
    entry_behind,
    is_embedding_away,
    odd_operands,
)


def add_report(
    error: BaseException, model: Any, map: Any, *, kinds: Collection[FailureKind]
) -> None:
    """Add the report to the exception, or to the one in its chain that it is about."""
    for each in related(error):
        if was_explained(each):
            return
        recognised = recognise(str(each))
        if recognised is not None and recognised.message.kind in kinds:
            _add_report(each, recognised, model, map)
            return


def _add_report(error: BaseException, recognised: Recognised, model: Any, map: Any) -> None:
    try:
        report = report_of_exception(error, recognised, model, map)
        text = report_text(report)
    except Exception as own:  # [any] the user's exception must go on, whatever happens to ours
        put(error, None, f"devplan could not explain this: {type(own).__name__}: {own}")
        return
    put(error, report, text)
    log_report(report)


def report_of_exception(
    error: BaseException, recognised: Recognised, model: Any, map: Any
) -> FailureReport:
    """Everything that frames, model and map say about an exception."""
    sites = sites_of(error)
    root, held_as = _root(model, sites)
    names = module_names(root)
    place = innermost_named(sites, names)
    operands = failing_operands(sites, recognised, names, root)
    lines = model_lines(sites)
    subject, note = _subject(root, map, held_as)
    file = map_file(map)
    report = FailureReport(
        id=recognised.message.id,
        kind=recognised.message.kind,
        exception=type(error).__name__,
        message=recognised.text,
        meaning="",
        rule=recognised.message.rule,
        op=_op(recognised, operands.site),
        module=names[id(place.owner)] if place else None,
        module_class=type(place.owner).__name__ if place else None,
        source=lines[-1] if lines else None,
        stack=lines,
        tensors=operands.facts,
        devices=recognised.devices,
        requested_bytes=recognised.size("requested"),
        workload=seen_workload(sites, names),
        notes=tuple(text for text in (_of_object(model, root, held_as), note) if text),
    )
    report = _with_map(report, subject) if subject else report
    report = _with_cards(report, subject, file)
    report = _with_fixes(report, recognised, root, map, subject, file)
    return in_pipeline(report, subject.map.component) if subject else report


def _root(model: Any, sites: tuple[Site, ...]) -> tuple[nn.Module | None, str]:
    """The model itself; of an object's models the one that failed, and what it is called there."""
    if model is None or isinstance(model, nn.Module):
        return model, ""
    for attribute, held in held_models(model).items():
        if innermost_named(sites, module_names(held)):
            return held, attribute
    return None, ""


def _of_object(model: Any, root: nn.Module | None, held_as: str) -> str:
    if model is None:
        return "the model was being loaded, and nothing had run"
    return f"the model is {held_as} of {type(model).__name__}" if root and held_as else ""


def _subject(root: nn.Module | None, map: Any, held_as: str) -> tuple[CheckContext | None, str]:
    if root is None:
        return None, ""
    try:
        return placed_subject(root, part_for(map, held_as)), ""
    except InputError as error:
        return None, str(error)


def _op(recognised: Recognised, site: Site | None) -> str | None:
    wrapper = recognised.facts.get("wrapper")
    if wrapper:
        return op_of_wrapper(wrapper)
    return op_of_node(failing_node(site.traceback)) if site else None


def _with_map(report: FailureReport, subject: CheckContext) -> FailureReport:
    """The entry behind it, and for a mismatch its fix."""
    entries = subject.map.entries
    report = replace(report, map_entries=entries)
    if report.kind is not FailureKind.MISMATCH:
        return replace(report, entry=_entry_of_place(report, subject))
    event = MismatchEvent(
        op=report.op or "",
        message=report.message,
        rule="",
        module=report.module or "",
        source=report.source,
        stack=report.stack,
        operands=report.tensors,
        phase="",
    )
    changed = entries_that_meet(event, subject) if odd_operands(event, subject) else {}
    return replace(
        report,
        entry=entry_behind(event, changed, subject),
        fixes=by_entries(changed, subject),
    )


def _entry_of_place(report: FailureReport, subject: CheckContext) -> Entry | None:
    """The entry of the module that ran; of a full card, where it speaks for that card."""
    named = subject.entry_of(report.module) if report.module is not None else None
    if named is None or not report.devices or named.device in report.devices:
        return named
    on_card = (e for e in subject.entries.values() if e.device in report.devices)
    return next(iter(on_card), named)


def _with_cards(
    report: FailureReport, subject: CheckContext | None, file: DeviceMapFile | None
) -> FailureReport:
    """Memory; of a mismatch only where a map predicted it or a card is here."""
    devices: Iterable[str] = subject.devices if subject else ()
    return replace(report, cards=card_memory(devices, loads_of(file)))


def _file_of(map: Any) -> str | None:
    """Where the map stands; None for one of Python's."""
    if isinstance(map, DeviceMap):
        return map.file
    return str(map) if isinstance(map, str) or hasattr(map, "__fspath__") else None


def _with_fixes(
    report: FailureReport,
    recognised: Recognised,
    root: nn.Module | None,
    map: Any,
    subject: CheckContext | None,
    file: DeviceMapFile | None,
) -> FailureReport:
    known = CommandFacts(
        model=file.model.id if file else model_id(root),
        map=_file_of(map),
        machine=subject.machine if subject else None,
        num_cards=torch.cuda.device_count(),
        main_device=subject.main_device if subject else None,
        workload=report.workload,
        context=file.workload.context if file else None,
        images=file.workload.images if file else None,
        embedding_away=is_embedding_away(subject) if subject else None,
    )
    return in_words(report, recognised, known)


# The report travels with its exception, as a note that every traceback shows and as an attribute.


_ATTRIBUTE = "_devplan_report"


def put(error: BaseException, report: FailureReport | None, text: str) -> None:
    """Add a report and its text.

    With no report the text alone is added, and the exception counts as looked at.
    """
    error.__dict__[_ATTRIBUTE] = report
    error.add_note(text)


def was_explained(error: BaseException) -> bool:
    """Whether somebody looked at this exception before."""
    return _ATTRIBUTE in getattr(error, "__dict__", {})


def report_of(error: BaseException) -> FailureReport | None:
    """The report of an exception that went through `diagnose`, or of one that led to it.

    Parameters
    ----------
    error
        Any exception; those that it was raised from or among are looked at too.

    Returns
    -------
    FailureReport or None
        None: it is about no device and no memory, or nobody looked.

    Raises
    ------
    InputError
        When it is not an exception.

    Examples
    --------
    ::

        try:
            with devplan.diagnose(model):
                model.generate(**inputs)
        except RuntimeError as error:
            report = devplan.report_of(error)
    """
    if not isinstance(error, BaseException):
        raise wrong("error", error, "the exception that was raised")
    for each in related(error):
        if was_explained(each):
            return each.__dict__[_ATTRIBUTE]
    return None


def related(error: BaseException) -> Iterator[BaseException]:
    """The exception, what it was raised from, and the members of a group, each once.

    What ``raise ... from None`` hides stays hidden.
    """
    waiting, seen = [error], set()
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        if each.__cause__ is not None:
            waiting.append(each.__cause__)
        elif each.__context__ is not None and not each.__suppress_context__:
            waiting.append(each.__context__)
        waiting.extend(getattr(each, "exceptions", ()))


# GPU memory at the moment of the failure, beside the prediction.  Only counters are read; without
# CUDA, or after a failure that CUDA does not recover from, only the prediction is known.


def card_memory(devices: Iterable[str], predicted: Mapping[str, int]) -> tuple[DeviceUsage, ...]:
    """One entry for every card that the map names or that this process has memory on."""
    named = {device for device in (*devices, *predicted) if device.startswith("cuda:")}
    present = _present()
    shown = sorted(named | set(present), key=lambda device: parse_whole(device.partition(":")[2]))
    return tuple(_card(device, predicted.get(device), device in present) for device in shown)


def _present() -> tuple[str, ...]:
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):
        return ()
    return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))


def _card(device: str, predicted_bytes: int | None, is_present: bool) -> DeviceUsage:
    if not is_present:
        return DeviceUsage(device=device, predicted_bytes=predicted_bytes)
    free, total = _driver(device)
    return DeviceUsage(
        device=device,
        total_bytes=total,
        free_bytes=free,
        allocated_bytes=torch.cuda.memory_allocated(device),
        reserved_bytes=torch.cuda.memory_reserved(device),
        predicted_bytes=predicted_bytes,
    )


def _driver(device: str) -> tuple[int | None, int | None]:
    """Free and total bytes; not known once an earlier failure has broken the context."""
    try:
        return torch.cuda.mem_get_info(device)
    except RuntimeError:
        return None, None
