"""Map of packed weights that transformers unpacks.

What it does:
    Compares how a map counts quantized weights with what the installed transformers makes of them.
    `devplan suggest --packed` counts them as the checkpoint stores them; the map says so
    (`weights: packed`) where that is less than transformers would need.

Why it breaks:
    transformers 5 unpacks compressed-tensors while it loads them, and FP8 on cards without FP8: a
    model of a trillion parameters in INT4 grows from 0.6 to 2 TB, and the first card is full long
    before the last layer.

Example:
    devplan suggest moonshotai/Kimi-K2-Thinking --gpus 16x80GiB --packed -o map.yaml
    devplan.load("map.yaml")     # from_pretrained unpacks what the map counts packed

Use instead:
    An engine that keeps the weights packed, or a map without `--packed`.

Limits:
    A note where this machine is not compared, for whoever loads with such an engine. Known by the
    release of transformers and the cards of the map; what another engine does is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Finding, Severity
from devplan.rules.context import CheckContext
from devplan.rules.environment import found_here

SEVERITY = Severity.ERROR


def check(subject: CheckContext) -> Iterator[Finding]:
    here = tuple(found_here(subject, code="DP514"))
    yield from here
    if subject.structure.packed and not here:
        yield Finding(
            code="DP514",
            severity=Severity.NOTE,
            message="quantized weights count as they are stored (packed), which the installed "
            "transformers unpacks on these cards: all this holds for an engine that keeps them so",
        )
