"""``devplan gpus`` and ``--gpus list``: the GPUs that can be named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeVar

import typer

from devplan.cli.printing import say
from devplan.io import out

LIST = "list"
V = TypeVar("V", str | None, list[str] | None)


def gpus_command(
    json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> int:
    """List the GPUs that --gpus knows by name, with their memory.

    \b
    devplan gpus
    devplan suggest Qwen/Qwen3-8B --gpus 2xrtx-4090
    """
    from devplan.catalog import gpus
    from devplan.report import gpus_json, gpus_text, terminal_of

    known = gpus.load_gpus()
    say(gpus_json(known) if json else gpus_text(known, terminal_of(out())), end="")
    return 0


def or_list(cards: V) -> V:
    """What an option for cards was given; for the word ``list`` print the names and be done."""
    given: Sequence[str] = [cards] if isinstance(cards, str) else cards or ()
    if any(each.strip().lower() == LIST for each in given):
        gpus_command()
        raise typer.Exit
    return cards
