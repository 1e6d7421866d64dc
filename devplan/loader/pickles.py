"""Checkpoints that are pickles (``.bin``): read with ``weights_only``, or not at all.

A pickle may name any function to be called when it is opened.  ``torch.load(weights_only=True)``
lets tensors and plain containers through and nothing else.  Here each file is opened that way on
the meta device first: no tensor is read, and what would be refused later is refused now.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterable
from pathlib import Path

import torch

from devplan.core import InputError


def refuse_code(files: Iterable[Path]) -> None:
    """Refuse pickles that name more than tensors, and files that cannot be opened.

    Raises
    ------
    InputError
        One line with the file and what it names.
    """
    for path in files:
        try:
            _open_without_data(path)
        except pickle.UnpicklingError as error:
            raise InputError(
                f"{path} would run code when it is opened{_named(path)}; devplan loads pickles "
                "only with weights_only: convert it to safetensors where you trust it"
            ) from error
        except (RuntimeError, EOFError, OSError, ValueError) as error:
            detail = " ".join(str(error).split())[:120]
            raise InputError(
                f"{path} ({path.stat().st_size} bytes) is truncated or no PyTorch checkpoint "
                f"({detail}); download it again"
            ) from error


def _open_without_data(path: Path) -> None:
    more = {"mmap": True} if zipfile.is_zipfile(path) else {}
    torch.load(path, map_location="meta", weights_only=True, **more)


def _named(path: Path) -> str:
    """What the pickle names beside tensors, where torch can tell (2.6 and later)."""
    tell = getattr(torch.serialization, "get_unsafe_globals_in_checkpoint", None)
    try:
        names = tell(path) if tell is not None else []
    except Exception:  # a file of any bytes
        names = []
    return f": it names {', '.join(names[:3])}" if names else ""
