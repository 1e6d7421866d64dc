"""Commands and their options, made of click.

A command lists the options that it takes (`devplan.cli.options` declares them) and gets an
`Options`, which has an attribute for each::

    @command("suggest", MODEL, GPUS, CONTEXT)
    def suggest_command(options: Options) -> int:
        return planned(options.model, options.gpus, options.context)

An option that was not typed has its value from the settings of the project (click's
``default_map``), else its default.  `Options.is_typed` tells which of these it is.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from devplan.cli.printing import say
from devplan.core import InputError
from devplan.io import own_streams

if TYPE_CHECKING:
    from devplan.cli.settings import Settings

CONTEXT_SETTINGS = {"max_content_width": 100, "show_default": True}


class _Read(click.ParamType):
    """Text that a function reads; a value of the settings has been read already."""

    name = "text"

    def __init__(self, read: Callable[[str], Any] | None) -> None:
        self.read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self.read(value) if self.read and isinstance(value, str) else value


class Option(click.Option):
    """An option, declared once for all commands that take it.

    Parameters
    ----------
    declarations
        ``-o``, ``--output``; first the name in `Options`, where it is not that of the option.
    help
        Begins with a verb or a noun phrase.
    default_words
        The default in words, where it is not a value.
    read
        Takes the text that was typed and gives the value; None: the text is the value.
    setting
        Takes the value in a settings file and gives what would be typed; None: the option cannot
        be set there.
    """

    def __init__(
        self,
        *declarations: str,
        help: str,
        default_words: str | None = None,
        read: Callable[[str], Any] | None = None,
        setting: Callable[[Any], Any] | None = None,
        **more: Any,
    ) -> None:
        if not more.get("is_flag"):
            more["type"] = _Read(read)
        super().__init__(list(declarations), help=_help(help, default_words), **more)
        self.words, self.read, self.setting = help, read, setting

    def but(self, *, help: str | None = None, default_words: str | None = None) -> Option:
        """The option with another help or default for one command."""
        other = copy.copy(self)
        other.help = _help(help or self.words, default_words)
        return other


class Argument(click.Argument):
    """A positional argument, with a help text."""

    def __init__(self, name: str, *, metavar: str, help: str, **more: Any) -> None:
        self.setting = more.pop("setting", None)
        self.read = None
        super().__init__([name], metavar=metavar, type=_Read(None), **more)
        self.help = help

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        return self.metavar, self.help


def _help(text: str, default_words: str | None) -> str:
    return f"{text} Default: {default_words}." if default_words else text


class Defaults(Mapping):
    """The settings of the project as a ``default_map``, read when the first of them is needed."""

    @cached_property
    def settings(self) -> Settings:
        from devplan.cli.settings import load_settings

        return load_settings(Path.cwd())

    def __getitem__(self, name: str) -> Any:
        return self.settings.values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.settings.values)

    def __len__(self) -> int:
        return len(self.settings.values)


class Options:
    """The options of one call: an attribute each, typed or from the settings or the default."""

    def __init__(self, context: click.Context) -> None:
        self._context = context
        self.command = context.info_name

    def __getattr__(self, name: str) -> Any:
        try:
            return self._context.params[name]
        except KeyError:
            raise AttributeError(f"devplan {self.command} takes no option {name}") from None

    @property
    def settings(self) -> Settings:
        """The settings of the project; read from the current folder."""
        return self._context.default_map.settings

    def is_typed(self, name: str) -> bool:
        """Whether an option stood on the command line."""
        return self._context.get_parameter_source(name) is ParameterSource.COMMANDLINE

    def typed(self, name: str) -> Any:
        """The value of an option on the command line; None where it was not typed."""
        return self._context.params[name] if self.is_typed(name) else None

    def set(self, name: str) -> Any:
        """The value of a setting; None where the project does not set it."""
        return self.settings.values.get(name)

    def typed_or_set(self, name: str) -> Any:
        """The same as the attribute, also for settings that the command has no option for."""
        return self.typed(name) if self.is_typed(name) else self.set(name)

    def placed(self, name: str, error: InputError) -> InputError:
        """An error in a value, with the file and the line where the value came from there."""
        if self.is_typed(name) or not self.set(name):
            return error
        return InputError(f"{self.settings.where(name.replace('_', '-'))}: {error}")


class Command(click.Command):
    """A command that has stdout and stderr for itself, and settings where an option has one."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Parse the arguments; the settings are the defaults, where the command takes any."""
        if any(getattr(option, "setting", None) for option in self.params):
            extra["default_map"] = Defaults()
        return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> int | None:
        """Run the command; gives its exit status."""
        with own_streams(bool(ctx.obj)):  # whether --verbose was given
            return self.callback(Options(ctx))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Arguments with their help, then options."""
        for heading, kind in (("Arguments", click.Argument), ("Options", click.Option)):
            parts = [each for each in self.get_params(ctx) if isinstance(each, kind)]
            if parts:
                with formatter.section(heading):
                    formatter.write_dl([each.get_help_record(ctx) for each in parts])

    def format_arguments(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """click since 8.5 would list the arguments once more, behind the options."""


class Group(click.Group):
    """All commands, in the order in which they are listed; each is imported when it is used.

    Parameters
    ----------
    summaries
        Command -> the first line of its help.  The command ``NAME`` is ``NAME_command`` of the
        module ``devplan.cli.NAME``.
    """

    def __init__(self, *, summaries: Mapping[str, str], **more: Any) -> None:
        super().__init__(**more)
        self.summaries = summaries

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.summaries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.summaries:
            return None
        module = importlib.import_module(f"devplan.cli.{cmd_name}")
        return getattr(module, f"{cmd_name}_command")

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self.summaries.items()))


def command(
    name: str, *options: click.Parameter
) -> Callable[[Callable[[Options], int | None]], Command]:
    """Make a command of a function; its docstring is the help."""

    def decorate(function: Callable[[Options], int | None]) -> Command:
        return Command(
            name,
            params=[*options, help_option()],
            callback=function,
            help=function.__doc__,
            context_settings=CONTEXT_SETTINGS,
            add_help_option=False,
        )

    return decorate


def help_option() -> click.Option:
    """``--help``, printed as everything else is: a stream that takes nothing is one line."""

    def show(context: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            context.default_map = None  # the help is that of every folder, also of broken settings
            say(context.get_help())
            context.exit()

    return click.Option(
        ["-h", "--help"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help="Show this message and exit.",
    )
