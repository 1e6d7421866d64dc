"""The sections of a plan's report: the table of GPUs, stages, transfers, time, pins, certificate.

A function gives the lines of its section without the heading; no lines mean no section.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from tabulate import tabulate

from devplan.core import (
    DECODE,
    PREFILL,
    STEPS,
    WHOLE_RUN,
    Certificate,
    DeviceMemory,
    Link,
    Machine,
    Plan,
    Traffic,
    Transfer,
    Workload,
    format_bytes,
)
from devplan.mapfile import gib_cell, part_cell, shown_parts
from devplan.report.terminal import Terminal
from devplan.report.words import blocks_in_words, layers_in_words

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
        return terminal.paragraph("Not counted: the model was not run.")
    lines = []
    for group in _equal_crossings(plan.transfers):
        lines += _crossing_lines(group, terminal)
    copies = sum(each.num_copies for each in plan.shared_copies)
    if copies:
        size = format_bytes(sum(each.bytes_per_token for each in plan.shared_copies))
        lines += terminal.paragraph(
            "In addition, accelerate's hooks copy the tensors that all blocks need (position "
            "embeddings, masks) to each block on another GPU: "
            f"{copies} copies per forward pass, {size} per token."
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
        size = "no bytes that grow with the number of tokens"
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
            f"{device}: {format_bytes(size)} of weights and buffers, copied to a GPU each time "
            "their module runs"
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


UNKNOWN_TOKENS = "The number of tokens that fit is unknown: the model did not run to its end."


def _fullest_sentence(plan: Plan) -> str:
    certificate = plan.certificate
    fullest = max(plan.loads, key=lambda load: load.share)
    return (
        f"Objective: {certificate.objective}. The fullest GPU (bottleneck) is {fullest.device} "
        f"with a share of {certificate.bottleneck:.1%}. No placement of these blocks on these GPUs "
        f"has a largest share below {certificate.lower_bound:.1%} (lower bound); the gap between "
        f"the two is {certificate.gap:.1%}."
    )


def _proof_sentence(certificate: Certificate) -> str:
    if certificate.optimal_within:
        proof = f"The placement is proven best among {certificate.optimal_within}"
    else:
        proof = "Only the lower bound is proven"
    return f"{proof} (solver: {certificate.solver})."


def tokens_sentence(certificate: Certificate) -> str:
    """How much longer the context may become."""
    if certificate.most_tokens is None:
        return "No KV cache was found that grows with the context."
    card = f"{certificate.first_full} is full" if certificate.first_full else "no GPU is full"
    most, bound = certificate.most_tokens, certificate.most_tokens_bound
    said = ""
    if bound == most:
        said = " No placement holds more."
    elif bound is not None:
        said = f" No placement holds more than {bound:,} (upper bound)."
    return f"The plan has room for {most:,} tokens per sequence; then {card}.{said}"


# ------------------------------------------------------------------------ the table of GPUs


_NARROWEST_BAR = 6
# The table and its bar have to fit 80 columns.
_SHORT = {"activations": "activ."}


def card_lines(loads: Sequence[DeviceMemory], terminal: Terminal) -> list[str]:
    """Parts of the load, reserve, headroom and share of every card, with a bar."""
    parts = shown_parts(loads)
    heads = ["GPU", *(_SHORT.get(head, head) for head in parts), "reserve", "headroom", "share"]
    table = _table([heads, *(_row(load, parts.values(), terminal) for load in loads)])
    bars = [terminal.bar(load.share, _bar_width(table[0], terminal)) for load in loads]
    rows = [f"  {row}  {bar}".rstrip() for row, bar in zip(table[1:], bars, strict=True)]
    rest = "reserve and activations" if "activations" in parts else "reserve"
    short = "activ.: activations; " if "activations" in parts else ""
    explained = f"In GiB. {short}share: weights, buffers and KV cache / room left by {rest}"
    if any(load.uncounted for load in loads):
        explained += "; ?: not counted"
    notes = [terminal.paint(line, "dim") for line in terminal.paragraph(explained)]
    return [terminal.paint(f"  {table[0]}", "bold"), *rows, *notes]


def overflow_lines(loads: Sequence[DeviceMemory], terminal: Terminal) -> list[str]:
    """Capacity, parts of the load, reserve and what is missing; GPUs that are alike share a row."""
    parts = shown_parts(loads)
    heads = ["GPU", "capacity", *(_SHORT.get(head, head) for head in parts), "reserve", "missing"]
    rows = []
    for run in _alike(loads):
        load = run[0]
        missing = gib_cell(max(-load.headroom_bytes, 0))
        cells = [part_cell(load, attribute) for attribute in parts.values()]
        cells = [gib_cell(load.capacity_bytes), *cells, gib_cell(load.reserve_bytes)]
        rows.append([_devices_in_words(run), *cells, terminal.paint(missing, "red")])
    table = _table([heads, *rows])
    short = "; activ.: activations" if "activations" in parts else ""
    notes = [terminal.paint(line, "dim") for line in terminal.paragraph(f"In GiB{short}.")]
    return [terminal.paint(f"  {table[0]}", "bold"), *(f"  {row}" for row in table[1:]), *notes]


def _table(rows: list[list[str]]) -> list[str]:
    """Lines of a table, names to the left and numbers to the right.

    The heads are its first row: tabulate pads headers, and the table would not fit 80 columns.
    """
    alignment = ["left", *["right"] * (len(rows[0]) - 1)]
    text = tabulate(rows, tablefmt="plain", disable_numparse=True, colalign=alignment)
    return text.splitlines()


def _alike(loads: Sequence[DeviceMemory]) -> list[list[DeviceMemory]]:
    """Runs of neighbors that differ in the device only."""
    runs: list[list[DeviceMemory]] = []
    for load in loads:
        if runs and replace(load, device="") == replace(runs[-1][0], device=""):
            runs[-1].append(load)
        else:
            runs.append([load])
    return runs


def _devices_in_words(loads: Sequence[DeviceMemory]) -> str:
    """``cuda:0``, ``cuda:0-3``."""
    first, last = loads[0].device, loads[-1].device
    return first if len(loads) == 1 else f"{first}-{last.rpartition(':')[2]}"


def _row(load: DeviceMemory, attributes: Iterable[str], terminal: Terminal) -> list[str]:
    parts = [part_cell(load, attribute) for attribute in attributes]
    headroom = gib_cell(load.headroom_bytes)
    if load.headroom_bytes < 0:
        headroom = terminal.paint(headroom, "red")
    cells = [*parts, gib_cell(load.reserve_bytes), headroom]
    return [load.device, *cells, f"{load.share:.1%}"]


def _bar_width(head: str, terminal: Terminal) -> int:
    # Two columns of indent before the table and two between table and bar.
    return max(terminal.width - len(head) - 4, _NARROWEST_BAR)


# --------------------------------------------------------------------------------------- time


_IN_WORDS = {
    PREFILL: "Prefill of {tokens:,} tokens",
    DECODE: "Decode step",
    WHOLE_RUN: "Run of three denoising steps",
}
_FEW_LINKS = 3


def traffic_lines(
    plan: Plan, machine: Machine, workload: Workload, terminal: Terminal
) -> list[str]:
    """Copies, bytes and time of a prefill and of a decode step, and the links that they take."""
    traffic = plan.traffic
    if traffic is None or not traffic.routes:
        return []
    lines = []
    for step in (*STEPS, WHOLE_RUN):
        if traffic.of(step):
            lines += terminal.paragraph(_step_sentence(traffic, step, workload), rest="    ")
    counted = {
        "run": "These are all copies of the virtual run",
        "graph": "Counted from the inputs of the blocks; the split model was not run",
    }[traffic.basis]
    lines += terminal.paragraph(f"{counted}. {_links_sentence(traffic, machine)}")
    return lines


def _step_sentence(traffic: Traffic, step: str, workload: Workload) -> str:
    is_known = step != PREFILL or traffic.prompt_tokens is not None
    tokens = workload.batch * (traffic.prompt_tokens if step == PREFILL and is_known else 1)
    name = _IN_WORDS[step].format(tokens=tokens) if is_known else "Prefill of your inputs"
    size, seconds = traffic.num_bytes(step), traffic.seconds(step)
    copies = traffic.num_copies(step)
    text = f"{name}: {copies:,} {'copy' if copies == 1 else 'copies'}, {format_bytes(size)}, "
    text += format_seconds(seconds)
    if tokens > 1 and is_known:
        each = format_bytes(round(size / tokens))
        text += f" ({each} and {format_seconds(seconds / tokens)} per token)"
    return text


def _links_sentence(traffic: Traffic, machine: Machine) -> str:
    """The links that are taken, each kind once."""
    taken = {frozenset((route.source, route.target)) for route in traffic.routes}
    used = [link for link in machine.links if frozenset((link.source, link.target)) in taken]
    kinds: dict[tuple[str, str], list[Link]] = {}
    for link in used:
        kinds.setdefault((link.name, link.basis), []).append(link)
    parts = []
    for (name, basis), links in kinds.items():
        pairs = [f"{link.source} - {link.target}" for link in links]
        where = ", ".join(pairs) if len(pairs) <= _FEW_LINKS else f"{len(pairs)} pairs"
        rate = f"{links[0].bytes_per_s / 10**9:.3g} GB/s"
        parts.append(f"{where}: {name} ({rate}, {basis})")
    guessed = any(basis == "assumed" for _, basis in kinds)
    advice = "; use --links to give those of the machine" if guessed else ""
    return f"Links: {'; '.join(parts)}{advice}." if parts else "Links are assumed."


def timing_lines(plan: Plan, terminal: Terminal) -> list[str]:
    """Work of each card, transfers, sums, and how far the request is from the lower bound."""
    timing = plan.timing
    if timing is None:
        return []
    rows = [(card.device, card.prefill_s, card.decode_s) for card in timing.cards]
    rows.append(("transfers", timing.transfer_s[PREFILL], timing.transfer_s[DECODE]))
    rows.append(("together", timing.step_s(PREFILL), timing.step_s(DECODE)))
    wide = max(len(name) for name, _, _ in rows)
    lines = [f"  {'':<{wide}}  {'prefill':>12}  {'decode step':>12}"]
    lines += [
        f"  {name:<{wide}}  {format_seconds(prefill):>12}  {format_seconds(decode):>12}"
        for name, prefill, decode in rows
    ]
    same = " with these blocks offloaded" if plan.offload_bytes else ""
    gap = timing.request_s / timing.lower_bound_s - 1 if timing.lower_bound_s else 0.0
    lines += terminal.paragraph(
        f"A request of {timing.prompt_tokens:,} tokens and {timing.new_tokens:,} new ones: "
        f"{format_seconds(timing.request_s)}. No placement of these blocks{same} takes less than "
        f"{format_seconds(timing.lower_bound_s)} (lower bound); the gap is {gap:.1%}."
    )
    lines += terminal.paragraph(
        "These times are predicted from data sheets and tensor shapes, with one GPU working at a "
        "time. They are not measured and leave out the time that Python takes."
    )
    return lines


def format_seconds(seconds: float) -> str:
    """Short text of a time: ``3.21 s``, ``14.2 ms``, ``0.9 us``."""
    if not seconds:
        return "0"
    for unit, name in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= unit:
            return f"{seconds / unit:,.3g} {name}" if seconds < 1000 else f"{seconds:,.0f} s"
    return f"{seconds / 1e-6:.3g} us" if seconds >= 1e-6 else f"{seconds / 1e-9:.3g} ns"
