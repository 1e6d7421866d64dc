"""``devplan models``: the catalogue, and what is known of one model in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devplan.cli.command import Argument, Options, command
from devplan.cli.options import JSON
from devplan.cli.printing import say_report

if TYPE_CHECKING:
    from devplan.catalog import CatalogModel

NAME = Argument(
    "name",
    metavar="[NAME]",
    required=False,
    help="A model of the catalogue, with or without its organization. Default: list all models.",
)


@command("models", NAME, JSON)
def models_command(options: Options) -> int:
    """List the models that devplan knows by name, or show one of them.

    The page of a model shows its sources and its size in each dtype.

    \b
    devplan models
    devplan models Qwen2.5-VL-7B-Instruct
    """
    from devplan.catalog import models
    from devplan.report import model_json, model_text, models_json, models_text

    if options.name is None:
        entries = models.load_models()
        say_report(
            lambda terminal: models_text(entries, terminal),
            lambda: models_json(entries),
            options.json,
        )
        return 0
    entry = find_model(options.name)
    from devplan.workflows import summary_of

    known = summary_of(entry)
    say_report(
        lambda terminal: model_text(known, terminal), lambda: model_json(known), options.json
    )
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
