"""GPUs that torch cannot use.

What it does:
    Finds a build of torch without CUDA on a machine with GPUs, a driver that is too old for the
    CUDA that torch was built with, and a GPU whose architecture torch has no code for.

Why it breaks:
    torch.cuda.is_available() is False, and "auto" puts everything on the CPU; or the first kernel
    fails with "no kernel image is available for execution on the device". A driver of the same
    major CUDA that is older than torch's CUDA is a warning: code that is compiled at its first use
    may fail.

Example:
    pip install torch        # on Windows: a build for the CPU

Use instead:
    the build of torch for your driver: https://pytorch.org/get-started/locally/

Limits:
    ROCm builds are not judged. What the package cuda-compat makes possible counts as possible,
    since torch then sees the GPUs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from devplan.core import Environment, Finding, Fix, FoundCard, Severity, parse_whole
from devplan.rules.context import CheckContext

SEVERITY = Severity.ERROR

# Within one major release of CUDA, newer builds run on older drivers, but code that is compiled
# when it is first used (PTX, Triton) may not
# (https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html).  A build for
# another major release runs only with the package cuda-compat: torch then sees the GPUs, and
# nothing is reported.  A kernel for sm_80 runs on 8.0 and later 8.x, one for compute_80 is compiled
# for anything later (CUDA C++ Programming Guide, "Binary Compatibility" and "PTX Compatibility").

_INSTALL = "https://pytorch.org/get-started/locally/"
_ARCH = re.compile(r"(sm|compute)_(\d+?)(\d)[af]?")


def check(context: CheckContext) -> Iterator[Finding]:
    yield from context.found_here("DP508")


def compare_cuda(environment: Environment) -> Iterator[Finding]:
    """What keeps torch from using the cards that are here."""
    if environment.torch_hip is not None:
        return  # [ROCm] has other drivers; torch's own word is all that is known
    problem = None if environment.cards else _why_none(environment)
    if problem is not None:
        yield problem
    elif environment.cards:
        yield from _older_driver(environment)
    for card in environment.cards:
        if not _has_code_for(card, environment.torch_archs):
            yield _no_code(card, environment)


def _why_none(environment: Environment) -> Finding | None:
    """Why torch sees no card although there are some; None where there are none or are hidden."""
    has_driver = bool(environment.driver_cards) or environment.driver_cuda is not None
    if not has_driver and environment.driver is None:
        return None
    torch = f"torch {environment.versions.get('torch', '')}".rstrip()
    number = len(environment.driver_cards)
    cards = (
        f"the driver has {number} GPU{'' if number == 1 else 's'}" if number else "a driver is here"
    )
    if environment.torch_cuda is None:
        latest = _dotted(environment.driver_cuda)
        upto = f"; this driver runs builds up to CUDA {latest}" if latest else ""
        return _unusable(
            f"{torch} is a build without CUDA, and {cards}",
            f"install a build with CUDA ({_INSTALL}){upto}",
            planned="a build with CUDA",
            found=environment.versions.get("torch"),
        )
    if _is_too_old(environment):
        return _unusable(
            f"driver {environment.driver or ''} supports CUDA {_dotted(environment.driver_cuda)} "
            f"at most, and {torch} is built for {environment.torch_cuda}",
            f"update the driver, or install a build of torch for CUDA "
            f"{_dotted(environment.driver_cuda)} ({_INSTALL})",
            planned=environment.torch_cuda,
            found=_dotted(environment.driver_cuda),
        )
    if environment.visible is not None:
        return None  # hidden: that is another matter, with its own code
    said = next((note for note in environment.notes if note.startswith("torch: ")), "")
    return _unusable(
        f"{cards}, but torch sees none{f' ({said})' if said else ''}",
        "see what torch.cuda.init() says",
    )


def _is_too_old(environment: Environment) -> bool:
    built, latest = _pair(environment.torch_cuda), environment.driver_cuda
    return built is not None and latest is not None and latest[0] < built[0]


def _older_driver(environment: Environment) -> Iterator[Finding]:
    built, latest = _pair(environment.torch_cuda), environment.driver_cuda
    if built is None or latest is None or latest >= built or latest[0] < built[0]:
        return
    yield _unusable(
        f"driver {environment.driver or ''} supports CUDA {_dotted(latest)}, torch is built for "
        f"{environment.torch_cuda}: kernels that are compiled when they are first used may fail",
        "update the driver if they do",
        planned=environment.torch_cuda,
        found=_dotted(latest),
        severity=Severity.WARNING,
    )


def _has_code_for(card: FoundCard, archs: tuple[str, ...]) -> bool:
    if card.compute_capability is None or not archs:
        return True
    for arch in archs:
        match = _ARCH.fullmatch(arch)
        if match is None:
            return True  # an architecture of a name that is not known: nothing is proven
        has = parse_whole(match[2]), parse_whole(match[3])
        exact = has[0] == card.compute_capability[0] or match[1] == "compute"
        if exact and has <= card.compute_capability:
            return True
    return False


def _no_code(card: FoundCard, environment: Environment) -> Finding:
    torch = f"torch {environment.versions.get('torch', '')}".rstrip()
    capability = _dotted(card.compute_capability)
    archs = " ".join(environment.torch_archs)
    return _unusable(
        f"{card.device} ({card.name}) has compute capability {capability}, and {torch} has code "
        f"for {archs} only",
        f"install a build of torch for it ({_INSTALL}), or hide it with CUDA_VISIBLE_DEVICES",
        module=card.device,
        planned=archs,
        found=capability,
    )


def _unusable(
    message: str,
    fix: str,
    *,
    module: str = "torch",
    planned: str | None = None,
    found: str | None = None,
    severity: Severity = Severity.ERROR,
) -> Finding:
    return Finding(
        code="DP508",
        severity=severity,
        module=module,
        message=" ".join(message.split()),
        planned=planned,
        found=found,
        fix=Fix(text=fix),
    )


def _pair(version: str | None) -> tuple[int, int] | None:
    numbers = re.match(r"(\d+)\.(\d+)", version or "")
    return (parse_whole(numbers[1]), parse_whole(numbers[2])) if numbers else None


def _dotted(pair: tuple[int, int] | None) -> str:
    return "" if pair is None else ".".join(map(str, pair))
