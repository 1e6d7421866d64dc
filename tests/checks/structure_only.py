"""What a check finds without running the model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from devplan.checker.preparation import prepare
from devplan.checker.results import result_of
from devplan.core.findings import CheckResult


def check_structure(model: Any, map: Any, **asked: Any) -> CheckResult:
    """The findings about the structure; DP901 says that nothing ran."""
    return result_of(replace(prepare(model, map, **asked), not_run=""))
