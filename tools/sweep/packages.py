"""Packages that some types need beside devplan's, which `make sweep` puts into build/packages.

timm is the backbone of a dozen types, torchvision is for timm, scipy for the losses that
segmentation classes import, torchaudio for a codec that resamples.  Where one is missing, its types
stop at "package" and the page says so.

PyPI's torchvision is built for CUDA: beside a CPU build of torch its compiled ops do not load.  Its
Python code, of which timm uses a module, then raises at import, because it describes two ops that
are not there.  Here their schemas are declared, without a kernel: a model whose code calls one
raises, and its row says so.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

PACKAGES = ("timm", "torchvision", "scipy", "torchaudio")
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
"""As torchvision's csrc/ops declares them."""
_kept: list[object] = []
"""A library that is forgotten takes its schemas with it."""


def package_versions() -> dict[str, str]:
    """Name -> release of those that are installed."""
    found = {}
    for name in PACKAGES:
        if importlib.util.find_spec(name) is not None:
            found[name] = importlib.metadata.version(name).partition("+")[0]
    return found


def make_importable() -> None:
    """Let torchvision be imported where its compiled ops do not load."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    import torch

    compiled = Path(spec.origin).with_name("_C.so")
    try:
        torch.ops.load_library(compiled)
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        for schema in _SCHEMAS:
            library.define(schema)
        _kept.append(library)
