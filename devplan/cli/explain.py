"""``devplan explain``: the page of a rule, or what a pasted traceback means."""

from __future__ import annotations

import codecs
import sys
from pathlib import Path
from typing import Annotated

import typer

from devplan.cli.printing import say
from devplan.cli.shared_options import TrustRemoteCode
from devplan.io import out

NOT_RECOGNISED = 1
STDIN = "-"


def explain_command(
    subject: Annotated[
        str | None,
        typer.Argument(
            metavar="[CODE|FILE|-]",
            help="Code of a rule (DP301) or its name (device-mismatch); a file with a traceback or "
            "a log; - for stdin. Default: list all rules.",
            show_default=False,
        ),
    ] = None,
    device_map: Annotated[
        str | None,
        typer.Option(
            "--map",
            metavar="MAP",
            help="The map that the model was loaded with: names the entry behind a failure, and "
            "runs the check.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="MODEL", help="Where the map does not say it."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Of a traceback: as JSON.")] = False,
    trust_remote_code: TrustRemoteCode = False,
) -> int:
    """Print the page of a rule, or explain a pasted traceback.

    \b
    devplan explain DP301
    devplan explain error.log --map maps/qwen.yaml
    python run.py 2>&1 | devplan explain -
    """
    given = device_map or model or as_json or trust_remote_code
    if subject is None or (not given and _is_rule(subject)):
        return _explain_rule(subject)
    return _explain_text(_text_of(subject), device_map, model, as_json, trust_remote_code)


def _is_rule(subject: str) -> bool:
    """Whether a rule is meant: no file of that name is there, and it looks like none."""
    try:
        return subject != STDIN and not Path(subject).exists() and Path(subject).suffix == ""
    except (OSError, ValueError):  # longer than a file system takes, or no name at all
        return True


def _explain_rule(code: str | None) -> int:
    from devplan.report import rule_text, rules_text, terminal_of

    terminal = terminal_of(out())
    say(rules_text(terminal) if code is None else rule_text(find_rule(code), terminal), end="")
    return 0


def _explain_text(
    text: str | bytes,
    device_map: str | None,
    model: str | None,
    as_json: bool,
    trust_remote_code: bool,
) -> int:
    from devplan.diagnosis import explain_text
    from devplan.report import explained_json, explained_text, terminal_of

    found = explain_text(text, device_map, model, trust_remote_code=trust_remote_code)
    shown = explained_json(found) if as_json else explained_text(found, terminal_of(out()))
    say(shown, end="")
    return 0 if found.reports else NOT_RECOGNISED


def _text_of(subject: str) -> str | bytes:
    """What stands in the file, or comes from stdin; bytes are UTF-8.

    Raises
    ------
    InputError
        When it cannot be read, is too long, or is no text.
    """
    from devplan.core import InputError
    from devplan.io import LOG, bounded_bytes, read_bytes

    if subject == STDIN:
        data = bounded_bytes(sys.stdin.buffer, "the text on stdin", LOG)
    else:
        data = read_bytes(subject, LOG)
    # [PowerShell] writes what is redirected into a file as UTF-16 with a mark.
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return data.decode("utf-16", errors="replace")
    if b"\0" in data:
        raise InputError(f"{subject} is no text; give the log or the traceback as text")
    return data


def find_rule(text: str):
    """The rule of a code or a name, however it is written.

    Raises
    ------
    InputError
        With the nearest codes and names.
    """
    from devplan.core import InputError, nearest
    from devplan.rules import RULES

    by_name = {rule.name: rule for rule in RULES.values()}
    wanted = text.strip()
    rule = RULES.get(wanted.upper()) or by_name.get(wanted.lower().replace("_", "-"))
    if rule is None:
        near = nearest(wanted, [*RULES, *by_name]) or "; `devplan explain` lists all"
        raise InputError(f"no rule has the code {text!r}{near}")
    return rule
