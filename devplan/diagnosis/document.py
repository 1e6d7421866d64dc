"""A story as plain dicts and lists, for logs and ``--json``; ``docs/diagnose.md`` lists the keys.

Keys are added, never renamed or taken away, within one schema version.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from devplan.core import Entry, Fix, OperandFact, SourceLine
from devplan.diagnosis.failure_report import Confirmation, FailureReport
from devplan.io import json_text

SCHEMA_VERSION = 1


def story_document(story: FailureReport) -> dict[str, Any]:
    """All of it; what is not known is null or empty."""
    return {
        "id": story.id,
        "kind": story.kind.value,
        "headline": story.headline,
        "exception": story.exception,
        "message": story.message,
        "meaning": story.meaning,
        "origin": story.origin,
        "rule": story.rule,
        "op": story.op,
        "module": story.module,
        "class": story.module_class,
        "modules": list(story.modules),
        "source": _source(story.source),
        "stack": [_source(line) for line in story.stack],
        "devices": list(story.devices),
        "tensors": [_tensor(tensor) for tensor in story.tensors],
        "entry": _entry(story.entry),
        "requested_bytes": story.requested_bytes,
        "workload": asdict(story.workload) if story.workload else None,
        "cards": [asdict(card) for card in story.cards],
        "causes": list(story.causes),
        "remedies": [_remedy(remedy) for remedy in story.remedies],
        "check": _confirmation(story.confirmation),
        "ranks": list(story.ranks),
        "count": story.count,
        "notes": list(story.notes),
    }


def _source(source: SourceLine | None) -> dict[str, Any] | None:
    return None if source is None else asdict(source)


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


def _remedy(remedy: Fix) -> dict[str, Any]:
    return {
        "text": remedy.text,
        "command": remedy.command,
        "changed_entries": dict(remedy.changed_entries),
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


def log_story(story: FailureReport) -> None:
    """One record at level ERROR, with the headline for people."""
    LOGGER.error("%s", story.headline, extra={"devplan": story_document(story)})


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time``, ``level``, ``logger``, ``message``, and ``devplan``.

    ``devplan`` holds the fields of a story, or of whatever part of devplan wrote the record.

    Examples
    --------
    ::

        handler = logging.StreamHandler()
        handler.setFormatter(devplan.diagnosis.JsonFormatter())
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
