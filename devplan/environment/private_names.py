"""Private names of torch, transformers, accelerate and diffusers that devplan relies on.

A library may rename or drop them in any release.  ``private_names.json`` is the only list: for each
name its owner, the files that may touch it, and the release since or until which it exists where it
does not exist in all.  ``tests/test_private_names.py`` compares the list with the code and with the
installed releases.  At run time a missing name becomes a note of the result (`missing_notes`).
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from dataclasses import dataclass
from functools import cache
from importlib import metadata, resources
from types import CodeType
from typing import Any

_GONE = object()


@dataclass(frozen=True, kw_only=True)
class PrivateName:
    """One private name."""

    owner: str
    """Module or class that has it: ``transformers.modeling_utils.PreTrainedModel``."""
    name: str
    files: tuple[str, ...]
    """Files below ``devplan/`` that may touch it."""
    since: str = ""
    """The release that came with it, where older ones are supported without it."""
    until: str = ""
    """The release that dropped it, where newer ones are supported without it."""

    @property
    def library(self) -> str:
        return self.owner.partition(".")[0]

    @property
    def is_required(self) -> bool:
        """Whether every supported release has it."""
        return not (self.since or self.until)


@cache
def private_names() -> tuple[PrivateName, ...]:
    """The whole list, in its order."""
    text = resources.files(__package__).joinpath("private_names.json").read_text(encoding="utf-8")
    rows = (dict(row, files=tuple(row["files"])) for row in json.loads(text))
    return tuple(PrivateName(**row) for row in rows)


@cache
def has_name(owner: Any, name: str) -> bool:
    """Whether a module or class has a name: as an attribute, or for its instances in its code."""
    if hasattr(owner, name) or name in getattr(owner, "__annotations__", {}):
        return True
    if f"{getattr(owner, '__name__', '')}.{name}" in sys.modules:
        return True
    if inspect.isclass(owner):
        return any(name in code.co_names for code in map(_code_of, vars(owner).values()) if code)
    try:
        return re.search(rf"\b{name}\b", inspect.getsource(owner)) is not None
    except (OSError, TypeError):  # code in C, or without its text
        return False


def _code_of(value: Any) -> CodeType | None:
    return getattr(inspect.unwrap(value) if callable(value) else None, "__code__", None)


def missing_notes() -> tuple[str, ...]:
    """A note for each library in this process that lacks names which devplan relies on.

    Nothing is imported: a module that nobody has imported had no part in the result.
    """
    missing: dict[str, list[str]] = {}
    for each in private_names():
        owner = _loaded(each.owner)
        if each.is_required and owner is not None and not has_name(owner, each.name):
            missing.setdefault(each.library, []).append(f"{each.owner}.{each.name}")
    return tuple(
        f"this {library} ({_version(library)}) is not a release that devplan knows: it lacks "
        f"{', '.join(names)}; numbers may be wrong"
        for library, names in missing.items()
    )


def _loaded(owner: str) -> Any | None:
    """The module or class, if its module has been imported; a class that is gone has no names."""
    parts = owner.split(".")
    first = next((n for n, part in enumerate(parts) if part[:1].isupper()), len(parts))
    if owner.startswith("torch.ops."):  # no modules: each part is made when it is asked for
        first = 2
    found = sys.modules.get(".".join(parts[:first]))
    for part in parts[first:]:
        found = None if found is None else getattr(found, part, _GONE)
    return found


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "(unknown release)"
