"""The environment: what is on this machine, and what a map needs of it.

    read_environment -> Environment                        what is here
    needs_of, assignment                                   what a map needs of a GPU, and who has it
    map + Environment -> remapped                          the map with its GPUs renumbered
    map + Environment -> renewal_command                   the command that makes the map again
    model -> ModelFacts                                    what is known before weights are read

``devplan.rules.differences`` compares a map with an environment.
"""

from devplan.environment.command import (
    renewal_command,
)
from devplan.environment.model_facts import (
    changes_of,
    class_facts,
    facts_of_pipeline,
    facts_of_skeleton,
    is_configured_otherwise,
    is_local,
    read_model_facts,
    with_sizes,
)
from devplan.environment.needs import (
    Need,
    assignment,
    is_same_kind,
    needs_of,
)
from devplan.environment.private_names import (
    missing_notes,
)
from devplan.environment.reading import (
    OFFLOAD_FOLDER,
    measured,
    read_environment,
)
from devplan.environment.remapping import (
    remapped,
)

__all__ = [
    "OFFLOAD_FOLDER",
    "Need",
    "assignment",
    "changes_of",
    "class_facts",
    "facts_of_pipeline",
    "facts_of_skeleton",
    "is_configured_otherwise",
    "is_local",
    "is_same_kind",
    "measured",
    "missing_notes",
    "needs_of",
    "read_environment",
    "read_model_facts",
    "remapped",
    "renewal_command",
    "with_sizes",
]
