"""What docs/diagnose.md shows is what its commands print; ``DEVPLAN_OVERWRITE=1`` renews it."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from devplan.cli.app import main
from devplan.diagnosis.document import report_document
from devplan.diagnosis.from_text import explain_text

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "diagnose.md"
SHOWN = re.compile(r"^    devplan (explain tests/.*)\n\n```\n((?:.*\n)*?)```\n", re.MULTILINE)


def test_examples_are_what_the_commands_print(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    text = PAGE.read_text(encoding="utf-8")

    def printed(match: re.Match[str]) -> str:
        assert main(shlex.split(match[1])) == 0
        return f"    devplan {match[1]}\n\n```\n{capsys.readouterr().out}```\n"

    renewed, number = SHOWN.subn(printed, text)
    assert number == 2
    if os.environ.get("DEVPLAN_OVERWRITE"):
        PAGE.write_text(renewed, encoding="utf-8")
    assert renewed == PAGE.read_text(encoding="utf-8")


def test_every_key_of_the_json_is_described():
    (report,) = explain_text("RuntimeError: Cannot copy out of meta tensor; no data!").reports
    text = PAGE.read_text(encoding="utf-8")
    for key in report_document(report):
        assert f"`{key}`" in text, key
