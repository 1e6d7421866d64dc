"""The application, and what becomes of the errors of its commands."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Annotated

import typer

from devplan import __version__
from devplan.cli.check import check_command
from devplan.cli.compare import compare_command
from devplan.cli.diff import diff_command
from devplan.cli.doctor import doctor_command
from devplan.cli.explain import explain_command
from devplan.cli.fit import fit_command
from devplan.cli.gpus import gpus_command
from devplan.cli.graph import graph_command
from devplan.cli.lock import lock_command
from devplan.cli.models import models_command
from devplan.cli.printing import say
from devplan.cli.suggest import suggest_command
from devplan.cli.unforeseen import INTERNAL_ERROR, report_line, traceback_text
from devplan.core import DevplanError, InputError, UserCodeError
from devplan.io import CannotWrite, flush, own_streams, prose

COULD_NOT_RUN = 2
INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""

_PARSERS = ("click", "typer")
INTERRUPTED_LINE = "devplan: interrupted"

TRACEBACK = "--traceback"
VERBOSE = "--verbose"
SWITCHES = frozenset({TRACEBACK, VERBOSE})
"""Options that may stand anywhere: before the command, after it, or between its arguments."""

app = typer.Typer(
    name="devplan",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _alone(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """The command with stdout and stderr to itself."""

    @functools.wraps(command)
    def run(*arguments: object, **options: object) -> int | None:
        with own_streams(_verbose.get()):
            return command(*arguments, **options)

    return run


_verbose: ContextVar[bool] = ContextVar("devplan_verbose", default=False)

for _name, _command in (
    ("suggest", suggest_command),
    ("check", check_command),
    ("fit", fit_command),
    ("compare", compare_command),
    ("diff", diff_command),
    ("graph", graph_command),
    ("models", models_command),
    ("gpus", gpus_command),
    ("explain", explain_command),
    ("doctor", doctor_command),
    ("lock", lock_command),
):
    app.command(_name)(_alone(_command))


def _show_version(value: bool) -> None:
    if value:
        say(f"devplan {__version__}")
        raise typer.Exit


@app.callback()
def devplan(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    traceback: Annotated[
        bool,
        typer.Option(TRACEBACK, help="Show the traceback of an error. May stand anywhere."),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(VERBOSE, help="Show what libraries say, on stderr. May stand anywhere."),
    ] = False,
) -> None:
    """Device maps for Hugging Face models that are split over several GPUs."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and give its exit status; bad input becomes one line on stderr.

    What nobody foresaw is one line too, with a status of its own: 1 means findings.
    """
    arguments, switches = taken_switches(sys.argv[1:] if arguments is None else arguments)
    show_traceback = TRACEBACK in switches
    _verbose.set(VERBOSE in switches)
    _open_what_is_closed()
    try:
        if sys.stdout is None:
            raise CannotWrite("it is closed")
        _refuse_half_characters(arguments)
        status = _parser()(args=arguments or ["--help"], prog_name="devplan", standalone_mode=False)
        flush(sys.stdout)
        # [interrupts] newer releases of typer turn them into this status themselves, silently.
        return _fail(INTERRUPTED_LINE, INTERRUPTED) if status == INTERRUPTED else status or 0
    except UserCodeError as error:
        return _fail(f"{error.traceback_text.rstrip()}\ndevplan: {prose(str(error))}")
    except DevplanError as error:
        details = traceback_text(error) if show_traceback else ""
        return _fail(f"{details}devplan: {prose(str(error))}")
    except CannotWrite as error:
        return _cannot_write(str(error))
    except BrokenPipeError:  # the reader of a pipe went away; nobody is there to be told
        _drop_stdout()
        return COULD_NOT_RUN
    except OSError as error:
        return _of_the_system(error, show_traceback)
    except (KeyboardInterrupt, typer.Abort):
        return _fail(INTERRUPTED_LINE, INTERRUPTED)
    # [BaseException] what a library written in Rust raises when it panics is no Exception, and a
    # library that exits may not choose devplan's status.
    except BaseException as error:
        if isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError):
            _drop_stdout()  # typer's own end of a command whose reader went away
            return COULD_NOT_RUN
        if not _is_usage_error(error):
            return _internal(error, show_traceback)
        command = getattr(getattr(error, "ctx", None), "command_path", "devplan")
        said = prose(_sentence(error.format_message()))
        return _fail(f"devplan: {said}{' ' if said.endswith('?') else '; '}see {command} --help")


def _internal(error: BaseException, show_traceback: bool) -> int:
    details = traceback_text(error) if show_traceback else ""
    return _fail(f"{details}{report_line(error, show_traceback)}", INTERNAL_ERROR)


def _of_the_system(error: OSError, show_traceback: bool) -> int:
    """[files] An error of the system that names a file is that file's, and no bug of devplan's."""
    if error.filename is None and _is_of_the_parser(error):  # it prints the help
        return _cannot_write(str(error.strerror))
    if error.filename is None or error.strerror is None:
        return _internal(error, show_traceback)
    details = traceback_text(error) if show_traceback else ""
    name = prose(str(error.filename))
    return _fail(f"{details}devplan: cannot use {name}: {error.strerror}; check the path")


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


def _cannot_write(reason: str) -> int:
    _drop_stdout()
    return _fail(f"devplan: cannot write to stdout: {reason}; free the disk, or give -o FILE")


def _is_of_the_parser(error: BaseException) -> bool:
    """Whether the parser of the command line was where it was raised."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    name = frame.tb_frame.f_globals.get("__name__", "") if frame is not None else ""
    return name.partition(".")[0] in _PARSERS


def _drop_stdout() -> None:
    """What stdout has not taken goes nowhere, or the interpreter would fail on it as it ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        number = sys.stdout.fileno()
        opened = os.open(os.devnull, os.O_WRONLY)
        os.dup2(opened, number)
        os.close(opened)


@functools.cache
def _parser() -> Callable[..., int | None]:
    """The parser of all commands, made once: that takes longer than most refusals.

    ``app()`` would make it anew, and replace ``sys.excepthook``.
    """
    return typer.main.get_command(app)


def taken_switches(arguments: Sequence[str]) -> tuple[list[str], frozenset[str]]:
    """The arguments without the switches that may stand anywhere, and which of these were there."""
    arguments = list(arguments)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    found = frozenset(arguments[:end]) & SWITCHES
    rest = [argument for argument in arguments[:end] if argument not in SWITCHES]
    return [*rest, *arguments[end:]], found


def _is_usage_error(error: BaseException) -> bool:
    """Whether the parser of the command line raised it, and so knows how to say what is wrong.

    [usage errors] typer brings its own copy of click, or uses the one that is installed.
    """
    package = type(error).__module__.partition(".")[0]
    return hasattr(error, "format_message") and package in _PARSERS


def _sentence(text: str) -> str:
    text = " ".join(text.split()).rstrip(".")
    return text[:1].lower() + text[1:]


def _fail(text: str, status: int = COULD_NOT_RUN) -> int:
    say(text, to_stderr=True)
    return status
