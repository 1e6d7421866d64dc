"""The order in which a instance is tried, from what is wished most to what merely fits.

1. All default pins kept: contiguous stages; then stages that close over pinned layers; then a
   packing that is not contiguous.
2. The same with the default pins of one rung of the ladder after another given up, until
   something fits; then every rung that need not have been given up is restored.
3. With offloading, where it was allowed: the fewest bytes, default pins as in 1 and 2.
4. The same with layers of towers offloaded before those of the main run.

Whatever is proven to be hopeless by volume is skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from devplan.core import LARGEST_CONTEXT, ensure
from devplan.planning.bounds import exceeds
from devplan.planning.instance import Instance, has_pinned_layers
from devplan.planning.objectives import OBJECTIVES, Objective
from devplan.planning.offload import offload_fewest, offload_fewest_with_towers
from devplan.planning.pins import ladder
from devplan.planning.problem import Assignment
from devplan.planning.solvers import chain, packing


@dataclass(frozen=True, eq=False, kw_only=True)
class FoundPlacement:
    """A placement that fits, the instance it answers, and what is proven about it."""

    instance: Instance
    assignment: Assignment
    solver: str
    optimal_within: str
    is_most: bool = False
    """Whether it is proven that no placement holds more tokens, with the same blocks offloaded."""
    tokens_in_stages: int | None = None
    """Most tokens that contiguous stages hold; None: not asked."""
    given_up_for: Mapping[tuple[int, ...], str] = field(default_factory=dict)
    """Rung of default pins that gave way -> why; what is not named gave way to fit at all."""


def find_placement(
    instance: Instance, objective: Objective, *, max_steps: int = packing.MAX_STEPS
) -> FoundPlacement | None:
    """The best placement that fits, in the order above; None when none was found."""
    if not exceeds(instance.loads_bytes, instance.loosest_budgets_bytes):
        rungs = relaxations(instance)
        for relaxed in rungs:
            found = find_with(instance, relaxed, objective, max_steps)
            if found is not None:
                return _restored(instance, found, objective, max_steps)
    return _find_offloaded(instance, objective)


def fits(instance: Instance, *, max_steps: int = packing.MAX_STEPS) -> bool:
    """Whether `find_placement` would find anything, without looking for the best."""
    is_hopeless = exceeds(instance.loads_bytes, instance.loosest_budgets_bytes)
    tried = () if is_hopeless else _every_variant(instance)
    on_cards = any(_fits_contiguous_or_packed(each, max_steps) for each in tried)
    return on_cards or find_offload(instance) is not None


def find_offload(instance: Instance) -> Instance | None:
    """The first instance, by what is relaxed, in which offloading makes the rest fit."""
    if not instance.machine.tiers:
        return None
    found = (
        fewest(replace(instance, relaxed=relaxed, pinned_layers_in_chain=False))
        for fewest in (offload_fewest, offload_fewest_with_towers)
        for relaxed in relaxations(instance)
    )
    return next((each for each in found if each is not None), None)


def relaxations(instance: Instance) -> Iterator[frozenset[int]]:
    """Default pins to give up: none, then rung after rung of the ladder."""
    relaxed: frozenset[int] = frozenset()
    yield relaxed
    for rung in rungs(instance):
        relaxed |= frozenset(rung)
        yield relaxed


def rungs(instance: Instance) -> list[tuple[int, ...]]:
    """The ladder without what the user pinned."""
    free = {
        unit: role for unit, role in instance.defaults.items() if unit not in instance.user_pins
    }
    return ladder(free)


def find_with(
    instance: Instance, relaxed: frozenset[int], objective: Objective, max_steps: int
) -> FoundPlacement | None:
    """The best placement with these default pins given up."""
    for each in variants_of(instance, relaxed):
        assignment = objective.contiguous(each)
        if assignment is not None:
            return found_contiguous(each, assignment, objective)
    return _find_packed(each, objective, max_steps)


def _every_variant(instance: Instance) -> Iterator[Instance]:
    """Every set of default pins given up, in every way to treat pinned layers."""
    return (each for relaxed in relaxations(instance) for each in variants_of(instance, relaxed))


def variants_of(instance: Instance, relaxed: frozenset[int]) -> Iterator[Instance]:
    """Pinned layers in line with their card's stage; then, if there are any, out of line."""
    if has_pinned_layers(instance):
        yield replace(instance, relaxed=relaxed)
    in_chain = not has_pinned_layers(instance)
    yield replace(instance, relaxed=relaxed, pinned_layers_in_chain=in_chain)


def loosest(instance: Instance) -> Instance:
    """No default pin kept, stages closing over pinned layers."""
    every = frozenset(instance.defaults) - frozenset(instance.user_pins)
    return replace(instance, relaxed=every, pinned_layers_in_chain=False)


def _fits_contiguous_or_packed(instance: Instance, max_steps: int) -> bool:
    problem = instance.problem()
    return chain.fits(problem) or packing.fits(problem, max_steps=max_steps)


def found_contiguous(
    instance: Instance, assignment: Assignment, objective: Objective
) -> FoundPlacement:
    """A placement in stages, and the class in which it is proven best."""
    kept = "user pins and default pins kept"
    if instance.relaxed:
        kept = "user pins kept, default pins kept but for those given up"
    if not instance.defaults:
        kept = "user pins kept"
    stages = "contiguous stages in execution order"
    if instance.offloaded:
        stages = "contiguous stages of the layers that are neither pinned nor offloaded"
    elif not instance.pinned_layers_in_chain:
        stages = "contiguous stages of the layers that are not pinned"
    exact = objective.is_exact(instance)
    proven = f"{stages}, any order of the GPUs, {kept}" if exact else ""
    return FoundPlacement(
        instance=instance, assignment=assignment, solver=objective.solver, optimal_within=proven
    )


def _find_packed(instance: Instance, objective: Objective, max_steps: int) -> FoundPlacement | None:
    packed = objective.packed(instance.problem(), max_steps=max_steps)
    if packed.assignment is None:
        return None
    proven = "all placements with these pins, by largest share" if packed.proven else ""
    return FoundPlacement(
        instance=instance, assignment=packed.assignment, solver="packing", optimal_within=proven
    )


def _restored(
    instance: Instance, found: FoundPlacement, objective: Objective, max_steps: int
) -> FoundPlacement:
    """The placement with every default pin restored that need not have been given up."""
    for rung in reversed(rungs(instance)):
        relaxed = found.instance.relaxed - frozenset(rung)
        if relaxed != found.instance.relaxed:
            found = find_with(instance, relaxed, objective, max_steps) or found
    return found


def _find_offloaded(instance: Instance, objective: Objective) -> FoundPlacement | None:
    instance = find_offload(instance)
    if instance is None:
        return None
    assignment = objective.contiguous(instance)
    ensure(assignment is not None, "the offload was chosen so that the rest fits")
    return found_contiguous(instance, assignment, objective)


# ---------------------------------------------------------------------------------------- bisection


MAX_TOKENS = LARGEST_CONTEXT
"""Beyond any context that is asked for; a cache that still fits here has stopped growing."""


def largest(works: Callable[[int], bool], *, low: int, high: int | None = None) -> int | None:
    """The largest number from `low` on that works, where all up to it work and none after it.

    None when `low` itself does not work.  Without `high` (a number that is known not to work) the
    search doubles its step, and returns `MAX_TOKENS` when nothing up to there fails.
    """
    if not works(low):
        return None
    step = 1
    while high is None:
        if low + step > MAX_TOKENS:
            return MAX_TOKENS
        if works(low + step):
            low, step = low + step, step * 2
        else:
            high = low + step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if works(middle) else (low, middle)
    return low


# -------------------------------------------------------------------------------------- most tokens
#
# The question "do so many tokens fit?" is asked with rising numbers: first of contiguous stages,
# with rung after rung of default pins given up, then of packings of everything.  It is monotone, as
# loads and activations never fall with tokens.  The placement is then the first in the order of
# attempts above that fits at the most tokens.  Default pins with which as many tokens fit are kept.
# The others give way, and the reason names the tokens that keeping them would cost.
#
# With offloading, the layers to offload are chosen at the workload, and the most tokens are those
# of contiguous stages beside them.


MAX_STEPS = 20_000
"""Of a packing, in a trial; 20 to 40 ms."""
FEWER_STEPS = 2_000
"""The same where only a reason is asked for; 2 to 4 ms."""
CONTEXT, BALANCE = OBJECTIVES["context"], OBJECTIVES["balance"]
EVERYWHERE = "all placements{pins}, by most tokens"
IN_STAGES = (
    "contiguous stages in execution order, any order of the GPUs, default pins kept or given up "
    "rung by rung, by most tokens"
)


def find_longest(instance: Instance) -> FoundPlacement | None:
    """The placement that holds the most tokens; None when nothing fits at the workload."""
    first = find_placement(instance, CONTEXT)
    if first is None or first.instance.tiers:
        return first and _longest_beside(first)
    stages = _most_in_stages(instance)
    most = _most_packed(instance, stages or instance.workload.tokens)
    at_most = _at(instance, most)
    # [stops growing] where nothing ever fills a card, tokens do not tell placements apart.
    found = find_placement(at_most, BALANCE if most >= MAX_TOKENS else CONTEXT, max_steps=MAX_STEPS)
    ensure(found is not None, "the same search found something at as many tokens")
    if most < MAX_TOKENS:
        found = _with_claim(found, instance, most, most if stages == most else None)
        reasons = _reasons(instance, found, most)
        found = replace(found, given_up_for=reasons, tokens_in_stages=stages)
    return replace(found, instance=replace(found.instance, workload=instance.workload))


def _at(instance: Instance, tokens: int) -> Instance:
    return replace(instance, workload=replace(instance.workload, context=tokens))


def _most_in_stages(instance: Instance) -> int | None:
    """Tokens that contiguous stages hold, with any rungs of default pins given up."""
    return _largest_of([*_every_variant(instance)], instance.workload.tokens)


def _largest_of(instances: Iterable[Instance], low: int) -> int | None:
    return largest(lambda n: any(chain.fits(each.problem(n)) for each in instances), low=low)


def _most_packed(instance: Instance, known: int) -> int:
    """Tokens that packings hold, with no default pin kept; at least what is known to fit."""
    if known >= MAX_TOKENS:
        return known
    instance = loosest(instance)
    more = largest(lambda n: packing.fits(instance.problem(n), max_steps=MAX_STEPS), low=known + 1)
    return more or known


def _with_claim(
    found: FoundPlacement, instance: Instance, most: int, in_stages: int | None
) -> FoundPlacement:
    """What is proven: that one token more fits nowhere, or in no contiguous stages."""
    beyond = packing.pack_within(loosest(instance).problem(most + 1))
    if beyond.proven and beyond.assignment is None:
        pins = " with the user's pins" if instance.user_pins else ""
        return replace(found, optimal_within=EVERYWHERE.format(pins=pins), is_most=not pins)
    exact = all(chain.is_exact(each.problem(most)) for each in _every_variant(instance))
    return replace(found, optimal_within=IN_STAGES if exact and in_stages else "")


def _reasons(instance: Instance, found: FoundPlacement, most: int) -> dict[tuple[int, ...], str]:
    """Why each rung gave way: the tokens with it kept."""
    reasons = {}
    for rung in rungs(instance):
        if not set(rung) <= found.instance.relaxed:
            continue
        kept = _most_with(instance, found.instance.relaxed - set(rung), most)
        if kept is not None:
            reasons[rung] = (
                f"kept on {instance.machine.main_device}, {kept:,} tokens fit instead of {most:,}"
            )
    return reasons


def _most_with(instance: Instance, relaxed: frozenset[int], most: int) -> int | None:
    """Tokens that fit with only these pins given up, below the most; None: not the workload's."""
    instances, asked = list(variants_of(instance, relaxed)), instance.workload.tokens
    stages = largest(
        lambda n: any(chain.fits(p.problem(n)) for p in instances), low=asked, high=most
    )
    packed = largest(
        lambda n: packing.fits(instances[-1].problem(n), max_steps=FEWER_STEPS),
        low=stages or asked,
        high=most,
    )
    return packed or stages


def _longest_beside(found: FoundPlacement) -> FoundPlacement:
    """The most tokens in contiguous stages with the same layers offloaded."""
    instance = found.instance
    most = _largest_of([instance], instance.workload.tokens)
    ensure(most is not None, "the offload was chosen so that the rest fits")
    at_most = _at(instance, most)
    objective: Objective = BALANCE if most >= MAX_TOKENS else CONTEXT
    assignment = objective.contiguous(at_most)
    ensure(assignment is not None, "as many tokens were found to fit")
    return found_contiguous(instance, assignment, CONTEXT)
