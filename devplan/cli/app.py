"""The application, and what becomes of the errors of its commands."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback as tracebacks
from collections.abc import Sequence

import click

from devplan import __version__
from devplan.cli.command import CONTEXT_SETTINGS, Group, help_option
from devplan.cli.printing import say
from devplan.core import DevplanError, InputError, UserCodeError
from devplan.io import CannotWrite, flush, prose, visible

COULD_NOT_RUN = 2
INTERNAL_ERROR = 70
"""EX_SOFTWARE of sysexits.h; never 1, which means findings."""
INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""

INTERRUPTED_LINE = "devplan: interrupted"

TRACEBACK = "--traceback"
VERBOSE = "--verbose"
SWITCHES = frozenset({TRACEBACK, VERBOSE})
"""Options that may stand anywhere: before the command, after it, or between its arguments."""

_LONGEST = 200


def _show_version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        say(f"devplan {__version__}")
        context.exit()


COMMANDS = {
    "suggest": "Compute the best device map of MODEL for a machine, and write it to a file.",
    "check": "Check device maps: names, memory, structure, and virtual runs of the split model.",
    "fit": "Find the machines and precisions that hold MODEL.",
    "compare": "Compare devplan's map of MODEL with those of accelerate and transformers.",
    "diff": "Show what changes from map A to map B: entries, memory, copies and most tokens.",
    "graph": "Draw a split model: its blocks by device and the tensors between them.",
    "models": "List the models that devplan knows by name, or show one of them.",
    "gpus": "List the GPUs that --gpus accepts by name, with their memory.",
    "explain": "Explain a rule, or a pasted traceback or log.",
    "doctor": "Show this machine, and how it differs from the machine of MAP; works without GPUs.",
    "lock": "Record this machine's GPUs, driver and versions in MAP, if the map fits it.",
}
"""Each command and the first line of its help, which `devplan --help` shows without an import."""

devplan = Group(
    name="devplan",
    help="Plan device maps for Hugging Face models that are split over several GPUs.",
    summaries=COMMANDS,
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_version,
            help="Show the version.",
        ),
        click.Option(
            [TRACEBACK], is_flag=True, help="Show the traceback of an error (allowed anywhere)."
        ),
        click.Option(
            [VERBOSE],
            is_flag=True,
            help="Show messages of libraries on stderr (allowed anywhere).",
        ),
        help_option(),
    ],
    callback=lambda **_: None,
    context_settings=CONTEXT_SETTINGS,
    add_help_option=False,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and give its exit status; bad input becomes one line on stderr.

    What nobody foresaw is one line too, with a status of its own: 1 means findings.
    """
    arguments, switches = taken_switches(sys.argv[1:] if arguments is None else arguments)
    show_traceback = TRACEBACK in switches
    _open_what_is_closed()
    try:
        if sys.stdout is None:
            raise CannotWrite("it is closed")
        _refuse_half_characters(arguments)
        status = _run(arguments or ["--help"], VERBOSE in switches)
        flush(sys.stdout)
        return status
    except UserCodeError as error:
        return _fail(f"{error.traceback_text.rstrip()}\ndevplan: {prose(str(error))}")
    except DevplanError as error:
        details = _traceback_text(error) if show_traceback else ""
        return _fail(f"{details}devplan: {prose(str(error))}")
    except CannotWrite as error:
        return _cannot_write(str(error))
    except BrokenPipeError:  # the reader of a pipe went away; nobody is there to be told
        _drop_stdout()
        return COULD_NOT_RUN
    except OSError as error:
        return _of_the_system(error, show_traceback)
    except click.ClickException as error:
        return _misused(error)
    except KeyboardInterrupt:
        return _fail(INTERRUPTED_LINE, INTERRUPTED)
    # [BaseException] what a library written in Rust raises when it panics is no Exception, and a
    # library that exits may not choose devplan's status.
    except BaseException as error:
        return _internal(error, show_traceback)


def _run(arguments: list[str], verbose: bool) -> int:
    """The exit status of a command.

    ``devplan.main`` of click would end the process, and decide about pipes and interrupts itself.
    """
    try:
        with devplan.make_context("devplan", list(arguments), obj=verbose) as context:
            return devplan.invoke(context) or 0
    except click.exceptions.Exit as left:
        return left.exit_code


def taken_switches(arguments: Sequence[str]) -> tuple[list[str], frozenset[str]]:
    """The arguments without the switches that may stand anywhere, and which of these were there."""
    arguments = list(arguments)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    found = frozenset(arguments[:end]) & SWITCHES
    rest = [argument for argument in arguments[:end] if argument not in SWITCHES]
    return [*rest, *arguments[end:]], found


def _refuse_half_characters(arguments: Sequence[str]) -> None:
    """Bytes that are not UTF-8 reach Python as halves of characters, which no file can hold."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{argument!r} is not UTF-8 text; rename the file or retype it"
            ) from None


def _open_what_is_closed() -> None:
    """[2>&-] A descriptor that is closed would be the next file that is opened."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                os.fstat(number)
                continue
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free
            if name != "stdout":
                setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


# ------------------------------------------------------------------------------------- errors


def _misused(error: click.ClickException) -> int:
    """A command line that click could not parse."""
    command = getattr(getattr(error, "ctx", None), "command_path", "devplan")
    text = " ".join(error.format_message().split()).rstrip(".")
    said = prose(text[:1].lower() + text[1:])
    return _fail(f"devplan: {said}{' ' if said.endswith('?') else '; '}see {command} --help")


def _of_the_system(error: OSError, show_traceback: bool) -> int:
    """[files] An error of the system that names a file is that file's, and no bug of devplan's."""
    if error.filename is None or error.strerror is None:
        return _internal(error, show_traceback)
    details = _traceback_text(error) if show_traceback else ""
    name = prose(str(error.filename))
    return _fail(f"{details}devplan: cannot use {name}: {error.strerror}; check the path")


def _cannot_write(reason: str) -> int:
    _drop_stdout()
    return _fail(f"devplan: cannot write to stdout: {reason}; free the disk, or give -o FILE")


def _drop_stdout() -> None:
    """What stdout has not taken goes nowhere, or the interpreter would fail on it as it ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        number = sys.stdout.fileno()
        opened = os.open(os.devnull, os.O_WRONLY)
        os.dup2(opened, number)
        os.close(opened)


def _internal(error: BaseException, show_traceback: bool) -> int:
    """One line that asks for a report, and how to get the details where they are not shown."""
    line = f"devplan: internal error, {type(error).__name__}{_message(error)}; please report it "
    if show_traceback:
        line = f"{_traceback_text(error)}{line}with the traceback above"
    else:
        line += "with what the same command prints with --traceback"
    return _fail(line, INTERNAL_ERROR)


def _traceback_text(error: BaseException) -> str:
    """The traceback as Python prints it, ending with a line break."""
    try:
        return "".join(tracebacks.format_exception(error))
    except Exception:  # [messages] an error whose own text cannot be made still has its frames
        return "".join(tracebacks.format_tb(error.__traceback__))


def _message(error: BaseException) -> str:
    """``: text`` in one printable line of bounded length; empty where there is none."""
    try:
        text = " ".join(str(error)[: 4 * _LONGEST].split())
    except Exception:
        return ""
    return f": {visible(text, _LONGEST)}" if text else ""


def _fail(text: str, status: int = COULD_NOT_RUN) -> int:
    say(text, to_stderr=True)
    return status
