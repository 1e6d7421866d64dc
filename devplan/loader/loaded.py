"""What `load` knows of a checkpoint before it is loaded, and has of it afterwards.

One model and a pipeline are loaded in the same order (`devplan.loader.loading`); they differ in
which files are looked at and in what is called, which each kind says for itself.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from devplan.core import DeviceMapFile
from devplan.loader.checkpoint_files import CheckpointFiles
from devplan.loader.parts import Part
from devplan.loader.target import Target

log = logging.getLogger("devplan")


@dataclass(frozen=True, kw_only=True)
class Stored:
    """The files that will be opened."""

    folder: Path
    """That of the configuration."""
    files: tuple[tuple[CheckpointFiles, DeviceMapFile], ...]
    """Of each model, and the map as it speaks of it."""
    quantizes: bool = False
    """Whether ``from_pretrained`` is told to quantize what is stored in floats."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """What was loaded, with hooks."""

    result: Any
    """For the caller."""
    parts: tuple[Part, ...]
    """Its models that the map places."""
    checked_as: Any
    """What `devplan.check` takes for it: the model, or the folder of a pipeline."""


class Kind(Protocol):
    """How one kind of checkpoint is looked at and loaded."""

    place: str
    """Folder or id."""
    class_name: str

    def stored(self, target: Target) -> Stored | None:
        """The files, before one is opened; None where devplan does not look into them."""

    def loaded(self, target: Target, offload_folder: Path | None) -> Loaded:
        """All of it where the map says; weights on disk are written below the folder."""


def model_of(loaded: Any, place: str) -> tuple[nn.Module, Any]:
    """What ``from_pretrained`` gave, and what it says of it; made-up values are warned of."""
    model, info = loaded if isinstance(loaded, tuple) else (loaded, {})
    missing = sorted(info.get("missing_keys", ()))
    if missing:
        log.warning(
            "%d tensors are not in %s and have made-up values, %s among them",
            len(missing),
            place,
            missing[0],
        )
    return model, info
