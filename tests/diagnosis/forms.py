"""One real failure, printed in every form in which people paste it.

The traceback is that of a real exception of the installed libraries.  What other tools would have
printed around it is put around it here; rich prints its own.
"""

from __future__ import annotations

import functools
import io
import linecache
import re
import traceback
from collections.abc import Callable, Mapping

from devplan.diagnosis.sites import sites_of


def python(error: BaseException) -> str:
    """As Python prints it."""
    return "".join(traceback.format_exception(error))


def with_prefix(prefix: str) -> Callable[[BaseException], str]:
    """As a launcher or a log prints it."""

    def form(error: BaseException) -> str:
        return "\n".join(f"{prefix}{line}" for line in python(error).splitlines())

    return form


def stamped(error: BaseException) -> str:
    """Every line with a time of its own."""
    lines = python(error).splitlines()
    return "\n".join(
        f"2026-03-02 14:07:{50 + index // 100}.{index % 100:03} ERROR {line}"
        for index, line in enumerate(lines)
    )


def coloured(error: BaseException) -> str:
    """As Python 3.13 prints it on a terminal, more or less."""
    text = re.sub(r'(File )(".*?")', "\\1\x1b[35m\\2\x1b[0m", python(error))
    return re.sub(r"^(\w+Error)(: )", "\x1b[1;35m\\1\x1b[0m\\2\x1b[35m", text, flags=re.M)


def colours_without_escape(error: BaseException) -> str:
    """Copied through something that drops the ESC."""
    return coloured(error).replace("\x1b", "")


def on_windows(error: BaseException) -> str:
    """The same files under a Windows environment."""

    def path(match: re.Match[str]) -> str:
        inside = match[1].replace("/", "\\")
        return f'File "C:\\Users\\Ana\\venv\\Lib\\site-packages\\{inside}"'

    return re.sub(r'File "[^"]*site-packages/([^"]+)"', path, python(error)).replace("\n", "\r\n")


def without_indentation(error: BaseException) -> str:
    """Pasted into a form that eats leading spaces."""
    return "\n".join(line.lstrip() for line in python(error).splitlines())


def quoted(error: BaseException) -> str:
    """In an e-mail or an issue."""
    return with_prefix("> ")(error)


def without_head(error: BaseException) -> str:
    """The last frames only."""
    lines = python(error).splitlines()
    heads = [index for index, line in enumerate(lines) if line.startswith("  File")]
    site = [i for i in heads if "modeling_" in lines[i]][-1]
    return "\n".join(lines[site:])


def notebook(error: BaseException) -> str:
    """As IPython 8 prints it."""
    return _notebook(error, _ipython_8)


def old_notebook(error: BaseException) -> str:
    """As IPython 7 and Colab print it."""
    return _notebook(error, _ipython_7)


def linked_notebook(error: BaseException) -> str:
    """With the links of Colab and VS Code."""
    return re.sub(
        r"^(/\S+) in ", r"[\1](https://localhost:8080/#) in ", old_notebook(error), flags=re.M
    )


def _notebook(error: BaseException, head: Callable) -> str:
    name = type(error).__name__
    parts = [f"{'-' * 75}\n{name:<42}Traceback (most recent call last)"]
    for site in sites_of(error):
        code, line = site.traceback.tb_frame.f_code, site.traceback.tb_lineno
        shown = [head(code, line)]
        for number in (line - 1, line, line + 1):
            arrow = f"{'-' * (5 - len(str(number)))}> " if number == line else " " * 7
            text = linecache.getline(code.co_filename, number).rstrip()
            shown.append(
                f"{arrow if number == line else ' ' * (7 - len(str(number)))}{number} {text}"
            )
        parts.append("\n".join(shown))
    return "\n\n".join([*parts, f"{name}: {error}"])


def _ipython_8(code, line: int) -> str:
    name = getattr(code, "co_qualname", code.co_name)
    return f"File {code.co_filename}:{line}, in {name}(*args, **kwargs)"


def _ipython_7(code, line: int) -> str:
    return f"{code.co_filename} in {code.co_name}(*args, **kwargs)"


@functools.cache
def rich(error: BaseException) -> str:
    """As rich prints it, 100 columns wide."""
    return rich_of_width(error, 100)


def rich_of_width(error: BaseException, width: int) -> str:
    """As rich prints it on a terminal of so many columns."""
    from rich.console import Console
    from rich.traceback import Traceback

    console = Console(file=io.StringIO(), width=width, force_terminal=True)
    console.print(Traceback.from_exception(type(error), error, error.__traceback__, max_frames=0))
    return console.file.getvalue()


FORMS: Mapping[str, Callable[[BaseException], str]] = {
    "python": python,
    "torchrun": with_prefix("[rank0]: "),
    "torchrun, no space": with_prefix("[rank0]:"),
    "launcher": with_prefix("[default3]:"),
    "log": with_prefix("2026-03-02 14:07:51,218 - ERROR - root - "),
    "log of loguru": with_prefix("2026-03-02 14:07:51.218 | ERROR    | serve:answer:88 - "),
    "log of vLLM": with_prefix("ERROR 03-02 14:07:51 [core.py:400] "),
    "log of ray": with_prefix("(Worker pid=4711, ip=10.0.0.2) "),
    "log of a container": with_prefix("model-1  | "),
    "log of a cloud": with_prefix("2026-03-02T14:07:51.218Z "),
    "unknown prefix": with_prefix("gpu-node-17 worker[4711] >>> "),
    "stamped": stamped,
    "coloured": coloured,
    "colours without escape": colours_without_escape,
    "windows": on_windows,
    "without indentation": without_indentation,
    "quoted": quoted,
    "notebook": notebook,
    "old notebook": old_notebook,
    "linked notebook": linked_notebook,
    "rich": rich,
}
