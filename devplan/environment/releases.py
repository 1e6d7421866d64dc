"""Releases of libraries: which differences between two of them matter to a map.

Modules change their names and hooks their meaning with minor releases of transformers, accelerate
and diffusers: such a difference may matter.  A patch release, or another torch, has not been seen
to change a map; it is worth a note.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator

from devplan.core import DeviceMapFile, Difference, Environment, Severity, parse_whole

OTHER_RELEASE = "DP501"
TOO_OLD = "DP513"

COMPARED = ("transformers", "accelerate", "torch", "diffusers", "safetensors")
"""Versions of devplan itself do not matter to a model that runs."""
_DECISIVE = ("transformers", "accelerate", "diffusers")


def weight_of(name: str, made: str, here: str) -> Severity | None:
    """How much it matters that a library is here in another release; None: not at all.

    Local parts do not count: builds of torch for other CUDA versions make the same map.
    """
    made, here = made.partition("+")[0], here.partition("+")[0]
    if made == here:
        return None
    is_minor = _minor(made) != _minor(here)
    return Severity.WARNING if name in _DECISIVE and is_minor else Severity.NOTE


def _minor(version: str) -> tuple[str, ...]:
    return tuple(version.split(".")[:2])


def compare_releases(
    map_file: DeviceMapFile, environment: Environment, remake: str
) -> Iterator[Difference]:
    """Libraries, and where the map is locked the driver, CUDA and Python, of another release."""
    lock = map_file.environment
    made = {**map_file.versions, **(lock.versions if lock else {})}
    for name in COMPARED:
        if name in made:
            here = environment.versions.get(name)
            if here is not None:
                yield from _library(name, made[name], here, remake)
            elif name in map_file.versions:
                yield _not_installed(name, made[name])
    if lock is not None:
        yield from _driver(lock.driver, environment.driver)
        yield from _built(lock.cuda, environment.torch_cuda)
        yield from _python(lock.python, environment.python)


def _not_installed(name: str, made: str) -> Difference:
    return Difference(
        code=OTHER_RELEASE,
        severity=Severity.ERROR,
        subject=name,
        message=f"the map was made with {name} {made}, which is not installed",
        planned=made,
        remedy=f'pip install "{name}=={_release(made)}"',
    )


def _library(name: str, made: str, here: str, remake: str) -> Iterator[Difference]:
    severity = weight_of(name, made, here)
    if severity is None:
        return
    is_warning = severity is Severity.WARNING
    why = ": modules, hooks and bugs change from one to the other" if is_warning else ""
    again = f'pip install "{name}=={_release(made)}", or {remake}'
    yield Difference(
        code=OTHER_RELEASE,
        severity=severity,
        subject=name,
        message=f"the map was made with {name} {made}, here is {here}{why}",
        planned=made,
        present=here,
        remedy=again if is_warning else "",
    )


def _release(version: str) -> str:
    return version.partition("+")[0]


def _driver(made: str | None, here: str | None) -> Iterator[Difference]:
    if made is None or here is None or made == here:
        return
    is_older = _numbers(here) < _numbers(made)
    yield Difference(
        code=OTHER_RELEASE,
        severity=Severity.WARNING if is_older else Severity.NOTE,
        subject="driver",
        message=f"the map is locked to driver {made}, here is {here}"
        + (", which is older" if is_older else ""),
        planned=made,
        present=here,
        remedy="renew the driver, or lock the map again: devplan lock MAP" if is_older else "",
    )


def _built(made: str | None, here: str | None) -> Iterator[Difference]:
    if made is None or made == here:
        return
    yield Difference(
        code=OTHER_RELEASE,
        severity=Severity.NOTE,
        subject="cuda",
        message=f"the map is locked to a torch for CUDA {made}, here it is for {here or 'none'}",
        planned=made,
        present=here,
    )


def _python(made: str, here: str) -> Iterator[Difference]:
    if _minor(made) != _minor(here):
        yield Difference(
            code=OTHER_RELEASE,
            severity=Severity.NOTE,
            subject="python",
            message=f"the map is locked to Python {made}, here is {here}",
            planned=made,
            present=here,
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(parse_whole(part) for part in version.split(".") if part.isdecimal())


# ------------------------------------------------------------------------------ lower bounds


def too_old(environment: Environment) -> Iterator[Difference]:
    """Libraries below what devplan itself asks for; nothing where devplan is not installed."""
    from packaging.requirements import Requirement

    try:
        required = importlib.metadata.requires("devplan") or []
    except importlib.metadata.PackageNotFoundError:
        return
    for text in required:
        requirement = Requirement(text)
        here = environment.versions.get(requirement.name)
        if here is None or requirement.specifier.contains(_release(here), prereleases=True):
            continue
        yield Difference(
            code=TOO_OLD,
            severity=Severity.ERROR,
            subject=requirement.name,
            message=f"devplan needs {requirement.name}{requirement.specifier}, here is {here}",
            planned=str(requirement.specifier),
            present=here,
            remedy=f'pip install "{requirement.name}{requirement.specifier}"',
        )
