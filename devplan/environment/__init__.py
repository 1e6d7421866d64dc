"""The environment: what is on this machine, and how it differs from what a map was made for.

    read_environment -> Environment
    map + Environment (+ ModelFacts) -> differences        before a byte is loaded
    map + Environment -> remapped                          the same map, its cards renumbered
    map + Environment -> locked                            the map with the environment in it

Where things are::

    reading, driver, torch_cards, host, visibility        what is here
    needs                                                 what a map needs of a card, and who has it
    compare_*, releases, settings, differences            what differs
    command                                               the `devplan suggest` of every remedy
    remapping, locking, model_facts                       maps and models
"""

from __future__ import annotations

from devplan.environment.command import suggest_command
from devplan.environment.differences import differences, errors, obstacles
from devplan.environment.locking import lock_file, locked
from devplan.environment.model_facts import class_facts, facts_of, read_model_facts, with_sizes
from devplan.environment.reading import measured, read_environment
from devplan.environment.remapping import remapped

__all__ = [
    "class_facts",
    "differences",
    "errors",
    "facts_of",
    "lock_file",
    "locked",
    "measured",
    "obstacles",
    "read_environment",
    "read_model_facts",
    "remapped",
    "suggest_command",
    "with_sizes",
]
