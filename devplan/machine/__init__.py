"""The machine that is planned for: cards with capacity and reserve, the main device, offload.

A machine is written as one line, ``--gpus``, and need not be here: cards are given by the index
of a local GPU, by size, by a name of the catalogue, or mixed.  ``items`` reads one item of that
line, ``cards`` gives the cards their numbers and capacities, ``reserve`` what is kept free of the
plan, ``offload`` the memory outside the GPUs, ``label`` a short name for files.
"""

from devplan.machine.capability import capability_of, least_capability, least_of_all
from devplan.machine.label import machine_label
from devplan.machine.parse import MachineLike, as_machine, parse_gpus

__all__ = [
    "MachineLike",
    "as_machine",
    "capability_of",
    "least_capability",
    "least_of_all",
    "machine_label",
    "parse_gpus",
]
