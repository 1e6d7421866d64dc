"""``devplan suggest``: the best device map of a model for a machine, shown and written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from devplan.cli.command import Options, command
from devplan.cli.options import (
    EXPLAIN,
    FORCE,
    FRAMES,
    GPUS,
    INPUTS,
    JSON,
    LINKS,
    MAIN,
    MEMORY,
    MODEL,
    NO_PIN,
    NO_VERIFY,
    OBJECTIVE,
    OFFLOAD,
    OUTPUT,
    PACKED,
    PIN,
    PLANNED_CALLS,
    QUANTIZE,
    RESERVE,
    REVISION,
    TILING,
    TIMEOUT,
    TRUST_REMOTE_CODE,
    WORKLOAD,
)
from devplan.cli.precedence import planned_machine, planned_model, planned_pins, planned_workload
from devplan.cli.printing import progress_on_stderr, say, say_notes
from devplan.core import InputError
from devplan.io import err, is_stdout, out, refuse_unwritable

if TYPE_CHECKING:
    from devplan.core import DeviceMapFile, Machine, Workload
    from devplan.workflows import ProfiledModel, Suggestion

DOES_NOT_FIT = 1
DOES_NOT_RUN = 1
NOT_WRITTEN = "not written"


@dataclass(frozen=True, kw_only=True)
class _Target:
    """Where the map goes, and what its default name is made of."""

    output: str | None
    """As typed or set; None: a file that is named after the plan."""
    machine: Machine
    workload: Workload
    """As requested: dtypes are part of the name where they were."""
    objective: str
    force: bool

    def default_path(
        self, model: str, workload: Workload, *, packed: bool, quantize: str | None
    ) -> Path:
        """The file of a map that was given no name."""
        from devplan.machine import machine_label
        from devplan.mapfile import default_path

        asked = self.workload
        named = replace(workload, dtype=asked.dtype, kv_dtype=asked.kv_dtype)
        return default_path(
            model, machine_label(self.machine), named, packed=packed, quantize=quantize
        )

    def path(self, suggestion: Suggestion) -> str | Path:
        """The file, or that of the default name where the map goes to stdout."""
        if self.output is not None and not is_stdout(self.output):
            return self.output
        model = suggestion.map_file.model
        return self.default_path(
            model.id, suggestion.workload, packed=model.packed, quantize=model.quantize
        )


@command(
    *("suggest", MODEL, GPUS, MEMORY, MAIN, RESERVE, LINKS, *WORKLOAD, QUANTIZE, FRAMES, TILING),
    *(INPUTS, PLANNED_CALLS, OBJECTIVE, PIN, NO_PIN, PACKED, OFFLOAD, OUTPUT, FORCE, NO_VERIFY),
    *(EXPLAIN, TIMEOUT, JSON, REVISION, TRUST_REMOTE_CODE),
)
def suggest_command(options: Options) -> int:
    """Compute the best device map of MODEL for a machine, and write it to a file.

    \b
    devplan suggest Qwen/Qwen2.5-VL-7B-Instruct --gpus 24GiB,12GiB --context 32768
    devplan suggest ./my-checkpoint --gpus 0,1
    """
    model, machine = planned_model(options), planned_machine(options)
    workload, pins = planned_workload(options), planned_pins(options)
    target = _Target(
        output=options.output,
        machine=machine,
        workload=workload,
        objective=options.objective,
        force=options.force,
    )
    if target.output is not None:
        look_at_target(target.output, force=target.force)
    with progress_on_stderr() as progress:
        from devplan.workflows import suggest

        progress("starting")
        suggestion = suggest(
            model,
            machine,
            workload,
            objective=options.objective,
            pins=pins,
            default_pins=not options.no_pin,
            packed=options.packed,
            quantize=options.typed_or_set("quantize"),
            trust_remote_code=options.trust_remote_code,
            revision=options.revision,
            inputs=options.inputs,
            run=options.run,
            verify=not options.no_verify,
            on_studied=partial(_look_at_default, target=target),
            timeout_s=options.timeout_s,
            progress=progress,
        )
    if suggestion.map_file is None:
        return _show_infeasible(suggestion, options, target)
    if suggestion.errors:
        return _show_broken(suggestion, options)
    return _write_and_show(suggestion, options, target)


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


def _look_at_default(studied: ProfiledModel, *, target: _Target) -> None:
    """The same for the file of a map that was given no name: it is known once the model is."""
    if target.output is not None:
        return
    path = target.default_path(
        studied.identity.id,
        studied.workload,
        packed=studied.packed,
        quantize=studied.source.quantize,
    )
    # [context] the most tokens are part of the name, and known at the end.
    look_at_target(path, force=target.force or target.objective == "context")


def _show_infeasible(suggestion: Suggestion, options: Options, target: _Target) -> int:
    from devplan.report import infeasible_json, infeasible_text, sums_text, terminal_of

    about = (suggestion.result, suggestion.identity, target.machine, suggestion.workload)
    if options.json:
        say(infeasible_json(*about, suggestion.notes), end="")
    else:
        terminal = terminal_of(out())
        text = infeasible_text(*about, suggestion.graph, terminal, suggestion.notes)
        if options.explain and suggestion.result.loads:
            result, _, *planned_for = about
            text += "\n" + sums_text(result, suggestion.graph, *planned_for, terminal)
        say(text, end="")
        say_notes(options.settings.notes)
    return DOES_NOT_FIT


def _show_broken(suggestion: Suggestion, options: Options) -> int:
    """No plan was found that runs: what stops the best one; nothing is written."""
    from devplan.report import check_report, does_not_run, terminal_of

    terminal = terminal_of(out())
    form = "json" if options.json else "text"
    say(check_report([suggestion.check], form, terminal))
    constraints = suggestion.map_file.constraints
    for advice in does_not_run(suggestion.errors, constraints, suggestion.cures):
        lines = terminal.paragraph(advice, first="")
        say("\n".join(lines), to_stderr=options.json)
    say_notes(options.settings.notes)
    return DOES_NOT_RUN


def _write_and_show(suggestion: Suggestion, options: Options, target: _Target) -> int:
    from devplan.mapfile import dump_map
    from devplan.report import plan_json, plan_text, sums_text, terminal_of

    map_file, plan = suggestion.map_file, suggestion.result
    path = target.path(suggestion)
    to_stdout = is_stdout(target.output)
    outcome, refused = ("", None) if to_stdout else written(map_file, path, target.force)
    if options.json:
        is_there = not to_stdout and refused is None
        say(plan_json(plan, map_file, path, written=is_there), end="")
    else:
        if to_stdout:
            say(dump_map(map_file, path), end="")
        stream = err() if to_stdout else out()
        terminal = terminal_of(stream)
        text = plan_text(plan, map_file, terminal, path, outcome)
        if options.explain:
            text += "\n" + sums_text(
                *(plan, suggestion.graph, map_file.machine, map_file.workload, terminal),
                check=suggestion.check,
                peak_bytes=map_file.verification.peak_bytes,
            )
        say(text, end="", to_stderr=to_stdout)
        say_notes(options.settings.notes)
    if refused is not None:
        raise refused
    return 0


def written(
    map_file: DeviceMapFile, path: str | Path, force: bool, option: str = "-o"
) -> tuple[str, InputError | None]:
    """Write a map; gives what happened to the file, in a word, and why it was not written."""
    from devplan.mapfile import write_map

    try:
        return write_map(map_file, path, force=force, option=option).value, None
    except InputError as error:  # the work before took long: what it found is shown all the same
        return NOT_WRITTEN, error
