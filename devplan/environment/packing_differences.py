"""Weights that the map counts packed, and that the transformers at hand would unpack."""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import DeviceMapFile, Difference, Environment, Severity, parse_whole

UNPACKED = "DP514"
LIBRARY = "transformers"


def compare_packing(map_file: DeviceMapFile, environment: Environment) -> Iterator[Difference]:
    """A map of weights as they are stored, which the release that it was made with unpacks.

    An earlier major release may keep them: transformers 4 does with compressed-tensors.
    """
    made, here = map_file.versions.get(LIBRARY), environment.versions.get(LIBRARY)
    if not map_file.model.packed or here is None or (made and _major(here) < _major(made)):
        return
    method = map_file.model.quantization
    yield Difference(
        code=UNPACKED,
        severity=Severity.ERROR,
        subject="weights",
        message=f"the map counts {method} weights packed, as they are stored, and {LIBRARY} {here} "
        "unpacks them: they take more than the map says",
        planned="packed",
        present="unpacked",
        remedy="load them with an engine that keeps them packed, or plan what transformers makes "
        f"of them: devplan suggest {map_file.model.id} without --packed",
    )


def _major(version: str) -> int:
    first = version.partition(".")[0]
    return parse_whole(first) if first.isdecimal() else 0
