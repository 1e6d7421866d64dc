"""The baseline: findings that were there when a project began to check its maps.

A **fingerprint** is a digest of code, module, op, the map's file (relative to the baseline's
folder) and the file of the model's code, without lines: a finding is the same after an edit above
it, and in the next release of the model's code.  The baseline is JSON, sorted, with enough words
beside every fingerprint that a person can review it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from devplan.checks.ignoring import ignore_known
from devplan.errors import InputError
from devplan.findings import CheckResult, Diagnostic, Severity

VERSION = 1
_REASON = "in the baseline"


def fingerprint(diagnostic: Diagnostic, folder: str | Path = ".") -> str:
    """What makes two findings the same: 16 hexadecimal digits."""
    parts = (
        diagnostic.code,
        diagnostic.module or "",
        diagnostic.op or "",
        _map_file(diagnostic, folder),
        diagnostic.source.file if diagnostic.source else "",
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _map_file(diagnostic: Diagnostic, folder: str | Path) -> str:
    file = diagnostic.entry.file if diagnostic.entry else None
    if file is None:
        return ""
    try:
        return Path(os.path.relpath(file, folder)).as_posix()
    except ValueError:  # another drive of Windows
        return Path(file).as_posix()


def baseline_text(results: Iterable[CheckResult], folder: str | Path) -> str:
    """The baseline that accepts everything that was found; notes are never findings."""
    known = {}
    for result in results:
        for diagnostic in result.diagnostics:
            if diagnostic.severity is not Severity.NOTE:
                known[fingerprint(diagnostic, folder)] = {
                    "code": diagnostic.code,
                    "map": _map_file(diagnostic, folder),
                    "module": diagnostic.module,
                    "message": diagnostic.message,
                }
    ordered = dict(sorted(known.items(), key=lambda item: (item[1]["map"], item[1]["code"])))
    return json.dumps({"version": VERSION, "findings": ordered}, indent=2) + "\n"


def read_baseline(path: str | Path) -> frozenset[str]:
    """The fingerprints of a baseline.

    Raises
    ------
    InputError
        When the file cannot be read or is no baseline.
    """
    try:
        content: Any = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"cannot read the baseline {path}: {error.strerror}; write it with --write-baseline"
        ) from None
    except ValueError:
        content = None
    findings = content.get("findings") if isinstance(content, dict) else None
    if not isinstance(findings, dict) or content.get("version") != VERSION:
        raise InputError(f"{path} is no baseline of devplan; write it with --write-baseline")
    return frozenset(findings)


def apply_baseline(result: CheckResult, known: frozenset[str], folder: str | Path) -> CheckResult:
    """The result with the findings of the baseline put aside."""
    accepted = [d for d in result.diagnostics if fingerprint(d, folder) in known]
    return ignore_known(result, accepted, _REASON)
