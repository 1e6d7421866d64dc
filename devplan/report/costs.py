"""The parts of a plan's report that are about time: copies of a step, and what a request takes."""

from __future__ import annotations

from devplan.core import (
    DECODE,
    PREFILL,
    STEPS,
    WHOLE_RUN,
    Link,
    Machine,
    Plan,
    Traffic,
    Workload,
    format_bytes,
)
from devplan.report.terminal import Terminal

_IN_WORDS = {
    PREFILL: "a prefill of {tokens:,} tokens",
    DECODE: "a decode step",
    WHOLE_RUN: "a run of three denoising steps",
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
        "run": "Every copy of the virtual run is counted",
        "graph": "Counted from what enters the blocks, not from a run of the split model",
    }[traffic.basis]
    lines += terminal.paragraph(f"{counted}. {_links_sentence(traffic, machine)}")
    return lines


def _step_sentence(traffic: Traffic, step: str, workload: Workload) -> str:
    is_known = step != PREFILL or traffic.prompt_tokens is not None
    tokens = workload.batch * (traffic.prompt_tokens if step == PREFILL and is_known else 1)
    name = _IN_WORDS[step].format(tokens=tokens) if is_known else "a prefill of your inputs"
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
    advice = "; --links says what the machine has" if guessed else ""
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
    same = " with the same ones offloaded" if plan.offload_bytes else ""
    gap = timing.request_s / timing.lower_bound_s - 1 if timing.lower_bound_s else 0.0
    lines += terminal.paragraph(
        f"A request of {timing.prompt_tokens:,} tokens and {timing.new_tokens:,} new ones: "
        f"{format_seconds(timing.request_s)}. No placement of these blocks{same} takes less than "
        f"{format_seconds(timing.lower_bound_s)} (lower bound); the gap is {gap:.1%}."
    )
    lines += terminal.paragraph(
        "Predicted from the cards' data sheets and from shapes, one card working at a time; "
        "unmeasured, and without Python's own time."
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
