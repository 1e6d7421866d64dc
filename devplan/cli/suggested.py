"""What becomes of a suggestion: shown in every case, written where it may be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from devplan.cli.printing import say, say_notes
from devplan.core import InputError
from devplan.io import err, is_stdout, out, refuse_unwritable

if TYPE_CHECKING:
    from devplan.cli.options import Asked
    from devplan.core import DeviceMapFile, Workload
    from devplan.workflows import ProfiledModel, Suggestion

DOES_NOT_FIT = 1
DOES_NOT_RUN = 1
NOT_WRITTEN = "not written"


def look_at_target(path: str | Path, *, force: bool, option: str = "-o") -> None:
    """Refuse a file that no map can be written to before anything is planned.

    Raises
    ------
    InputError
        When it cannot be written, or is a file that is no map and `force` is not given.
    """
    from devplan.mapfile import read_map

    if option == "-o" and is_stdout(path):
        return
    target = refuse_unwritable(path, option=option)
    if force or target is None or not target.exists():
        return
    try:
        read_map(target)
    except InputError:
        raise InputError(
            f"{path} exists and is not a map that this devplan reads; name another file with "
            f"{option} FILE, or replace it with --force"
        ) from None


def look_at_default(studied: ProfiledModel, *, asked: Asked, force: bool) -> None:
    """The same for the file of a map that was given no name: it is known once the model is."""
    if asked.output is not None:
        return
    path = _default_path(studied.identity.id, studied.workload, asked, packed=studied.packed)
    # [context] the most tokens are part of the name, and known at the end.
    look_at_target(path, force=force or asked.objective == "context")


def _default_path(model: str, workload: Workload, asked: Asked, *, packed: bool) -> Path:
    """The file of a map that was given no name: dtypes in it only where they were asked for."""
    from devplan.machine import machine_label
    from devplan.mapfile import default_path

    asked_for = asked.workload
    named = replace(workload, dtype=asked_for.dtype, kv_dtype=asked_for.kv_dtype)
    return default_path(model, machine_label(asked.machine), named, packed=packed)


def show(suggestion: Suggestion, asked: Asked, *, json: bool, force: bool, explain: bool) -> int:
    """Show what was found, and write the map if there is one; gives the exit status.

    Raises
    ------
    InputError
        When the map cannot be written; the plan was shown before.
    """
    if suggestion.map_file is None:
        return _show_infeasible(suggestion, asked, json)
    if suggestion.errors:
        return _show_broken(suggestion, asked, json)
    return _write_and_show(suggestion, asked, json=json, force=force, explain=explain)


def _show_infeasible(suggestion: Suggestion, asked: Asked, json: bool) -> int:
    from devplan.report import infeasible_json, infeasible_text, terminal_of

    about = (suggestion.result, suggestion.identity, asked.machine, suggestion.workload)
    if json:
        say(infeasible_json(*about, suggestion.notes), end="")
    else:
        terminal = terminal_of(out())
        say(infeasible_text(*about, terminal, suggestion.notes), end="")
        say_notes(asked.notes)
    return DOES_NOT_FIT


def _show_broken(suggestion: Suggestion, asked: Asked, json: bool) -> int:
    """No plan was found that runs: what stops the best one; nothing is written."""
    from devplan.report import check_report, does_not_run, terminal_of

    terminal = terminal_of(out())
    found = [suggestion.check]
    say(check_report(found, "json", terminal) if json else check_report(found, "text", terminal))
    constraints = suggestion.map_file.constraints
    for advice in does_not_run(suggestion.errors, constraints, suggestion.cures):
        lines = terminal.paragraph(advice, first="")
        say("\n".join(lines), to_stderr=json)
    say_notes(asked.notes)
    return DOES_NOT_RUN


def _write_and_show(
    suggestion: Suggestion, asked: Asked, *, json: bool, force: bool, explain: bool
) -> int:
    from devplan.mapfile import dump_map
    from devplan.report import plan_json, plan_text, sums_text, terminal_of

    map_file, plan = suggestion.map_file, suggestion.result
    path = _path(suggestion, asked)
    to_stdout = is_stdout(asked.output)
    outcome, refused = ("", None) if to_stdout else written(suggestion.map_file, path, force)
    if json:
        is_there = not to_stdout and refused is None
        say(plan_json(plan, map_file, path, written=is_there), end="")
    else:
        if to_stdout:
            say(dump_map(map_file, path), end="")
        stream = err() if to_stdout else out()
        terminal = terminal_of(stream)
        text = plan_text(plan, map_file, terminal, path, outcome)
        if explain:
            text += "\n" + sums_text(plan, suggestion.graph, map_file, suggestion.check, terminal)
        say(text, end="", to_stderr=to_stdout)
        say_notes(asked.notes)
    if refused is not None:
        raise refused
    return 0


def _path(suggestion: Suggestion, asked: Asked) -> str | Path:
    """Where the map goes, or would go by default where it goes to stdout."""
    if asked.output is not None and not is_stdout(asked.output):
        return asked.output
    model = suggestion.map_file.model
    return _default_path(model.id, suggestion.workload, asked, packed=model.packed)


def written(
    map_file: DeviceMapFile, path: str | Path, force: bool, option: str = "-o"
) -> tuple[str, InputError | None]:
    """Write a map; gives what happened to the file, in a word, and why it was not written."""
    from devplan.mapfile import write_map

    try:
        return write_map(map_file, path, force=force, option=option).value, None
    except InputError as error:  # the work before took long: what it found is shown all the same
        return NOT_WRITTEN, error
