"""Findings that the user has accepted: by code with a reason, or by a baseline.

The **baseline** holds the findings that were there when a project began to check its maps.  An
ignored finding is kept with its reason, apart from those that count; reports show how many there
are.

A **fingerprint** is a digest of what a finding is about, without line numbers and sizes: the rule,
the module, the op, the map's file (relative to the baseline's folder) and its entry, and of the
model's code the file, the function, the text of the line and the names of the operands.  A finding
is the same after an edit above it; the same op in another function is another finding.

Findings that share a fingerprint are counted: a baseline that holds one accepts one.  The baseline
is JSON, sorted, with enough words beside every fingerprint that a person can review it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from devplan.core import CheckResult, Finding, InputError, Severity, nearest
from devplan.io import BASELINE, parse_json, read_bytes, text_of
from devplan.rules import RULES

BASELINE_VERSION = 2
_FIRST = 1
"""The version whose fingerprints knew neither function nor line of code."""
_REASON = "in the baseline"


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What a baseline accepts."""

    counts: Mapping[str, int] = field(default_factory=dict)
    """Fingerprint -> how many findings with it are accepted."""
    version: int = BASELINE_VERSION
    messages: Mapping[str, str] = field(default_factory=dict)
    """Of a baseline of the first version: fingerprint -> the message beside it."""

    @property
    def is_old(self) -> bool:
        """Whether it should be written again."""
        return self.version != BASELINE_VERSION


def fingerprint(diagnostic: Finding, folder: str | Path = ".") -> str:
    """What makes two findings the same: 16 hexadecimal digits."""
    source = diagnostic.source
    code = (source.file, source.function, " ".join(source.text.split())) if source else ()
    parts = (
        BASELINE_VERSION,
        diagnostic.code,
        diagnostic.module,
        diagnostic.op,
        _map_file(diagnostic, folder),
        diagnostic.entry.key if diagnostic.entry else None,
        code,
        [(tensor.argument, tensor.name) for tensor in diagnostic.tensors],
    )
    return _digest(json.dumps(parts))


def _first_fingerprint(diagnostic: Finding, folder: str | Path) -> str:
    """The fingerprint as the first version made it."""
    parts = (
        diagnostic.code,
        diagnostic.module or "",
        diagnostic.op or "",
        _map_file(diagnostic, folder),
        diagnostic.source.file if diagnostic.source else "",
    )
    return _digest("\0".join(parts))


def _digest(text: str) -> str:
    # [surrogates] names of files that are not UTF-8 hold lone ones.
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def _map_file(diagnostic: Finding, folder: str | Path) -> str:
    file = diagnostic.entry.file if diagnostic.entry else None
    if file is None:
        return ""
    try:
        return Path(os.path.relpath(file, folder)).as_posix()
    except ValueError:  # another drive of Windows
        return Path(file).as_posix()


def baseline_text(results: Iterable[CheckResult], folder: str | Path) -> str:
    """The baseline that accepts everything that was found; notes are never findings."""
    known: dict[str, dict[str, Any]] = {}
    for result in results:
        for diagnostic in result.findings:
            if diagnostic.severity is Severity.NOTE:
                continue
            same = known.setdefault(
                fingerprint(diagnostic, folder),
                {
                    "code": diagnostic.code,
                    "map": _map_file(diagnostic, folder),
                    "module": diagnostic.module,
                    "message": diagnostic.message,
                    "count": 0,
                },
            )
            same["count"] += 1
    ordered = dict(sorted(known.items(), key=lambda item: (item[1]["map"], item[1]["code"])))
    return json.dumps({"version": BASELINE_VERSION, "findings": ordered}, indent=2) + "\n"


def read_baseline(path: str | Path) -> Baseline:
    """The fingerprints of a baseline.

    Raises
    ------
    InputError
        When the file cannot be read or is no baseline.
    """
    data = read_bytes(path, BASELINE)
    try:
        content: Any = parse_json(text_of(data, str(path)), str(path))
    except InputError:
        content = None
    try:
        return _baseline(content)
    except (TypeError, KeyError, ValueError):
        raise InputError(
            f"{path} is not a baseline of devplan; write it with --write-baseline"
        ) from None


def _baseline(content: Any) -> Baseline:
    version, findings = content["version"], dict(content["findings"])
    if version not in (_FIRST, BASELINE_VERSION) or isinstance(version, bool):
        raise ValueError(version)
    if version == _FIRST:
        messages = {key: str(item["message"]) for key, item in findings.items()}
        return Baseline(counts=dict.fromkeys(findings, 1), version=_FIRST, messages=messages)
    return Baseline(counts={key: _count(item["count"]) for key, item in findings.items()})


def _count(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(value)
    return value


def apply_baseline(
    results: Sequence[CheckResult], baseline: Baseline, folder: str | Path
) -> list[CheckResult]:
    """The results with the findings of the baseline put aside, each as often as it accepts them."""
    left = Counter(dict(baseline.counts))
    applied = []
    for result in results:
        accepted = _accepted(result.findings, baseline, left, folder)
        applied.append(ignore_known(result, accepted, _REASON))
    return applied


def _accepted(
    found: Sequence[Finding], baseline: Baseline, left: Counter[str], folder: str | Path
) -> list[Finding]:
    if baseline.is_old:
        return _accepted_by_first(found, baseline, folder)
    accepted = []
    for diagnostic in found:
        key = fingerprint(diagnostic, folder)
        if left[key] > 0:
            left[key] -= 1
            accepted.append(diagnostic)
    return accepted


def _accepted_by_first(
    found: Sequence[Finding], baseline: Baseline, folder: str | Path
) -> list[Finding]:
    """What a baseline of the first version means.

    Its fingerprints cannot tell findings of one op apart: where several have the same one, only
    that with the message of the baseline is accepted.
    """
    keys = [_first_fingerprint(diagnostic, folder) for diagnostic in found]
    shared = Counter(keys)
    return [
        diagnostic
        for diagnostic, key in zip(found, keys, strict=True)
        if key in baseline.counts
        and (shared[key] == 1 or diagnostic.message == baseline.messages[key])
    ]


def parse_ignores(texts: Iterable[str]) -> dict[str, str]:
    """Code -> reason from ``CODE=reason`` texts.

    Raises
    ------
    InputError
        For a text without a reason, or a code that no rule has.
    """
    ignores = {}
    for text in texts:
        code, _, reason = text.partition("=")
        if not reason.strip():
            raise InputError(f"--ignore {text!r} gives no reason; write {code or 'DP203'}=reason")
        ignores[code.strip()] = reason.strip()
    return checked_ignores(ignores, "--ignore")


def checked_ignores(ignores: Mapping[str, str], where: str) -> dict[str, str]:
    """The same, when every code is a rule's.

    Raises
    ------
    InputError
        For a code that no rule has.
    """
    for code in ignores:
        if code not in RULES:
            raise InputError(f"{where}: no rule has the code {code!r}{nearest(code, RULES)}")
    return dict(ignores)


def ignore_codes(result: CheckResult, reasons: Mapping[str, str]) -> CheckResult:
    """The result with the findings of these codes put aside."""
    return _set_aside(
        result, {id(d): reasons[d.code] for d in result.findings if d.code in reasons}
    )


def ignore_known(result: CheckResult, known: Iterable[Finding], reason: str) -> CheckResult:
    """The result with some of its own findings put aside."""
    return _set_aside(result, {id(diagnostic): reason for diagnostic in known})


def _set_aside(result: CheckResult, reasons: Mapping[int, str]) -> CheckResult:
    aside = [
        replace(d, ignored_because=reasons[id(d)]) for d in result.findings if id(d) in reasons
    ]
    return replace(
        result,
        findings=tuple(d for d in result.findings if id(d) not in reasons),
        ignored=(*result.ignored, *aside),
    )
