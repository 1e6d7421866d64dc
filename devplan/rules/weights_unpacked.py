"""Map of packed weights that transformers unpacks.

What it does:
    Compares how a map counts quantized weights with what the installed transformers makes of them.
    `devplan suggest --packed` counts them as the checkpoint stores them; the map says so
    (`weights: packed`) where that is less than transformers would need.

Why it breaks:
    transformers 5 unpacks compressed-tensors while it loads them, and FP8 on GPUs without FP8: a
    model of a trillion parameters in INT4 grows from 0.6 to 2 TB, and the first GPU is full long
    before the last layer.

Example:
    devplan suggest moonshotai/Kimi-K2-Thinking --gpus 16x80GiB --packed -o map.yaml
    devplan.load(map="map.yaml")     # from_pretrained unpacks what the map counts packed

Use instead:
    An engine that keeps the weights packed, or a map without `--packed`.

Limits:
    A note where this machine is not compared, for whoever loads with such an engine. Known by the
    release of transformers and the GPUs of the map; what another engine does is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import DeviceMapFile, Environment, Finding, Fix, Severity, parse_whole
from devplan.rules.context import CheckContext

SEVERITY = Severity.ERROR


def check(context: CheckContext) -> Iterator[Finding]:
    here = tuple(context.found_here("DP514"))
    yield from here
    if context.structure.packed and not here:
        yield Finding(
            code="DP514",
            severity=Severity.NOTE,
            message="quantized weights count as they are stored (packed), which the installed "
            "transformers unpacks on these GPUs: all this holds for an engine that keeps them so",
        )


def compare_packing(map_file: DeviceMapFile, environment: Environment) -> Iterator[Finding]:
    """A map of weights as they are stored, which the release that it was made with unpacks.

    An earlier major release may keep them: transformers 4 does with compressed-tensors.
    """
    made, here = map_file.versions.get("transformers"), environment.versions.get("transformers")
    if not map_file.model.packed or here is None or (made and _major(here) < _major(made)):
        return
    method = map_file.model.quantization
    yield Finding(
        code="DP514",
        severity=Severity.ERROR,
        module="weights",
        message=f"the map counts {method} weights packed, as they are stored, and transformers "
        f"{here} unpacks them: they take more than the map says",
        planned="packed",
        found="unpacked",
        fix=Fix(
            text="load them with an engine that keeps them packed, or plan what transformers makes "
            f"of them: devplan suggest {map_file.model.id} without --packed"
        ),
    )


def _major(version: str) -> int:
    first = version.partition(".")[0]
    return parse_whole(first) if first.isdecimal() else 0
