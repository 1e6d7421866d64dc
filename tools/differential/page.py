"""``docs/differential.md`` from rows and explanations: the same rows give the same page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from tools.differential.explained import Explanation, unexplained
from tools.differential.judge import Disagreement, Kind, disagreements, num_compared, runs
from tools.differential.row import Failure, MapRow, Row, Stage
from tools.sweep.table import cell, table

LEAST_TYPES = 400
LEAST_AGREEMENT = 0.995

PROSE = """\
<!-- Made by `make differential`; edit tools/differential. -->

# What `devplan check` says, and what happens

Every model type of the [sweep](coverage.md) is made small: its usable configuration with widths
divided by 16 (less where the class does not take that), few layers and experts, random weights in
float32, saved as safetensors. The checkpoint is split by two maps: *planned*, where devplan's
planner puts the blocks on two cards before any proof, and *in order*, the module tree cut at half
its bytes. The CPU stands in for the first card and the disk for the second, since the machine that
measures has no GPU: the CPU is then the main device, and what is on disk is on `meta` outside of
its module's forward. Such a map shows whether it loads, whether tied weights and buffers survive,
whether code reads weights that its hook has not loaded, and whether the outputs are those of the
unsplit model. It cannot show that tensors of two cards meet; what the check says of that stands in
[coverage](coverage.md).

Each map is checked and loaded by `from_pretrained(device_map=...)`. The model is then called in
every way in which the check calls it (`generate`, a padded batch, text alone, a video, beam search,
a forward with labels), with the same inputs. It is also loaded by devplan (`devplan.load` for the
planned map, `devplan.apply` for the other), and called once. A call that the unsplit model refuses
on random values is left out.

Check and reality agree on a map where both find nothing and the outputs are equal, or where each
call that raises does so at a line that an error of the check names, however it was loaded. Not all
errors raise: a matrix product of a CPU tensor and a weight on `meta` runs in torch 2.13.0 and gives
arbitrary numbers, so that outputs other than the unsplit model's agree with an error too.
"""


def page_of(rows: Mapping[str, Row], explanations: Sequence[Explanation], setting: str) -> str:
    """The page."""
    ordered = [rows[name] for name in sorted(rows)]
    found = [each for row in ordered for each in disagreements(row)]
    parts = [
        PROSE,
        f"{setting}\n",
        _counts(ordered, found),
        *_disagreeing(found, explanations),
        *_failing(ordered),
        *_left_out(ordered),
    ]
    return "\n".join(parts).rstrip() + "\n"


def problems(rows: Mapping[str, Row], explanations: Sequence[Explanation]) -> list[str]:
    """What has to be done before check and reality agree: one line each."""
    found = [each for row in rows.values() for each in disagreements(row)]
    left = [
        f"not explained: {each.model_type}, {each.map}, {each.way or 'every way'}: "
        f"{each.kind.value}: {each.what} {each.place}"
        for each in unexplained(found, explanations)
    ]
    stale = [
        f"explained, but not found: {each.kind.value}: {each.says!r}"
        for each in explanations
        if not any(map(each.covers, found))
    ]
    types = sum(row.stage is Stage.RAN for row in rows.values())
    few = [f"{types} types were compared, {LEAST_TYPES} should be"] * (types < LEAST_TYPES)
    share = agreement(rows.values())
    low = [f"{share:.2%} agree, {LEAST_AGREEMENT:.1%} should"] * (share < LEAST_AGREEMENT)
    return left + stale + few + low


def agreement(rows: Iterable[Row]) -> float:
    """Of the maps that were checked and run, those on which check and reality agree."""
    rows = list(rows)
    differing = {(each.model_type, each.map) for row in rows for each in disagreements(row)}
    compared = num_compared(rows)
    return 1 - len(differing) / compared if compared else 0.0


def _counts(rows: Sequence[Row], found: Sequence[Disagreement]) -> str:
    ran = [row for row in rows if row.stage is Stage.RAN]
    maps = [each for row in ran for each in row.maps]
    calls = sum(len(row.calls) * len(each.ways) for row in ran for each in row.maps)
    fails = sum(not all(map(runs, each.ways.values())) for each in maps)
    kinds = Counter(kind for kind, _, _ in {(d.kind, d.model_type, d.map) for d in found})
    lines = [
        ("types with a class", len(rows)),
        ("types compared", len(ran)),
        ("maps compared", len(maps)),
        ("maps that do not load, raise or give other numbers", fails),
        ("calls of split models", calls),
        *((f"disagree: {kind.value}", kinds[kind]) for kind in Kind),
        ("maps on which check and reality agree", f"{agreement(rows):.2%}"),
    ]
    return table(("what", "number"), lines) + "\n"


def _disagreeing(
    found: Sequence[Disagreement], explanations: Sequence[Explanation]
) -> Iterable[str]:
    yield "## Disagreements\n"
    if not found:
        yield "None.\n"
    for one in explanations:
        covered = [each for each in found if one.covers(each)]
        if covered:
            types = ", ".join(sorted({each.model_type for each in covered}))
            yield f"### {one.kind.value}: {types}\n\n{one.why}\n"
            yield _lines(covered)
    left = unexplained(found, explanations)
    if left:
        yield "### Not explained yet\n"
        yield _lines(left)


def _lines(found: Sequence[Disagreement]) -> str:
    lines = [
        (each.model_type, each.map, each.way, each.kind.value, cell(each.what), short(each.place))
        for each in found
    ]
    return table(("type", "map", "loaded by", "kind", "what", "where"), lines) + "\n"


def _failing(rows: Sequence[Row]) -> Iterable[str]:
    """Maps that fail where the check says."""
    yield "## Fails where the check says\n"
    lines = []
    for row in rows:
        differing = {each.map for each in disagreements(row)}
        for each in row.maps:
            if each.said and each.name not in differing:
                first = _that_happened(each)
                what = (row.model_type, each.name, short(first.place), cell(_effect(each)))
                lines.append((*what, first.what.partition(" ")[0]))
    yield table(("type", "map", "where", "what happens", "rule"), lines) + "\n"


def _that_happened(row: MapRow) -> Failure:
    """Of what the check says, what the map did; else the first."""
    places = {f.place for way in row.ways.values() for f in way.failures.values()}
    return next((said for said in row.said if said.place in places), row.said[0])


def _effect(row: MapRow) -> str:
    """What a map does that does not run as the unsplit model."""
    failures = [each.what for way in row.ways.values() for each in way.failures.values()]
    refused = [way.refused for way in row.ways.values() if way.refused]
    return next(iter((*failures, *refused)), "gives other numbers")


def _left_out(rows: Sequence[Row]) -> Iterable[str]:
    yield "## Types that are not compared\n"
    lines = [
        (row.model_type, row.class_name, row.stage.value, cell(_reason(row)))
        for row in rows
        if row.stage is not Stage.RAN
    ]
    yield table(("type", "class", "stopped at", "why"), lines) + "\n"
    yield "## Calls that the unsplit model refuses\n"
    calls = [
        (row.model_type, call, cell(why))
        for row in rows
        if row.stage is Stage.RAN
        for call, why in row.refused.items()
    ]
    yield table(("type", "call", "why"), calls) + "\n"


def _reason(row: Row) -> str:
    return row.reason or next(iter(row.refused.values()), "")


def short(place: str) -> str:
    return place.removeprefix("transformers/models/")
