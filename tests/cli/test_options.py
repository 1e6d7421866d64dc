"""Every option is declared once, with a help that reads well; what is typed wins over settings."""

from __future__ import annotations

import re

import pytest

from devplan.cli import options as declared
from devplan.cli.app import COMMANDS as SUMMARIES
from devplan.cli.app import devplan as application
from devplan.cli.command import Argument, Option, Options
from devplan.cli.precedence import planned_machine, planned_workload
from devplan.core.errors import InputError

COMMANDS = {name: application.get_command(None, name) for name in SUMMARIES}
ALL = [(name, each) for name, command in COMMANDS.items() for each in command.params]


@pytest.mark.parametrize(("name", "option"), ALL, ids=lambda value: getattr(value, "name", value))
def test_a_help_is_one_or_more_sentences_in_the_words_of_the_field(name, option):
    text = option.help
    assert re.match(r"[A-Z].*[.)]$", text), text
    assert not re.search(r"\b[Cc]ards?\b|\bRepeat\.", text), text


@pytest.mark.parametrize("command", COMMANDS.values(), ids=lambda command: command.name)
def test_a_help_of_a_command_begins_with_a_verb_and_fits_its_line(command):
    first = command.help.partition("\n")[0]
    assert re.match(r"[A-Z][a-z]+ .*\.$", first), first
    assert first == SUMMARIES[command.name], "`devplan --help` shows another line"
    names = [name for option in command.params for name in option.opts]
    assert len(names) == len(set(names)), "an option that a command takes twice"


def test_every_option_of_the_table_belongs_to_a_command():
    table = {value for value in vars(declared).values() if isinstance(value, Option | Argument)}
    taken = {(tuple(each.opts), each.metavar) for _, each in ALL}
    assert not {
        option.name for option in table if (tuple(option.opts), option.metavar) not in taken
    }


def test_what_two_commands_take_is_one_declaration():
    """Of a name, commands hold the declaration itself or a variant with another help."""
    readers = {}
    for _, option in ALL:
        if isinstance(option, Option) and option.setting is not None:
            readers.setdefault(option.name, set()).add((option.read, option.setting))
    assert {name: len(found) for name, found in readers.items() if len(found) != 1} == {}


def parsed(*arguments: str, command: str = "suggest") -> Options:
    return Options(COMMANDS[command].make_context(command, list(arguments)))


def test_the_settings_are_the_defaults_and_it_is_known_what_was_typed(here):
    (here / "devplan.yaml").write_text("gpus: [24GiB]\ncontext: 32k\nno-pin: true\n")
    options = parsed("some/model", "--context", "64")
    assert (options.context, options.gpus, options.no_pin) == (64, "24GiB", True)
    assert options.is_typed("context") and not options.is_typed("gpus")
    assert (options.set("context"), options.typed("gpus")) == (32768, None)
    assert planned_workload(options).context == 64


def test_a_machine_that_was_typed_leaves_the_machine_of_the_settings(here):
    (here / "devplan.yaml").write_text("gpus: [24GiB]\nreserve: 2GiB\noffload: cpu=64GiB\n")
    of_settings, typed = planned_machine(parsed()), planned_machine(parsed("--gpus", "24GiB"))
    assert of_settings.cards[0].reserve_bytes > typed.cards[0].reserve_bytes
    assert [tier.device for tier in typed.tiers] == ["cpu"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("context: 2048m", "line 1: context: --context 2147483648: give a whole number"),
        ("batch: 99999999", "line 1: batch: --batch 99999999: give a whole number of sequences"),
        ("images: 5000", "line 1: images: --images 5000: give a whole number of images, 0 to"),
        ("image-size: 5x", "line 1: image-size: --image-size '5x': write height and width"),
        ("kv-dtype: fp9", "line 1: kv-dtype: --kv-dtype: "),
    ],
)
@pytest.mark.parametrize("command", ["suggest", "check"])
def test_a_setting_out_of_bounds_has_its_line_in_every_command(here, command, line, said):
    (here / "devplan.yaml").write_text(f"{line}\n")
    with pytest.raises(InputError, match=re.escape(said)):
        parsed("x", command=command)


@pytest.mark.parametrize("command", ["gpus", "models", "explain", "doctor", "lock"])
def test_a_command_without_settings_reads_none(here, command):
    (here / "devplan.yaml").write_text("nonsense: 1\n")
    arguments = ["map.yaml"] if command == "lock" else []
    assert COMMANDS[command].make_context(command, arguments).default_map is None


def test_the_help_needs_no_settings(here, devplan):
    (here / "devplan.yaml").write_text("nonsense: 1\n")
    assert devplan("suggest", "--help").status == 0
    assert devplan("suggest", "--gpus", "list").status == 0


def test_an_option_that_a_command_does_not_take_is_an_error_of_its_own(here):
    with pytest.raises(AttributeError, match="devplan suggest takes no option baseline"):
        parsed("x").baseline  # noqa: B018
