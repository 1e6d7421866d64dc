"""``devplan gpus`` and ``--gpus list``: the GPUs that can be named."""

from __future__ import annotations

from devplan.cli.command import Options, command
from devplan.cli.options import JSON
from devplan.cli.printing import say_report


@command("gpus", JSON)
def gpus_command(options: Options) -> int:
    """List the GPUs that --gpus accepts by name, with their memory.

    \b
    devplan gpus
    devplan suggest Qwen/Qwen3-8B --gpus 2xrtx-4090
    """
    return print_gpus(json=options.json)


def print_gpus(*, json: bool = False) -> int:
    """Print every GPU of the catalogue."""
    from devplan.catalog import gpus
    from devplan.report import gpus_json, gpus_text

    known = gpus.load_gpus()
    say_report(lambda terminal: gpus_text(known, terminal), lambda: gpus_json(known), json)
    return 0
