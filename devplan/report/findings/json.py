"""Findings as JSON; ``docs/check-report.md`` lists the keys.

Keys are added, never renamed or taken away, within one schema version.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from devplan import __version__
from devplan.checker import fingerprint
from devplan.core import CheckResult, Finding, RunRecord, SourceLine
from devplan.io import json_text
from devplan.report.terminal import Terminal
from devplan.rules import RULES

SCHEMA_VERSION = 1


def json_report(results: Sequence[CheckResult], terminal: Terminal) -> str:
    """One object with all maps; the terminal does not matter."""
    report = {
        "schema": SCHEMA_VERSION,
        "devplan": __version__,
        "status": _status(all(result.is_clean for result in results)),
        "maps": [map_document(result) for result in results],
    }
    return json_text(report, allow_nan=False)


def _status(clean: bool) -> str:
    return "clean" if clean else "findings"


def map_document(result: CheckResult) -> dict[str, Any]:
    """One map."""
    return {
        "map": result.map_name,
        "model": result.model,
        "class": result.class_name,
        "status": _status(result.is_clean),
        "errors": len(result.errors),
        "warnings": len(result.warnings),
        "findings": [finding_document(each) for each in result.findings],
        "ignored": [finding_document(each) for each in result.ignored],
        "runs": [_run(run) for run in result.runs],
        "missed": [
            {"name": each.name, "reason": each.reason, "refused_by_class": each.is_refused}
            for each in result.missed
        ],
        "versions": dict(result.versions),
    }


def finding_document(finding: Finding) -> dict[str, Any]:
    """One finding; what it does not have is null or empty."""
    return {
        "code": finding.code,
        "rule": RULES[finding.code].name,
        "severity": finding.severity.value,
        "message": finding.message,
        "module": finding.module,
        "op": finding.op,
        "entry": finding.entry.to_json() if finding.entry else None,
        "source": _source(finding.source),
        "also_at": [_source(source) for source in finding.also_at],
        "tensors": [
            {
                "argument": tensor.argument,
                "name": tensor.name,
                "device": tensor.device,
                "shape": list(tensor.shape),
                "dtype": tensor.dtype,
                "bytes": tensor.num_bytes,
            }
            for tensor in finding.tensors
        ],
        "pytorch_message": finding.pytorch_message,
        "remedy": finding.fix.text,
        "changed_entries": dict(finding.fix.changed_entries),
        "dropped_entries": list(finding.fix.dropped_entries),
        "count": finding.count,
        "ignored_because": finding.ignored_because,
        "fingerprint": fingerprint(finding),
    }


def _source(source: SourceLine | None) -> dict[str, Any] | None:
    if source is None:
        return None
    return {
        "file": source.file,
        "line": source.line,
        "function": source.function,
        "text": source.text,
    }


def _run(run: RunRecord) -> dict[str, Any]:
    return {
        "name": run.name,
        "phases": list(run.phases),
        "inputs": run.inputs,
        "ops": run.num_ops,
        "transfers": [
            {
                "source_device": each.source_device,
                "target_device": each.target_device,
                "asked_by": each.asked_by,
                "module": each.module,
                "argument": each.argument,
                "maker": each.maker,
                "source": _source(each.source),
                "phase": each.phase,
                "bytes": each.num_bytes,
                "count": each.count,
            }
            for each in run.transfers
        ],
        "peaks": [
            {
                "device": each.device,
                "weights_bytes": each.weight_bytes,
                "cache_bytes": each.cache_bytes,
                "peak_bytes": each.peak_bytes,
                "module": each.module,
                "phase": each.phase,
            }
            for each in run.peaks
        ],
        "notes": list(run.notes),
    }
