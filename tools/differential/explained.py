"""Why the check and reality disagree where they do: ``explained.yaml``.

An **explanation** belongs to disagreements of one kind with one cause.  It names the types; what
is not named is not explained.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from tools.differential.judge import Disagreement, Kind

CATALOGUE = Path(__file__).parent / "explained.yaml"


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """One cause."""

    kind: Kind
    says: str
    """Words that what was raised, or said, contains."""
    types: frozenset[str]
    why: str

    def covers(self, found: Disagreement) -> bool:
        is_said = self.says in found.what
        return found.kind is self.kind and is_said and found.model_type in self.types


def load_explanations(path: Path = CATALOGUE) -> tuple[Explanation, ...]:
    """The catalogue; every field is there."""
    return tuple(
        Explanation(
            kind=Kind(each["kind"]),
            says=each["says"],
            types=frozenset(each["types"]),
            why=" ".join(each["why"].split()),
        )
        for each in yaml.safe_load(path.read_text(encoding="utf-8")) or ()
    )


def unexplained(
    found: Iterable[Disagreement], explanations: Iterable[Explanation]
) -> list[Disagreement]:
    """The disagreements that nobody has explained."""
    known = tuple(explanations)
    return [each for each in found if not any(one.covers(each) for one in known)]
