"""Everything in which this machine differs from a map, the gravest first.

    map + environment (+ model) -> differences

Nothing is read here but what was handed over: `read_environment` reads the machine, and
`devplan.environment.model_facts` a model.
"""

from __future__ import annotations

from devplan.core import DeviceMapFile, Difference, Environment, ModelFacts, Severity
from devplan.environment.command import suggest_command
from devplan.environment.cuda_differences import compare_cuda
from devplan.environment.gpu_differences import compare_cards
from devplan.environment.model_differences import compare_model
from devplan.environment.offload_differences import compare_offload
from devplan.environment.packing_differences import compare_packing
from devplan.environment.releases import compare_releases, too_old
from devplan.environment.settings import settings_in_the_way, visibility_differences

_GRAVEST_FIRST = (Severity.ERROR, Severity.WARNING, Severity.NOTE)


def differences(
    map_file: DeviceMapFile, environment: Environment, model: ModelFacts | None = None
) -> tuple[Difference, ...]:
    """What differs from the map, before a byte is loaded.

    Parameters
    ----------
    map_file
        The map; where it is locked, its lock is compared too.
    environment
        As `read_environment` found it.
    model
        The model that is to be loaded; None: it is not compared.

    Returns
    -------
    tuple of Difference
        Errors, then warnings, then notes.  An error means that the map cannot be used so.

    Examples
    --------
    >>> found = differences(map_file, read_environment())          # doctest: +SKIP
    >>> [each.message for each in found if each.severity is Severity.ERROR]  # doctest: +SKIP
    """
    remake = f"make the map again: {suggest_command(map_file, environment)}"
    found = [
        *compare_cards(map_file, environment),
        *(compare_model(map_file, model, remake) if model is not None else ()),
        *compare_releases(map_file, environment, remake),
        *compare_packing(map_file, environment),
        *compare_offload(map_file, environment, remake),
        *obstacles(environment),
    ]
    return _sorted(found)


def obstacles(environment: Environment) -> tuple[Difference, ...]:
    """What stands in the way of any map on this machine."""
    return _sorted(
        [
            *compare_cuda(environment),
            *too_old(environment),
            *visibility_differences(environment),
            *settings_in_the_way(environment),
        ]
    )


def errors(found: tuple[Difference, ...]) -> tuple[Difference, ...]:
    """Those that matter."""
    return tuple(each for each in found if each.severity is Severity.ERROR)


def _sorted(found: list[Difference]) -> tuple[Difference, ...]:
    return tuple(sorted(found, key=lambda each: _GRAVEST_FIRST.index(each.severity)))
