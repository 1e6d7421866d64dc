"""One map of a model, run virtually and counted: the same for every map, whoever made it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from devplan.checker import Built, RunOptions, context_of, result_of, run_prepared, structure_of
from devplan.core import (
    OFFLOAD_DEVICES,
    CheckResult,
    DeviceMap,
    DeviceMemory,
    Machine,
    RunRecord,
    TransferEvent,
)
from devplan.machine import least_of_all
from devplan.planning import MAX_TOKENS, largest
from devplan.rules import CheckContext, device_loads, tensor_bytes
from devplan.workflows.profiled_model import ProfiledModel

PROMPT_PHASES = ("prefill", "forward")
TOKEN_PHASE = "decode 1"


@dataclass(frozen=True, kw_only=True)
class CopyTotals:
    """Copies between devices, as a run made them: by hooks, by offloading, by the model's code."""

    num_copies: int
    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What became of a map."""

    name: str
    subject: CheckContext
    check: CheckResult
    loads: tuple[DeviceMemory, ...]
    """Activations are those of the run; foretold where it was cut short or not made."""
    spilled_bytes: Mapping[str, int]
    """``cpu`` or ``disk`` -> weights and buffers that lie there."""
    prompt: CopyTotals | None
    """Of the prompt; None: it did not run."""
    token: CopyTotals | None
    """Of one generated token of every sequence; None: nothing was generated."""
    most_tokens: int | None
    """Tokens per sequence before the first card is full, 0 where the weights alone are too much;
    None: nothing grows."""
    first_full: str | None

    @property
    def is_clean(self) -> bool:
        """Whether it ran and nothing was found that stops the model."""
        return self.has_run and self.check.is_clean

    @property
    def has_run(self) -> bool:
        return bool(self.subject.runs) and self.subject.runs[0].error is None

    @property
    def is_growth_known(self) -> bool:
        """Whether runs showed how cache and activations grow with the tokens."""
        graph = self.subject.structure.graph
        return len(graph.unexecuted) < len(graph.blocks)

    @property
    def verdict(self) -> str:
        """``clean``, or the first thing that is in the way, in a few words."""
        if self.check.errors:
            first = self.check.errors[0]
            return f"{first.code}: {first.message}"
        if not self.subject.runs:
            return f"not run: {self.subject.not_run}"
        error = self.subject.runs[0].error
        return "clean" if error is None else f"{error.type}: {error.message[:200]}"


def peak_share(load: DeviceMemory) -> float:
    """Everything on a card at the fullest moment as a share of its capacity."""
    return load.peak_bytes / load.capacity_bytes


def built_of(studied: ProfiledModel, machines: Iterable[Machine] = ()) -> Built:
    """The model as the checks want it, with activations, and weights as on these machines."""
    structure = structure_of(
        studied.skeleton,
        studied.source,
        studied.graph,
        studied.notes,
        least_capability=least_of_all(machines),
        packed=studied.packed,
    )
    return Built(
        source=studied.source,
        skeleton=studied.skeleton,
        structure=replace(structure, packed=studied.profile.weights.packed),
        workload=studied.workload,
    )


def judge(
    name: str,
    built: Built,
    given: DeviceMap,
    machine: Machine,
    *,
    main_device: str | None = None,
    options: RunOptions | None = None,
) -> Evaluation:
    """Run a map and count it.

    Parameters
    ----------
    name
        For people.
    built
        The model, its blocks with activations.
    given, machine, main_device
        The map, the cards that it is for, and where inputs enter (None: as the machine says).
    """
    subject = context_of(built, given, machine=machine, main_device=main_device)
    record, reason = run_prepared(subject, options or RunOptions())
    subject = replace(subject, runs=(record,) if record else (), not_run=reason)
    loads = memory_of_cards(subject, machine, record)
    most, first_full = most_tokens_of_map(subject, loads)
    return Evaluation(
        name=name,
        subject=subject,
        check=result_of(subject),
        loads=loads,
        spilled_bytes=_spilled(subject),
        prompt=_copies(record, PROMPT_PHASES),
        token=_copies(record, (TOKEN_PHASE,)),
        most_tokens=most,
        first_full=first_full,
    )


def memory_of_cards(
    subject: CheckContext, machine: Machine, record: RunRecord | None
) -> tuple[DeviceMemory, ...]:
    """What the map puts on every card at the workload."""
    found = device_loads(subject)
    complete = record is not None and record.error is None and record.cut_to_tokens is None
    foretold = active_bytes(subject, subject.workload.tokens)
    loads = []
    for card in machine.cards:
        load = found.get(card.device, DeviceMemory(device=card.device))
        ran = load.activation_bytes
        active = ran if complete else max(ran, foretold.get(card.device, 0))
        loads.append(
            replace(
                load,
                activation_bytes=max(active, 0),
                reserve_bytes=card.reserve_bytes,
                capacity_bytes=card.capacity_bytes,
            )
        )
    return tuple(loads)


def _spilled(subject: CheckContext) -> dict[str, int]:
    weights, buffers = tensor_bytes(subject)
    sizes = {d: weights.get(d, 0) + buffers.get(d, 0) for d in OFFLOAD_DEVICES}
    return {device: size for device, size in sizes.items() if size}


def _copies(record: RunRecord | None, phases: Iterable[str]) -> CopyTotals | None:
    """What was copied in the phases that ran to their end."""
    ended = set(phases) & set(record.phases if record else ())
    if not ended:
        return None
    events: list[TransferEvent] = [each for each in record.transfers if each.phase in ended]
    return CopyTotals(
        num_copies=sum(each.count for each in events),
        num_bytes=sum(each.count * each.num_bytes for each in events),
    )


# -------------------------------------------------------------------------------------- most tokens
#
# The most tokens that a map holds are predicted from its run at the workload and from single-card
# runs at other lengths.


def most_tokens_of_map(
    subject: CheckContext, loads: Sequence[DeviceMemory]
) -> tuple[int | None, str | None]:
    """(tokens per sequence, card that is full then).

    0 where a card is too full without any token; None where no number of tokens fills a card.
    What the run needed on a card beyond what was foretold there is taken to be needed at every
    number of tokens.
    """
    workload = subject.workload
    foretold = active_bytes(subject, workload.tokens)
    beyond = {
        load.device: max(load.activation_bytes - foretold.get(load.device, 0), 0) for load in loads
    }

    def left(tokens: int) -> dict[str, int]:
        cache, active = _cache_bytes(subject, tokens), active_bytes(subject, tokens)
        return {
            load.device: load.capacity_bytes
            - load.reserve_bytes
            - (load.load_bytes - load.cache_bytes)
            - cache.get(load.device, 0)
            - active.get(load.device, 0)
            - beyond[load.device]
            for load in loads
        }

    most = largest(lambda tokens: min(left(tokens).values()) >= 0, low=0)
    if most is not None and most >= MAX_TOKENS:
        return None, None
    after = left(most + 1 if most is not None else 0)
    return most or 0, min(after, key=lambda device: after[device])


def active_bytes(subject: CheckContext, tokens: int) -> dict[str, int]:
    """Device -> activations of the block that needs most of those computed there."""
    graph, batch = subject.structure.graph, subject.workload.batch
    active: dict[str, int] = {}
    if graph.between is not None:
        active[subject.main_device] = graph.between.bytes_at(tokens, batch)
    for name, device in computed_on(subject).items():
        needed = graph.block(name).activation_bytes(tokens, batch)
        active[device] = max(active.get(device, 0), needed)
    return active


def _cache_bytes(subject: CheckContext, tokens: int) -> dict[str, int]:
    graph, batch = subject.structure.graph, subject.workload.batch
    held: dict[str, int] = {}
    for name, device in computed_on(subject).items():
        held[device] = held.get(device, 0) + graph.block(name).cache_bytes(tokens, batch)
    return held


def computed_on(subject: CheckContext) -> Mapping[str, str]:
    """Block -> the device that computes it; blocks that a map divides count where their entry is,
    and not at all where they have none."""
    found = {}
    for name in subject.structure.graph.names:
        device = subject.execution_device(subject.device_of(name))
        if device is not None:
            found[name] = device
    return found
