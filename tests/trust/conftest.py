"""Canaries: code that leaves a file behind when it runs, planted where data is expected."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.conftest import checkpoint, devplan, here, refused

__all__ = ["checkpoint", "devplan", "here", "refused"]

CODE = """\
from pathlib import Path
Path({mark!r}).touch()
import torch
from torch import nn

class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)

    def forward(self, input_ids):
        return self.second(self.first(torch.zeros(1, 4, device=input_ids.device)))

def build():
    Path({mark!r}).touch()
    with torch.device("meta"):
        return Tower()
"""


@dataclass(frozen=True, kw_only=True)
class Canary:
    """A package of the current folder whose import and whose function leave a mark."""

    package: str
    mark: Path

    @property
    def factory(self) -> str:
        return f"{self.package}.code:build"

    @property
    def has_sung(self) -> bool:
        return self.mark.exists()

    def code(self) -> str:
        """Python that leaves the mark when it is imported."""
        return f"from pathlib import Path\nPath({str(self.mark)!r}).touch()\n"

    def forget(self) -> None:
        """As if nothing had run."""
        self.mark.unlink(missing_ok=True)
        for name in [n for n in sys.modules if n.partition(".")[0] == self.package]:
            del sys.modules[name]


@pytest.fixture
def canary(here, tmp_path_factory):
    """The canary, and at the end the certainty that the path is as it was."""
    mark = tmp_path_factory.mktemp("mark") / "it_ran"
    name = f"planted_{abs(hash(str(mark))):x}"
    package = here / name
    package.mkdir()
    (package / "__init__.py").write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\n")
    (package / "code.py").write_text(CODE.format(mark=str(mark)))
    before = list(sys.path)
    planted = Canary(package=name, mark=mark)
    yield planted
    planted.forget()
    assert sys.path == before
