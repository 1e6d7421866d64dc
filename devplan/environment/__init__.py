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

from devplan.environment.command import (
    suggest_command,
)
from devplan.environment.comparison import (
    differences,
    errors,
    obstacles,
)
from devplan.environment.cuda_differences import (
    UNUSABLE,
)
from devplan.environment.gpu_differences import (
    IN_USE,
    MISSING,
    MOVED,
    OTHER_KIND,
    SMALLER,
)
from devplan.environment.locking import (
    lock_file,
    reasons_against,
)
from devplan.environment.model_differences import (
    compare_model,
)
from devplan.environment.model_facts import (
    class_facts,
    facts_of_pipeline,
    facts_of_skeleton,
    is_local,
    read_model_facts,
    with_sizes,
)
from devplan.environment.offload_differences import (
    TOO_LITTLE,
)
from devplan.environment.reading import (
    OFFLOAD_FOLDER,
    measured,
    read_environment,
)
from devplan.environment.releases import (
    COMPARED,
    weight_of,
)
from devplan.environment.remapping import (
    remapped,
)
from devplan.environment.settings import (
    HIDDEN,
)

__all__ = [
    "COMPARED",
    "HIDDEN",
    "IN_USE",
    "MISSING",
    "MOVED",
    "OFFLOAD_FOLDER",
    "OTHER_KIND",
    "SMALLER",
    "TOO_LITTLE",
    "UNUSABLE",
    "class_facts",
    "compare_model",
    "differences",
    "errors",
    "facts_of_pipeline",
    "facts_of_skeleton",
    "is_local",
    "lock_file",
    "measured",
    "obstacles",
    "read_environment",
    "read_model_facts",
    "reasons_against",
    "remapped",
    "suggest_command",
    "weight_of",
    "with_sizes",
]
