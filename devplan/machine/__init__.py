"""The machine that is planned for: cards with capacity and reserve, the main device, offload.

A machine is written as one line, ``--gpus``, and need not be here: cards are given by the index
of a local GPU, by size, by a name of the catalogue, or mixed.  ``cards`` reads that line, ``parse``
all options together, ``reserve`` what is kept free of the plan, ``gpu_facts`` looks up what the
catalogue knows of a card, ``label`` gives a short name for files.
"""

from devplan.machine.cards import (
    MAX_CARDS,
    read_items,
)
from devplan.machine.gpu_facts import (
    Speed,
    capability_of,
    gpu_of,
    least_capability,
    least_of_all,
    speeds_of,
)
from devplan.machine.label import (
    machine_label,
)
from devplan.machine.links import (
    MEASURED,
    link_between,
    with_links,
)
from devplan.machine.parse import (
    MachineLike,
    as_machine,
    parse_gpus,
    read_tiers,
)
from devplan.machine.reserve import (
    CONTEXT_BYTES,
    default_reserve,
    reserve_parts,
)

__all__ = [
    "CONTEXT_BYTES",
    "MAX_CARDS",
    "MEASURED",
    "MachineLike",
    "Speed",
    "as_machine",
    "capability_of",
    "default_reserve",
    "gpu_of",
    "least_capability",
    "least_of_all",
    "link_between",
    "machine_label",
    "parse_gpus",
    "read_items",
    "read_tiers",
    "reserve_parts",
    "speeds_of",
    "with_links",
]
