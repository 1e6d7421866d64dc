"""The machine that is planned for: cards with capacity and reserve, the main device, offload.

A machine is written as one line, ``--gpus``, and need not be here: cards are given by the index
of a local GPU, by size, by a name of the catalogue, or mixed.  ``items`` reads one item of that
line, ``cards`` gives the cards their numbers and capacities, ``reserve`` what is kept free of the
plan, ``offload`` the memory outside the GPUs, ``label`` a short name for files.
"""

from devplan.machine.capability import (
    capability_of,
    least_capability,
    least_of_all,
)
from devplan.machine.items import (
    MAX_CARDS,
    read_items,
)
from devplan.machine.label import (
    machine_label,
)
from devplan.machine.links import (
    MEASURED,
    link_between,
    with_links,
)
from devplan.machine.offload import (
    read_tiers,
)
from devplan.machine.parse import (
    MachineLike,
    as_machine,
    parse_gpus,
)
from devplan.machine.reserve import (
    CONTEXT_BYTES,
    default_reserve,
    reserve_parts,
)
from devplan.machine.speeds import (
    Speed,
    gpu_of,
    speeds_of,
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
