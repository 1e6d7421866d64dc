"""A report as plain dicts and lists, for logs and ``--json``; ``docs/diagnose.md`` lists the keys.

Keys are added, never renamed or taken away, within one schema version.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from devplan.core import DeviceUsage, Entry, Fix, OperandFact, SourceLine
from devplan.diagnosis.failure_report import Confirmation, FailureReport
from devplan.io import json_text

SCHEMA_VERSION = 1


def report_document(report: FailureReport) -> dict[str, Any]:
    """All of it; what is not known is null or empty."""
    return {
        "id": report.id,
        "kind": report.kind.value,
        "headline": report.headline,
        "exception": report.exception,
        "message": report.message,
        "meaning": report.meaning,
        "origin": report.origin,
        "rule": report.rule,
        "op": report.op,
        "module": report.module,
        "class": report.module_class,
        "modules": list(report.modules),
        "source": _source(report.source),
        "stack": [_source(line) for line in report.stack],
        "devices": list(report.devices),
        "tensors": [_tensor(tensor) for tensor in report.tensors],
        "entry": _entry(report.entry),
        "requested_bytes": report.requested_bytes,
        "workload": asdict(report.workload) if report.workload else None,
        "cards": [_card(card) for card in report.cards],
        "causes": list(report.causes),
        "remedies": [_fix(fix) for fix in report.fixes],
        "check": _confirmation(report.confirmation),
        "ranks": list(report.ranks),
        "count": report.count,
        "notes": list(report.notes),
    }


def _source(source: SourceLine | None) -> dict[str, Any] | None:
    return None if source is None else asdict(source)


def _card(card: DeviceUsage) -> dict[str, Any]:
    keys = ("total_bytes", "free_bytes", "allocated_bytes", "reserved_bytes", "predicted_bytes")
    return {"device": card.device, **{key: getattr(card, key) for key in keys}}


def _tensor(tensor: OperandFact) -> dict[str, Any]:
    return {
        "argument": tensor.argument,
        "name": tensor.name,
        "device": tensor.device,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "bytes": tensor.num_bytes,
    }


def _entry(entry: Entry | None) -> dict[str, Any] | None:
    return None if entry is None else entry.to_json()


def _fix(fix: Fix) -> dict[str, Any]:
    return {
        "text": fix.text,
        "command": fix.command,
        "changed_entries": dict(fix.changed_entries),
    }


def _confirmation(confirmation: Confirmation | None) -> dict[str, Any] | None:
    if confirmation is None:
        return None
    finding = confirmation.finding
    return {
        "ran": confirmation.ran,
        "detail": confirmation.detail,
        "code": finding.code if finding else None,
        "source": _source(finding.source) if finding else None,
        "changed_entries": dict(finding.fix.changed_entries) if finding else {},
    }


LOGGER = logging.getLogger("devplan")


def log_report(report: FailureReport) -> None:
    """One record at level ERROR, with the headline for people."""
    LOGGER.error("%s", report.headline, extra={"devplan": report_document(report)})


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time``, ``level``, ``logger``, ``message``, and ``devplan``.

    ``devplan`` holds the fields of a report, or of whatever part of devplan wrote the record.

    Examples
    --------
    ::

        handler = logging.StreamHandler()
        handler.setFormatter(devplan.JsonFormatter())
        logging.getLogger("devplan").addHandler(handler)
    """

    def format(self, record: logging.LogRecord) -> str:
        content: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, "devplan", None)
        if fields is not None:
            content["devplan"] = fields
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return json_text(content, indent=None, default=str).rstrip("\n")
