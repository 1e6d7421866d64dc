"""Structured records of failures, in the log of the name ``devplan``.

A record's text is the head of the story; what programs want is in its fields: ``record.devplan`` is
a dict of the keys that `story_document` gives.  `JsonFormatter` writes it all as one line of JSON.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from devplan.diagnosis.document import story_document
from devplan.diagnosis.failure_report import FailureReport
from devplan.io import json_text

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
