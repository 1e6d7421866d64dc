"""What the check says of a map, held against what the map does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from tools.differential.row import Failure, MapRow, Row, Stage, Way


class Kind(StrEnum):
    """How the two disagree."""

    CLEAN_RAISES = "clean, and raises"
    CLEAN_REFUSED = "clean, and does not load"
    FALSE_ERROR = "an error, and runs"
    ELSEWHERE = "raises elsewhere"
    OTHER_OUTPUT = "gives something else than the unsplit model"
    UNCHECKED = "not run by the check"


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """One way in which a map does something else than the check says."""

    model_type: str
    map: str
    kind: Kind
    way: str
    """Of loading; empty where it is all of them."""
    what: str
    place: str = ""


def disagreements(row: Row) -> Iterator[Disagreement]:
    """Where the check of a type and reality differ; nothing of types that did not come so far."""
    if row.stage is Stage.RAN:
        for each in row.maps:
            yield from _of_map(row.model_type, each)


def num_compared(rows: Iterable[Row]) -> int:
    """Maps that were checked and run."""
    return sum(len(row.maps) for row in rows if row.stage is Stage.RAN)


def _of_map(model_type: str, row: MapRow) -> Iterator[Disagreement]:
    def differs(kind: Kind, way: str, what: str, place: str = "") -> Disagreement:
        return Disagreement(
            model_type=model_type, map=row.name, kind=kind, way=way, what=what, place=place
        )

    if row.not_run:
        yield differs(Kind.UNCHECKED, "", row.not_run)
        return
    if row.said and all(map(runs, row.ways.values())):
        for said in row.said:
            yield differs(Kind.FALSE_ERROR, "", said.what, said.place)
    for name, way in row.ways.items():
        if way.refused and not row.said:
            yield differs(Kind.CLEAN_REFUSED, name, way.refused)
        for call, failure in way.failures.items():
            if not row.said:
                yield differs(Kind.CLEAN_RAISES, name, f"{call}: {failure.what}", failure.place)
            elif not _is_foretold(failure, row.said):
                yield differs(Kind.ELSEWHERE, name, f"{call}: {failure.what}", failure.place)
        for call in way.others if not row.said else ():
            yield differs(Kind.OTHER_OUTPUT, name, call)


def runs(way: Way) -> bool:
    """Whether a map that was loaded this way does what the unsplit model does."""
    return not (way.refused or way.failures or way.others)


def _is_foretold(failure: Failure, said: tuple[Failure, ...]) -> bool:
    """Whether a finding names the line at which the model stopped."""
    return any(failure.place in (each.place, *each.stack) for each in said)
