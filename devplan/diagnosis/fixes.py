"""What to do, the surest first: a changed entry, the embedding patch, then what the table says.

The table's commands have places to fill (``{model}``, ``{gpus}``); what is not known stays a word
in capitals, as in usage lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby

from devplan.core import GIB, MIB, Card, Fix, Machine, OffloadTier
from devplan.diagnosis.failure_report import FailureReport, SeenWorkload
from devplan.diagnosis.messages import Recognised
from devplan.machine import gpu_of
from devplan.rules import CheckContext

_PATCH = "patch_embeddings"
"""Helps where the embedding is away from the main device, and nowhere else."""
_WORDS = {
    "model": "MODEL",
    "map": "MAP",
    "gpus": "GPUS",
    "batch": "1",
    "context": "TOKENS",
    "device": "cuda:0",
    "other": "cuda:1",
    "main": "cuda:0",
    "name": "NAME",
}


@dataclass(frozen=True, kw_only=True)
class CommandFacts:
    """What commands are filled with; None: not known."""

    model: str | None = None
    map: str | None = None
    machine: Machine | None = None
    num_cards: int = 0
    """Cards of this machine; their indices name them where no map describes them."""
    main_device: str | None = None
    workload: SeenWorkload | None = None
    context: int | None = None
    """Of the map's workload."""
    images: int | None = None
    """Of each sequence, where the map's workload says it."""
    embedding_away: bool | None = None
    """Whether the map puts the input embedding away from the main device."""


def in_words(report: FailureReport, recognised: Recognised, known: CommandFacts) -> FailureReport:
    """The report with what the table says of its message; fixes that it has come first."""
    words = _words(recognised, known)
    message = recognised.message
    from_table = tuple(
        Fix(text=_filled(fix.text, words), command=_kept(_filled(fix.command, words), known))
        for fix in message.fixes
        if not (known.embedding_away is False and _PATCH in fix.command)
    )
    return replace(
        report,
        meaning=_filled(message.meaning, words),
        causes=tuple(_filled(cause, words) for cause in message.causes),
        fixes=_each_once((*report.fixes, *from_table)),
        origin=message.origin,
    )


def _each_once(fixes: tuple[Fix, ...]) -> tuple[Fix, ...]:
    """A command that is proposed already is not proposed again."""
    found: dict[str, Fix] = {}
    for fix in fixes:
        found.setdefault(fix.command or fix.text, fix)
    return tuple(found.values())


def by_entries(changed: Mapping[str, str], subject: CheckContext) -> tuple[Fix, ...]:
    """The changed entries, and the embedding patch where they move the embedding alone."""
    if not changed:
        return ()
    fixes = [Fix(text="change the map", changed_entries=changed)]
    if set(changed) == {subject.structure.graph.embedding}:
        fixes.append(
            Fix(
                text="or keep the map, and let the embedding's output come to "
                f"{subject.main_device}",
                command=f"devplan.{_PATCH}(model)",
            )
        )
    return tuple(fixes)


def _words(recognised: Recognised, known: CommandFacts) -> dict[str, str]:
    workload = known.workload
    context = workload.context if workload else known.context
    named = recognised.devices
    stated = {
        "device": named[0] if named else None,
        "other": named[1] if len(named) > 1 else None,
        "model": known.model,
        "map": known.map,
        "gpus": gpus_argument(known.machine) or ",".join(map(str, range(known.num_cards))),
        "main": known.main_device,
        "batch": str(workload.batch) if workload else None,
        "context": str(context) if context else None,
    }
    return {**_WORDS, **recognised.facts, **{key: word for key, word in stated.items() if word}}


def gpus_argument(machine: Machine | None) -> str:
    """``--gpus`` for the machine of a map: cards of the catalogue by name, others by size."""
    if machine is None:
        return ""
    runs = [(name, len(list(run))) for name, run in groupby(map(_card, machine.cards))]
    return ",".join(f"{count}x{name}" if count > 1 else name for name, count in runs)


def _card(card: Card) -> str:
    known = gpu_of(card)
    return known.id if known is not None else _size(card.capacity_bytes)


def _size(num_bytes: int) -> str:
    return f"{num_bytes // GIB}GiB" if num_bytes % GIB == 0 else f"{num_bytes // MIB}MiB"


def _kept(command: str, known: CommandFacts) -> str:
    """A command with what the map was planned with and the command does not say yet."""
    if not command.startswith(("devplan suggest ", "devplan check ")):
        return command
    options = [f"--images {known.images}"] if known.images is not None else []
    # [machine] `devplan check MAP` reads the map's own machine, and takes tiers beside --gpus only.
    if "--gpus " in command and "--offload " not in command and known.machine is not None:
        options += [f"--offload {_tier(tier)}" for tier in known.machine.tiers]
    return " ".join([command, *options])


def _tier(tier: OffloadTier) -> str:
    if tier.capacity_bytes is None:
        return tier.device
    return f"{tier.device}={_size(tier.capacity_bytes)}"


class _Words(dict):
    """A place that nobody fills keeps its name in capitals."""

    def __missing__(self, key: str) -> str:
        return key.upper()


def _filled(text: str, words: Mapping[str, str]) -> str:
    return text.format_map(_Words(words))
