"""``devplan explain``: the page of a rule, or what a pasted traceback means."""

from __future__ import annotations

import codecs
import sys
from pathlib import Path

from devplan.cli.command import Argument, Option, Options, command
from devplan.cli.options import JSON, LOCAL_MODEL, TRUST_REMOTE_CODE
from devplan.cli.printing import say, say_report
from devplan.io import out

NOT_RECOGNISED = 1
STDIN = "-"

SUBJECT = Argument(
    "subject",
    metavar="[CODE|FILE|-]",
    required=False,
    help="The code (DP301) or the name (device-mismatch) of a rule; a file with a traceback or a "
    "log; - for stdin. Default: list all rules.",
)
LOADED_MAP = Option(
    "--map",
    metavar="MAP",
    help="The map that the model was loaded with, to name the entry behind a failure and to run "
    "the check.",
)


MODEL = LOCAL_MODEL.but(help="The model, where the map does not name it.")


@command("explain", SUBJECT, LOADED_MAP, MODEL, JSON, TRUST_REMOTE_CODE)
def explain_command(options: Options) -> int:
    """Explain a rule, or a pasted traceback or log.

    \b
    devplan explain DP301
    devplan explain error.log --map maps/qwen.yaml
    python run.py 2>&1 | devplan explain -
    """
    subject = options.subject
    given = options.map or options.model or options.json or options.trust_remote_code
    if subject is None or (not given and _is_rule(subject)):
        return _explain_rule(subject)
    return _explain_text(_text_of(subject), options)


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


def _explain_text(text: str | bytes, options: Options) -> int:
    from devplan.diagnosis import explain_text
    from devplan.report import explained_json, explained_text

    found = explain_text(
        text, options.map, options.model, trust_remote_code=options.trust_remote_code
    )
    say_report(
        lambda terminal: explained_text(found, terminal),
        lambda: explained_json(found),
        options.json,
    )
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
        raise InputError(f"{subject} is not text; give the log or the traceback as text")
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
