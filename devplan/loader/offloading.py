"""The folder of weights on disk: whole, or not there.

Weights are written into a folder beside the one that was asked for, and that is renamed when the
model is complete; a load that fails removes it.  A load that is killed leaves a hidden folder
``.devplan-offload-*`` whose lock nobody holds; the next load in that place removes it.  The models
of a pipeline share one folder, each with a folder of its name in it.

The model reads its weights from the folder in every forward, and holds the folder's lock as long
as it lives, or any model of the pipeline.  A folder that devplan wrote is replaced once nobody
holds its lock; another folder with something in it is refused.  Without a folder, one in the
temporary place of the system is made, which goes with the model.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from devplan.errors import InputError
from devplan.loader.hooks import offloaded_weights

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

DRAFT_PREFIX = ".devplan-offload-"
LOCK = ".devplan-lock"
FULL = os.strerror(errno.ENOSPC)


@dataclass
class OffloadFolder:
    """A folder that is being written."""

    draft: Path
    final: Path | None
    """None: it stays where it is, and goes with the model."""
    lock: int
    kept: bool = field(default=False)

    def keep(self, *models: nn.Module) -> Path | None:
        """Make it the models'; gives where the weights are, None where nothing was written."""
        written = [entry for entry in self.draft.iterdir() if entry.name != LOCK]
        if not written:
            return None
        place = self.draft
        if self.final is not None:
            _replace(self.draft, self.final)
            place = self.final
            for model in models:
                _rename_in(offloaded_weights(model), self.draft, place)
            _when_all_are_gone(models, os.close, self.lock)
        else:
            _when_all_are_gone(models, _remove, place, self.lock)
        self.kept = True
        return place


@contextlib.contextmanager
def offload_folder(asked: str | os.PathLike | None) -> Iterator[OffloadFolder]:
    """A folder to write offloaded weights to; gone after an error, or where nothing was kept.

    Raises
    ------
    InputError
        When the folder that was asked for holds something that devplan did not write, or a model
        that lives is reading it.
    """
    final = None if asked is None else Path(os.path.abspath(asked))
    place = Path(tempfile.gettempdir()) if final is None else final.parent
    if final is not None:
        _refuse_taken(final, str(asked))
    made = _make_folders(place)
    _sweep(place)
    draft, lock = _new_draft(place)
    folder = OffloadFolder(draft=draft, final=final, lock=lock)
    try:
        yield folder
    except Exception as error:  # safetensors has errors of its own for what the system says
        if FULL in str(error):
            raise InputError(
                f"{place} is full, and weights on disk must be written there; name a folder with "
                "room: offload_folder="
            ) from error
        raise
    finally:
        if not folder.kept:
            _remove(draft, folder.lock)
            for parent in made:
                with contextlib.suppress(OSError):
                    parent.rmdir()


def _make_folders(place: Path) -> list[Path]:
    """The folders on the way that had to be made, innermost first."""
    missing = [folder for folder in (place, *place.parents) if not folder.exists()]
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"offload_folder: cannot make {place}: {reason}; name another") from None
    return missing


def _refuse_taken(final: Path, asked: str) -> None:
    if not final.exists():
        return
    if not final.is_dir():
        raise InputError(f"offload_folder={asked} is a file; name a folder, new or empty")
    entries = list(final.iterdir())
    if entries and not (final / LOCK).exists():
        raise InputError(
            f"offload_folder={asked} holds {len(entries)} files that devplan.load did not write; "
            "name a new or empty folder, or remove it"
        )
    if not _is_free(final):
        raise InputError(
            f"offload_folder={asked} is being read by a model that is loaded; name another folder, "
            "or delete that model first"
        )


def _replace(draft: Path, final: Path) -> None:
    old = final.parent / f"{DRAFT_PREFIX}{secrets.token_hex(8)}"
    if final.exists():
        os.rename(final, old)
    os.rename(draft, final)
    shutil.rmtree(old, ignore_errors=True)


def _rename_in(weights: Any, before: Path, after: Path) -> None:
    """Tell accelerate that the files have moved."""
    if weights is None:
        return
    if weights.save_folder is not None:
        weights.save_folder = _moved(weights.save_folder, before, after)
    for name, place in weights.index.items():
        file = place.get("safetensors_file")
        if file is not None:
            weights.index[name] = {**place, "safetensors_file": _moved(file, before, after)}


def _moved(path: str | os.PathLike, before: Path, after: Path) -> str:
    """A path below a folder that has moved, or any other path as it is."""
    whole = Path(os.path.abspath(path))
    return str(after / whole.relative_to(before)) if whole.is_relative_to(before) else str(path)


class _Held:
    """Lives as long as any of the models whose finalizers hold it."""


def _when_all_are_gone(
    models: Iterable[nn.Module], end: Callable[..., Any], *arguments: Any
) -> None:
    held = _Held()
    weakref.finalize(held, end, *arguments)
    for model in models:
        weakref.finalize(model, _let_go, held)


def _let_go(held: _Held) -> None:
    """The finalizer that calls this is dropped afterwards, and what it held with it."""


# ------------------------------------------------------------------------------------- locks


def _new_draft(place: Path) -> tuple[Path, int]:
    """A new folder and the lock on it."""
    while True:
        draft = place / f"{DRAFT_PREFIX}{secrets.token_hex(8)}"
        draft.mkdir(mode=0o700)
        lock = os.open(draft / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        if fcntl is not None:
            with contextlib.suppress(OSError):  # file systems without locks
                fcntl.flock(lock, fcntl.LOCK_EX)
        # [another load] may have swept it before the lock was there.
        if (draft / LOCK).exists():
            return draft, lock
        os.close(lock)


def _is_free(folder: Path) -> bool:
    """Whether nobody holds the folder's lock; where there are no locks, nobody is known to."""
    if fcntl is None or not (folder / LOCK).exists():
        return True
    handle = os.open(folder / LOCK, os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # file systems without locks
        return True
    finally:
        os.close(handle)
    return True


def _sweep(place: Path) -> None:
    """Remove what loads that were killed have left in a place."""
    for left in place.glob(f"{DRAFT_PREFIX}*"):
        with contextlib.suppress(OSError):
            if fcntl is not None and left.is_dir() and (left / LOCK).exists() and _is_free(left):
                shutil.rmtree(left)


def _remove(folder: Path, lock: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)
