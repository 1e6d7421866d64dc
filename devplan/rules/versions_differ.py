"""Map that was made with other versions.

What it does:
    Compares the versions of transformers, accelerate, torch and diffusers that stand in the map
    with the installed ones; where a map is locked and this machine is looked at, driver, CUDA and
    Python too. A class of the map that the installed transformers does not have is an error.

Why it breaks:
    Modules change their names, hooks and main device their meaning, and bugs come and go from
    release to release: a map is proven for the versions that it was proven with. Another minor
    version of transformers, accelerate or diffusers is a warning, as is a driver that is older than
    that of the lock; all else is a note.

Example:
    versions:
      transformers: 4.48.3        # installed: 5.23.0

Use instead:
    the map that `devplan suggest --force` writes with the installed versions.

Limits:
    A bare map does not record versions.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import DeviceMapFile, Environment, Finding, Fix, ModelFacts, Severity, parse_whole
from devplan.rules.context import CheckContext

SEVERITY = Severity.WARNING

COMPARED = ("transformers", "accelerate", "torch", "diffusers", "safetensors")
"""Versions of devplan itself do not matter to a model that runs."""
_DECISIVE = ("transformers", "accelerate", "diffusers")


def check(context: CheckContext) -> Iterator[Finding]:
    yield from context.found_here("DP501", but=COMPARED)
    made = context.map.versions
    weights = {
        name: weight
        for name in COMPARED
        if name in made
        and name in context.installed
        and (weight := weight_of(name, made[name], context.installed[name])) is not None
    }
    if not weights:
        return
    different = list(weights)
    listing = ", ".join(f"{n} {made[n]} (installed: {context.installed[n]})" for n in different)
    yield Finding(
        code="DP501",
        severity=Severity.WARNING if Severity.WARNING in weights.values() else Severity.NOTE,
        message=f"the map was made with {listing}",
        module=different[0],
        fix=Fix(
            text="make it again with `devplan suggest --force`, or install the versions it names"
        ),
    )


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
) -> Iterator[Finding]:
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


def _not_installed(name: str, made: str) -> Finding:
    return Finding(
        code="DP501",
        severity=Severity.ERROR,
        module=name,
        message=f"the map was made with {name} {made}, which is not installed",
        planned=made,
        fix=Fix(text=f'pip install "{name}=={release_of(made)}"'),
    )


def _library(name: str, made: str, here: str, remake: str) -> Iterator[Finding]:
    severity = weight_of(name, made, here)
    if severity is None:
        return
    is_warning = severity is Severity.WARNING
    why = ": modules, hooks and bugs change from one to the other" if is_warning else ""
    again = f'pip install "{name}=={release_of(made)}", or {remake}'
    yield Finding(
        code="DP501",
        severity=severity,
        module=name,
        message=f"the map was made with {name} {made}, here is {here}{why}",
        planned=made,
        found=here,
        fix=Fix(text=again if is_warning else ""),
    )


def release_of(version: str) -> str:
    return version.partition("+")[0]


def _driver(made: str | None, here: str | None) -> Iterator[Finding]:
    if made is None or here is None or made == here:
        return
    is_older = _numbers(here) < _numbers(made)
    yield Finding(
        code="DP501",
        severity=Severity.WARNING if is_older else Severity.NOTE,
        module="driver",
        message=f"the map is locked to driver {made}, here is {here}"
        + (", which is older" if is_older else ""),
        planned=made,
        found=here,
        fix=Fix(
            text="update the driver, or lock the map again: devplan lock MAP" if is_older else ""
        ),
    )


def _built(made: str | None, here: str | None) -> Iterator[Finding]:
    if made is None or made == here:
        return
    yield Finding(
        code="DP501",
        severity=Severity.NOTE,
        module="cuda",
        message=f"the map is locked to a torch for CUDA {made}, here it is for {here or 'none'}",
        planned=made,
        found=here,
    )


def _python(made: str, here: str) -> Iterator[Finding]:
    if _minor(made) != _minor(here):
        yield Finding(
            code="DP501",
            severity=Severity.NOTE,
            module="python",
            message=f"the map is locked to Python {made}, here is {here}",
            planned=made,
            found=here,
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(parse_whole(part) for part in version.split(".") if part.isdecimal())


def class_not_installed(map_file: DeviceMapFile, model: ModelFacts) -> Finding:
    """The installed library does not have the class of the map's model."""
    class_name, library = map_file.model.class_name, model.library
    version = map_file.versions.get(library)
    return Finding(
        code="DP501",
        severity=Severity.ERROR,
        module=class_name,
        message=f"the map is for {class_name}, which the installed {library} does not have",
        planned=class_name,
        fix=Fix(text=f'pip install "{library}=={version}"' if version else f"upgrade {library}"),
    )
