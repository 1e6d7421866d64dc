"""``devplan lock``: the environment in which a map was found to fit, written into it."""

from __future__ import annotations

from devplan.cli.command import Argument, Options, command
from devplan.cli.doctor import facts_at_hand, look_around
from devplan.cli.options import LOCAL_MODEL, TRUST_REMOTE_CODE
from devplan.cli.printing import say, say_notes
from devplan.io import out, prose, visible

DOES_NOT_FIT = 1

MAP = Argument("map_path", metavar="MAP", help="A map file that devplan wrote.")


@command("lock", MAP, LOCAL_MODEL, TRUST_REMOTE_CODE)
def lock_command(options: Options) -> int:
    """Record this machine's GPUs, driver and versions in MAP, if the map fits it.

    From then on, they are compared when the map is loaded and by `devplan doctor MAP`.  Without
    GPUs, only versions are recorded.

    \b
    devplan lock maps/qwen2.5-vl-7b-instruct__24+12gib__b1-c32768.yaml
    """
    from devplan.checker import lock_file, reasons_against
    from devplan.environment import OFFLOAD_FOLDER
    from devplan.mapfile import read_map
    from devplan.report import difference_lines, terminal_of

    map_path = options.map_path
    map_file = read_map(map_path)
    environment = look_around(OFFLOAD_FOLDER)
    notes: list[str] = []
    facts = facts_at_hand(
        map_file, map_path, options.model, notes, trust_remote_code=options.trust_remote_code
    )
    refused = reasons_against(map_file, environment, facts)
    if refused:
        terminal = terminal_of(out())
        for each in refused:
            say("\n".join(difference_lines(each, terminal)), end="\n\n")
        say(f"{visible(str(map_path))} is not locked: this machine does not fit it")
        return DOES_NOT_FIT
    locked, outcome = lock_file(map_path, environment, facts)
    lock = locked.environment
    cards = ", ".join(f"{card.device} {card.name}" for card in lock.cards)
    what = f"{cards}, driver {lock.driver}, and versions" if cards else "versions only: no GPU here"
    say(f"{visible(str(map_path))} ({outcome.value}): locked to {prose(what)}")
    say_notes(notes)
    return 0
