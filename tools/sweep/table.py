"""``docs/coverage.md`` from rows and readings: the same rows give the same page."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from tools.sweep.readings import Catalogue, Key, Reading, key_of
from tools.sweep.row import FoundMismatch, Outcome, Row, Stage

LEAST_SHARE = 0.95
"""Of the types with a forward that have to run: issue 13's bound."""
MOST_WITHOUT_INPUTS = 0.01
"""Of these, the share for which no example inputs can be made."""
UNREAD = "not read yet"
_SHORT = "transformers/models/"

_PROSE = """\
<!-- Made by `make sweep`; edit tools/sweep. -->

# Coverage

Every model type of the installed transformers that has a model class, at its default configuration
and full size, is given example inputs and run over two virtual cards, the way `devplan check`
does: prefill and two steps with the cache for what generates, `forward` for the rest. Each type
has two maps: *planned*, what the planner of `devplan suggest` makes of weights and caches alone,
and *in order*, the module tree cut at half its bytes. Both keep declared classes, layers and tied
weights whole, so that what is found is no fault of the map. `devplan suggest` itself also counts
activations, runs its plan, plans again with what the run taught, and says what is left.

A type whose default configuration contradicts itself gets the few settings in
`tools/sweep/usable.py`. A type that does not run in bfloat16 is tried in float32, one whose
`generate` refuses the inputs with `forward`, one that runs out of time or memory with {layers}
layers; the tables say so. Inputs are one sequence of 64 tokens with an image and a sound where the
model takes them.
"""


def page_of(rows: Mapping[str, Row], catalogue: Catalogue, facts: Mapping[str, str]) -> str:
    """The page.

    Parameters
    ----------
    rows
        Model type -> row.
    catalogue
        The readings.
    facts
        What else the page says of the setting: versions, limits, types without a class.
    """
    ordered = [rows[name] for name in sorted(rows)]
    parts = [
        _PROSE.format(layers=facts["layers"]),
        f"{facts['setting']}\n",
        _counts(ordered),
        *_mismatches(ordered, catalogue),
        *_not_runnable(ordered),
        *_otherwise(ordered),
        *_all(ordered),
        f"## Without a class\n\n{facts['without class']}\n",
    ]
    return "\n".join(parts).rstrip() + "\n"


def problems(rows: Mapping[str, Row], catalogue: Catalogue) -> list[str]:
    """What has to be done before the sweep is good: one line each."""
    found = _findings(rows.values())
    readings = catalogue.by_key
    unread = [f"{UNREAD}: {place} {op}" for place, op in sorted(found.keys() - readings.keys())]
    stale = [f"read, but not found: {place} {op}" for place, op in sorted(readings - found.keys())]
    share = share_that_ran(rows.values())
    few = [f"{share:.1%} ran, {LEAST_SHARE:.0%} should"] if share < LEAST_SHARE else []
    without = share_without_inputs(rows.values())
    if without > MOST_WITHOUT_INPUTS:
        few.append(f"{without:.1%} have no inputs, {MOST_WITHOUT_INPUTS:.0%} may")
    return unread + stale + few


def share_that_ran(rows: Iterable[Row]) -> float:
    """Of the types that have a ``forward``."""
    tried = [row for row in rows if row.outcome is not Outcome.NO_FORWARD]
    ran = sum(row.outcome in (Outcome.CLEAN, Outcome.MISMATCH) for row in tried)
    return ran / len(tried) if tried else 0.0


def share_without_inputs(rows: Iterable[Row]) -> float:
    """Of the types that have a ``forward``, those for which no example inputs can be made."""
    tried = [row for row in rows if row.outcome is not Outcome.NO_FORWARD]
    return sum(row.stage is Stage.INPUTS for row in tried) / len(tried) if tried else 0.0


def _findings(rows: Iterable[Row]) -> dict[Key, list[tuple[Row, str, FoundMismatch]]]:
    """Place and op -> everything that was found there: the type, its map, the finding."""
    found: dict[Key, list[tuple[Row, str, FoundMismatch]]] = defaultdict(list)
    for row in rows:
        for name, finding in row.findings:
            found[key_of(finding)].append((row, name, finding))
    return dict(found)


def _counts(rows: Sequence[Row]) -> str:
    counts = Counter(row.outcome for row in rows)
    lines = [(outcome.value, counts[outcome]) for outcome in Outcome]
    lines.append(("types with a class", len(rows)))
    text = table(("outcome", "types"), lines)
    return f"{text}\n\n{share_that_ran(rows):.1%} of the types with a forward run.\n"


# ------------------------------------------------------------------------------ mismatches


def _mismatches(rows: Sequence[Row], catalogue: Catalogue) -> Iterable[str]:
    found = _findings(rows)
    groups: dict[Reading | None, list[Key]] = defaultdict(list)
    for key in sorted(found):
        groups[catalogue.by_key.get(key)].append(key)
    order = sorted(groups, key=lambda reading: groups[reading][0])
    yield (
        "## Mismatches\n\nEvery line at which a tensor met another on the wrong card, read in the "
        f"code of transformers {catalogue.transformers}: *confirmed* means that PyTorch would raise"
        " there on two GPUs with such a map.\n"
    )
    for reading in order:
        types = sorted({row.model_type for key in groups[reading] for row, _, _ in found[key]})
        yield f"### {_verdict(reading)}: {', '.join(types)}\n"
        if reading is not None:
            yield f"{reading.why} Happens with {reading.maps}.\n"
        lines = [_line(key, found[key]) for key in groups[reading]]
        headers = ("file and line", "op", "code", "rule", "maps")
        yield table(headers, lines) + "\n"


def _verdict(reading: Reading | None) -> str:
    return UNREAD if reading is None else reading.verdict


def _line(key: Key, found: Sequence[tuple[Row, str, FoundMismatch]]) -> tuple[str, ...]:
    place, op = key
    first = found[0][2]
    codes = sorted({finding.code for _, _, finding in found})
    maps = sorted({name for _, name, _ in found})
    return (
        place.removeprefix(_SHORT),
        f"`{op}`",
        _code(first.text),
        ", ".join(codes),
        ", ".join(maps),
    )


def _code(text: str) -> str:
    short = text if len(text) <= 90 else text[:87] + "..."
    return "`" + short.replace("|", "\\|") + "`" if short else ""


# ------------------------------------------------------------------------------- what ran


def _not_runnable(rows: Sequence[Row]) -> Iterable[str]:
    left = [row for row in rows if row.outcome is Outcome.NOT_RUNNABLE]
    yield "## Not runnable\n"
    lines = [(row.model_type, row.class_name, row.stage.value, cell(row.reason)) for row in left]
    yield table(("type", "class", "stopped at", "why"), lines) + "\n"


def _otherwise(rows: Sequence[Row]) -> Iterable[str]:
    """Types that ran, but not as they are by default."""
    ran = [row for row in rows if row.outcome in (Outcome.CLEAN, Outcome.MISMATCH)]
    other = [row for row in ran if row.changed]
    yield "## Ran otherwise\n"
    lines = [(row.model_type, ", ".join(row.changed), cell(row.reason)) for row in other]
    yield table(("type", "how", "why"), lines) + "\n"


def _all(rows: Sequence[Row]) -> Iterable[str]:
    ran = [row for row in rows if row.outcome in (Outcome.CLEAN, Outcome.MISMATCH)]
    yield "## Ran\n"
    lines = [
        (row.model_type, row.class_name, row.outcome.value, row.inputs, _phases(row)) for row in ran
    ]
    headers = ("type", "class", "outcome", "inputs", "phases")
    yield table(headers, lines) + "\n"
    holders = [row for row in rows if row.outcome is Outcome.NO_FORWARD]
    yield "## No forward of its own\n"
    lines = [(row.model_type, row.class_name) for row in holders]
    yield table(("type", "class"), lines) + "\n"


def _phases(row: Row) -> str:
    alone = {item.name for item in row.maps if item.num_devices < 2}
    phases = ", ".join(row.maps[0].phases)
    return f"{phases}; on one card ({', '.join(sorted(alone))})" if alone else phases


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table that is not padded: one long cell would widen every line."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


_LONGEST_REASON = 160


def cell(text: str) -> str:
    """Text of a cell: one line, not too long."""
    line = " ".join(text.split())
    short = line if len(line) <= _LONGEST_REASON else line[: _LONGEST_REASON - 3] + "..."
    return short.replace("|", "\\|")
