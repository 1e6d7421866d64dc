"""The fixtures of the command line, here too."""

from __future__ import annotations

from tests.cli.conftest import devplan, here

__all__ = ["devplan", "here"]
