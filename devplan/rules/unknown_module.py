"""Entry for a module that the model does not have.

What it does:
    Looks for entries that name no module and no tensor of the model, and for what they were meant
    to name: transformers moves modules from release to release.

Why it breaks:
    The entry places nothing. accelerate only warns, and the intended module goes where another
    entry puts it, or has no device at all. It is an error if the intended module is on another
    device, or if the model has a module of a similar name. It is a warning if the intended module
    is on the device of the entry anyway, or if no module has a similar name.

Example:
    device_map:
      visual: 0       # transformers 4.45 to 4.51
      model: 1
      lm_head: 1

Use instead:
    device_map:
      model.visual: 0                # since 4.52
      model.language_model: 1
      lm_head: 1

Limits:
    Candidates are found by the parts of the names alone. A module whose last part was renamed
    (h to layers) gets the nearest spelling, or none. Of a checkpoint whose code is not here only
    modules with stored tensors are known: any other gives a note.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from devplan.core import DeviceMapFile, Finding, Fix, ModelFacts, Severity, nearest
from devplan.rules.context import CheckContext
from devplan.rules.places import counted, listed

SEVERITY = Severity.ERROR

_MOST_SHOWN = 3


def check(context: CheckContext) -> Iterator[Finding]:
    renames = Renames(name for name in context.structure.modules if name)
    moved: dict[tuple[str, str], dict[str, str]] = {}
    for key in context.entries:
        if context.is_known(key):
            continue
        candidates = renames.candidates(key)
        if len(candidates) == 1:
            moved.setdefault(moved_prefix(key, candidates[0]), {})[key] = candidates[0]
        elif context.structure.by_tensors_only:
            yield _not_stored(context, key)
        else:
            yield _unknown(context, key, candidates)
    for new_names in moved.values():
        yield _renamed(context, new_names)


def _renamed(context: CheckContext, new_names: dict[str, str]) -> Finding:
    old = next(iter(new_names))
    changed = {new: context.device_map[old] for old, new in new_names.items()}
    lost = [new for new, device in changed.items() if context.device_of(new) != device]
    more = f" ({counted(len(new_names) - 1, 'other entry')} alike)" if len(new_names) > 1 else ""
    return Finding(
        code="DP002",
        severity=Severity.ERROR if lost else Severity.WARNING,
        message=f"the model has no module {old!r}{more}; "
        f"{context.structure.class_name} calls it {new_names[old]!r}",
        module=old,
        entry=context.entries[old],
        fix=Fix(
            text="rename the entry" if not more else "rename the entries",
            changed_entries=changed,
            dropped_entries=tuple(new_names),
        ),
        count=len(new_names),
    )


def _not_stored(context: CheckContext, key: str) -> Finding:
    """Of a model without its code: whether it has such a module, nobody can say."""
    return Finding(
        code="DP002",
        severity=Severity.NOTE,
        message=f"the checkpoint stores nothing of {key!r}; whether the model's code has such a "
        "module cannot be seen without it",
        module=key,
        entry=context.entries[key],
        fix=Fix(text="check again where the code is, with --trust-remote-code"),
    )


def _unknown(context: CheckContext, key: str, candidates: tuple[str, ...]) -> Finding:
    if candidates:
        near = f"; {listed(candidates)} have such names"
    else:
        near = nearest(key, context.structure.modules)
    return Finding(
        code="DP002",
        severity=Severity.ERROR if candidates or near else Severity.WARNING,
        message=f"the model has no module {key!r}{near}",
        module=key,
        entry=context.entries[key],
        fix=Fix(
            text="correct the name or remove the entry", dropped_entries=() if near else (key,)
        ),
    )


def entries_without_module(
    map_file: DeviceMapFile, model: ModelFacts, remake: str
) -> Iterator[Finding]:
    """The entries of the map that name nothing in the model at hand, as one finding."""
    if not model.names:
        return
    unknown = [entry for entry in map_file.device_map if entry and entry not in model.names]
    if not unknown:
        return
    planned = map_file.model
    shown = ", ".join(unknown[:_MOST_SHOWN])
    more = len(unknown) - _MOST_SHOWN
    yield Finding(
        code="DP002",
        severity=Severity.ERROR,
        module=unknown[0],
        message=f"{len(unknown)} of the {len(map_file.device_map)} entries of the map are no "
        f"modules of {planned.class_name} of this release: {shown}"
        + (f" and {more} more" if more > 0 else ""),
        planned=unknown[0],
        fix=Fix(text=f"run `devplan check` to see their present names; or {remake}"),
    )


# Releases of transformers move modules: visual became model.visual, model.layers.0 of a
# vision-language model became model.language_model.layers.0, and language_model.model.norm became
# model.language_model.norm.  Parts of the name are added, dropped or change places, and the end
# remains.  So a candidate for an unknown name is a module that
#
# * ends in the same part (for a number: in the same two parts), and
# * has all parts of the unknown name in their order with others between them, or the reverse, or
#   the same parts in another order,
#
# and the best candidates are those with the fewest parts added or dropped.


class Renames:
    """Finds candidates among the names of a model."""

    def __init__(self, names: Iterable[str]) -> None:
        self._by_end: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
        for name in names:
            parts = tuple(name.split("."))
            self._by_end.setdefault(_end(parts), []).append(parts)

    def candidates(self, name: str) -> tuple[str, ...]:
        """The most probable new names; none, one, or several equally good ones."""
        parts = tuple(name.split("."))
        related = [c for c in self._by_end.get(_end(parts), ()) if _is_related(parts, c)]
        fewest = min((_changes(parts, candidate) for candidate in related), default=0)
        return tuple(".".join(c) for c in related if _changes(parts, c) == fewest)


def _end(parts: tuple[str, ...]) -> tuple[str, ...]:
    return parts[-2:] if parts[-1].isdecimal() else parts[-1:]


def _is_related(old: tuple[str, ...], new: tuple[str, ...]) -> bool:
    if old == new:
        return False
    return _is_part_of(old, new) or _is_part_of(new, old) or sorted(old) == sorted(new)


def _is_part_of(short: Sequence[str], long: Sequence[str]) -> bool:
    """Whether `short` can be had from `long` by leaving parts out."""
    remaining = iter(long)
    return all(part in remaining for part in short)


def _changes(old: tuple[str, ...], new: tuple[str, ...]) -> int:
    return abs(len(old) - len(new))


def moved_prefix(old: str, new: str) -> tuple[str, str]:
    """What differs between two names before their common end: one rename of many entries."""
    old_parts, new_parts = old.split("."), new.split(".")
    while old_parts and new_parts and old_parts[-1] == new_parts[-1]:
        old_parts.pop()
        new_parts.pop()
    return ".".join(old_parts), ".".join(new_parts)
