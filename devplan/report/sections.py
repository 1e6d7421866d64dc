"""The parts of a plan's report below the table: stages, transfers, pins, offload, certificate.

Every function returns the lines of one section without its heading; no lines: no section.
"""

from __future__ import annotations

from collections.abc import Iterable

from devplan.core import Certificate, Plan, Transfer, format_bytes
from devplan.report.names import blocks_in_words, layers_in_words
from devplan.report.terminal import Terminal

# Crossings between one pair of cards that are listed one by one; a layout that is no chain of
# stages can have one for every layer.
_MOST_CROSSINGS = 3


def stage_lines(plan: Plan, terminal: Terminal) -> list[str]:
    """First and last block of every stage, and what lies between."""
    wide = max((len(stage.device) for stage in plan.stages), default=0)
    lines = []
    for stage in plan.stages:
        ends = [stage.blocks[0], *(stage.blocks[-1:] if len(stage.blocks) > 1 else [])]
        indent = " " * (wide + 4)
        first = f"  {stage.device:<{wide}}  "
        lines += terminal.paragraph(f" {terminal.ellipsis} ".join(ends), first=first, rest=indent)
        if len(stage.blocks) > 1:
            lines += terminal.paragraph(layers_in_words(stage.blocks), first=indent)
    return lines


def transfer_lines(plan: Plan, terminal: Terminal) -> list[str]:
    """What crosses between the cards for one token."""
    if plan.traffic is None and any(load.uncounted for load in plan.loads):
        return terminal.paragraph("not counted: the model was not run")
    lines = []
    for group in _equal_crossings(plan.transfers):
        lines += _crossing_lines(group, terminal)
    copies = sum(each.num_copies for each in plan.shared_copies)
    if copies:
        size = format_bytes(sum(each.bytes_per_token for each in plan.shared_copies))
        lines += terminal.paragraph(
            "besides, accelerate's hooks copy what all blocks need (position embeddings, masks) "
            f"to each block on another card: {copies} copies a forward, {size} per token"
        )
    return lines


def _equal_crossings(transfers: Iterable[Transfer]) -> list[list[Transfer]]:
    """Many crossings of one kind together, where the first of them stands; few stay in order."""
    kinds: dict[tuple[str, str, int], list[Transfer]] = {}
    for each in transfers:
        kinds.setdefault((each.source, each.target, each.bytes_per_token), []).append(each)
    groups = []
    for each in transfers:
        kind = kinds[each.source, each.target, each.bytes_per_token]
        if len(kind) <= _MOST_CROSSINGS:
            groups.append([each])
        elif each is kind[0]:
            groups.append(kind)
    return groups


def _crossing_lines(group: list[Transfer], terminal: Terminal) -> list[str]:
    first = group[0]
    size = f"{format_bytes(first.bytes_per_token)} per token"
    if not first.bytes_per_token:  # the encoder of a speech model: as much for any text
        size = "nothing that grows with the tokens"
    more = f" and {len(group) - 1} more" if len(group) > 1 else ""
    times = f"{len(group)} x " if len(group) > 1 else ""
    return terminal.paragraph(
        f"{first.source} -> {first.target} before {first.before}{more}: {times}{size}",
        rest="      ",
    )


def pin_lines(plan: Plan, terminal: Terminal) -> list[str]:
    """What was asked to be where, and by whom."""
    lines = []
    for device, reason, blocks in _grouped_pins(plan):
        names = blocks_in_words(blocks, plan.placement)
        lines += terminal.paragraph(
            f"{names}: {'asked for' if reason == 'user' else reason}",
            first=f"  {device}  ",
            rest=" " * (len(device) + 4),
        )
    return lines


def _grouped_pins(plan: Plan) -> list[tuple[str, str, list[str]]]:
    groups: dict[tuple[str, str], list[str]] = {}
    for pin in plan.pins:
        groups.setdefault((pin.device, pin.reason), []).append(pin.block)
    return [(device, reason, blocks) for (device, reason), blocks in groups.items()]


def relaxed_lines(plan: Plan, terminal: Terminal) -> list[str]:
    """Default pins that could not be kept, and why."""
    lines = []
    for relaxed in plan.relaxed:
        names = blocks_in_words(relaxed.blocks, plan.placement) or "all default pins"
        lines += terminal.paragraph(f"{names}: {relaxed.reason}", rest="    ")
    return lines


def offload_lines(plan: Plan, terminal: Terminal) -> list[str]:
    """What lies outside the cards."""
    return [
        line
        for device, size in plan.offload_bytes.items()
        if size
        for line in terminal.paragraph(
            f"{device}: {format_bytes(size)} of weights and buffers, copied to a card every time "
            "they run"
        )
    ]


def certificate_lines(plan: Plan, terminal: Terminal) -> list[str]:
    """How good the plan is, in sentences."""
    certificate = plan.certificate
    lines = terminal.paragraph(f"{_fullest_sentence(plan)} {_proof_sentence(certificate)}")
    is_run = plan.traffic is not None and not any(load.uncounted for load in plan.loads)
    is_known = is_run or certificate.most_tokens is not None
    lines += terminal.paragraph(tokens_sentence(certificate) if is_known else UNKNOWN_TOKENS)
    return lines


UNKNOWN_TOKENS = "How many tokens fit is not known: the model was not run to its end."


def _fullest_sentence(plan: Plan) -> str:
    certificate = plan.certificate
    fullest = max(plan.loads, key=lambda load: load.share)
    return (
        f"Objective {certificate.objective}. The fullest card is {fullest.device}: "
        f"{certificate.bottleneck:.1%} of its capacity less reserve and activations (bottleneck). "
        f"No placement of "
        f"these blocks on these cards is below {certificate.lower_bound:.1%} (lower bound); the "
        f"gap is {certificate.gap:.1%}."
    )


def _proof_sentence(certificate: Certificate) -> str:
    if certificate.optimal_within:
        proof = f"proven best among {certificate.optimal_within}"
    else:
        proof = "nothing is proven but the lower bound"
    return f"Solver {certificate.solver}: {proof}."


def tokens_sentence(certificate: Certificate) -> str:
    """How much longer the context may become."""
    if certificate.most_tokens is None:
        return "No cache was counted that grows with the context."
    card = f"{certificate.first_full} is full" if certificate.first_full else "no card is full"
    most, bound = certificate.most_tokens, certificate.most_tokens_bound
    said = ""
    if bound == most:
        said = "; no placement holds more"
    elif bound is not None:
        said = f"; no placement holds more than {bound:,}, a gap of {bound / most - 1:.1%}"
    return f"Room for {most:,} tokens per sequence, then {card}{said}."
