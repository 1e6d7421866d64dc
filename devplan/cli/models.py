"""``devplan models``: the catalogue, and what is known of one model in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from devplan.cli.printing import say
from devplan.io import out

if TYPE_CHECKING:
    from devplan.catalog import CatalogModel


def models_command(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A model of the catalogue, with or without its organisation. Default: list all.",
            show_default=False,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> int:
    """List the models that devplan knows by name, or show one with sources and sizes.

    \b
    devplan models
    devplan models Qwen2.5-VL-7B-Instruct
    """
    from devplan.catalog import models
    from devplan.report import model_json, model_text, models_json, models_text, terminal_of

    terminal = terminal_of(out())
    if name is None:
        entries = models.load_models()
        say(models_json(entries) if json else models_text(entries, terminal), end="")
        return 0
    entry = find_model(name)
    from devplan.workflows import known_of

    known = known_of(entry)
    say(model_json(known) if json else model_text(known, terminal), end="")
    return 0


def find_model(name: str) -> CatalogModel:
    """The entry of a name.

    Raises
    ------
    InputError
        With the nearest names.
    """
    from devplan.catalog import models
    from devplan.core import InputError
    from devplan.models import did_you_mean

    entry = models.find_catalog_model(name)
    if entry is None:
        hint = did_you_mean(name) or "; `devplan models` lists them"
        raise InputError(f"no model of the catalogue is called {name!r}{hint}")
    return entry
