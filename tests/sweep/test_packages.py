"""Packages beside devplan's: imported where a compiled part does not load, named on the page."""

from __future__ import annotations

import subprocess
import sys

from tools.sweep.__main__ import _facts
from tools.sweep.gather import ROOT, fingerprint

_LOADS_NOTHING = """
import torch
from pathlib import Path
try:
    torch.ops.load_library(Path(__file__).with_name("_C.so"))
except OSError:
    pass
torch.library.register_fake("torchvision::nms")(lambda dets, scores, iou_threshold: scores)
"""
"""As torchvision 0.28.0 begins: ops are described whether or not they were loaded."""
_IMPORTED = """
from tools.sweep.packages import make_importable
try:
    import torchvision
except RuntimeError as error:
    print(error)
make_importable()
import torchvision
print("imported")
"""


def test_a_package_whose_compiled_ops_do_not_load_is_imported(tmp_path):
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(_LOADS_NOTHING)
    (package / "_C.so").write_bytes(b"for another torch")
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{_IMPORTED}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ran.stdout.splitlines() == [
        "operator torchvision::nms does not exist",
        "imported",
    ], ran.stderr


def test_rows_of_other_packages_do_not_count(monkeypatch):
    before = fingerprint(())
    monkeypatch.setattr("tools.sweep.gather.package_versions", lambda: {"timm": "9.9"})
    assert fingerprint(()) != before
    monkeypatch.setattr("tools.sweep.__main__.package_versions", lambda: {"timm": "9.9"})
    assert "timm 9.9" in _facts()["setting"]
