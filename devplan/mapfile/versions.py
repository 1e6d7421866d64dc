"""Versions that a map depends on, as they stand in the map file."""

from __future__ import annotations

import importlib.metadata

from devplan import __version__


def installed_versions(library: str) -> dict[str, str]:
    """Versions that a map of a model of `library` depends on."""
    names = ["torch", "transformers", "accelerate", *(["diffusers"] * (library == "diffusers"))]
    return {"devplan": __version__, **{name: _release(name) for name in names}}


def _release(name: str) -> str:
    """Without the local part: builds of torch for other CUDA versions make the same map."""
    return importlib.metadata.version(name).partition("+")[0]
