"""The folder of weights on disk: whole, or not there.

Weights are written into a folder beside the one that was asked for, and that is renamed when the
model is complete; a load that fails removes it.  A load that is killed leaves a hidden folder
``.devplan-offload-*`` whose lock nobody holds; the next load in that place removes it.  The models
of a pipeline share one folder, each with a folder of its name in it.

The model reads its weights from the folder in every forward, and holds the folder's lock as long
as it or a copy of it lives, or any model of the pipeline.  A folder that devplan wrote is replaced
once nobody holds its lock; one that is being written or read is refused, and so is one with a file
that devplan did not write.  Without a folder, one in the temporary place of the system is made,
which goes with the model.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from torch import nn

from devplan.core import InputError
from devplan.virtual import files_have_moved, offloaded_weights

DRAFT_PREFIX = ".devplan-offload-"
FULL = os.strerror(errno.ENOSPC)
SWEPT_S = 5
"""A lock on a new folder is waited for so long: who sweeps holds it for moments."""


@dataclass
class OffloadFolder:
    """A folder that is being written."""

    draft: Path
    final: Path | None
    """None: it stays where it is, and goes with the model."""
    lock: FileLock | None
    """Of the draft; None where the file system has no locks."""
    kept: bool = field(default=False)

    def keep(self, *models: nn.Module) -> Path | None:
        """Make it the models'; gives where the weights are, None where nothing was written."""
        written = [entry for entry in self.draft.iterdir() if entry.name != LOCK]
        if not written:
            return None
        place = self.draft
        if self.final is not None:
            write_manifest(self.draft)
            _replace(self.draft, self.final)
            place = self.final
            for model in models:
                _note_the_move(model, self.draft, place)
            _when_all_are_gone(models, _release, self.lock)
        else:
            _when_all_are_gone(models, remove_under_lock, place, self.lock)
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
    final = None if asked is None else Path(os.path.realpath(os.path.expanduser(asked)))
    place = Path(tempfile.gettempdir()) if final is None else final.parent
    made = _make_folders(place)
    try:
        with contextlib.nullcontext(True) if final is None else claimed(final) as is_alone:
            if final is not None:
                _refuse_taken(final, str(asked), is_alone)
            _sweep(place)
            yield from _written_to(place, final)
    finally:
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()


def _written_to(place: Path, final: Path | None) -> Iterator[OffloadFolder]:
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
            remove_under_lock(draft, folder.lock)


def _make_folders(place: Path) -> list[Path]:
    """The folders on the way that had to be made, innermost first."""
    missing = [folder for folder in (place, *place.parents) if not folder.exists()]
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"offload_folder: cannot make {place}: {reason}; name another") from None
    return missing


def _refuse_taken(final: Path, asked: str, is_alone: bool) -> None:
    if not is_alone:
        raise InputError(
            f"offload_folder={asked} is being written by another load; name another folder, or "
            "wait for it"
        )
    outer = next((each for each in final.parents if (each / LOCK).exists()), None)
    if outer is not None:
        raise InputError(
            f"offload_folder={asked} lies inside {outer}, which holds the weights of a model; name "
            "a folder outside"
        )
    if not final.exists():
        return
    if not final.is_dir():
        raise InputError(f"offload_folder={asked} is a file; name a folder, new or empty")
    _unlocked_after(final, asked)


def _unlocked_after(final: Path, asked: str) -> None:
    lock = _lock_to_replace(final, asked)
    if lock is not None:
        lock.release()


def _lock_to_replace(final: Path, asked: str) -> FileLock | None:
    """The lock of a folder that may be replaced; None for one that is empty.

    Raises
    ------
    InputError
        When a model is reading it, or it holds a file that devplan did not write.
    """
    if not any(final.iterdir()):
        return None
    lock = try_lock_folder(final)
    if lock is None and (final / LOCK).exists():
        raise InputError(
            f"offload_folder={asked} is being read by a model that is loaded; name another folder, "
            "or delete that model first"
        )
    others = strangers(final)
    if lock is None or others:
        if lock is not None:
            lock.release()
        raise InputError(
            f"offload_folder={asked} holds {len(others)} files that devplan.load did not write, "
            f"such as {(others or [LOCK])[0]!r}; name a new or empty folder, or remove it"
        )
    return lock


def _replace(draft: Path, final: Path) -> None:
    """Move a draft to its place; what was there is removed by who holds its lock."""
    if not final.exists():
        os.rename(draft, final)
        return
    lock = _lock_to_replace(final, str(final))
    old = final.parent / f"{DRAFT_PREFIX}{secrets.token_hex(8)}"
    os.rename(final, old)
    try:
        os.rename(draft, final)
    except BaseException:
        os.rename(old, final)
        if lock is not None:
            lock.release()
        raise
    remove_under_lock(old, lock)


def _note_the_move(model: nn.Module, before: Path, after: Path) -> None:
    weights = offloaded_weights(model)
    if weights is not None:
        files_have_moved(weights, before, after)


class _Held:
    """Lives as long as anything that reads from the folder; copies of a model share it."""

    def __deepcopy__(self, memo: dict) -> _Held:
        return self

    def __reduce__(self) -> tuple:  # [pickles] another process holds nothing
        return _Held, ()


def _when_all_are_gone(
    models: Iterable[nn.Module], end: Callable[..., Any], *arguments: Any
) -> None:
    held = _Held()
    weakref.finalize(held, _in_process, os.getpid(), end, *arguments)
    for model in models:
        weights = offloaded_weights(model)
        if weights is None:
            weakref.finalize(model, _let_go, held)
        else:
            weights.devplan_folder = held


def _in_process(process: int, end: Callable[..., Any], *arguments: Any) -> None:
    """A process that was forked off has a copy of the model, and not the folder."""
    if os.getpid() == process:
        end(*arguments)


def _let_go(held: _Held) -> None:
    """The finalizer that calls this is dropped afterwards, and what it held with it."""


def _release(lock: FileLock | None) -> None:
    if lock is not None:
        lock.release()


# ------------------------------------------------------------------------------------- drafts


def _new_draft(place: Path) -> tuple[Path, FileLock | None]:
    """A new folder and the lock on it."""
    while True:
        draft = place / f"{DRAFT_PREFIX}{secrets.token_hex(8)}"
        try:
            draft.mkdir(mode=0o700)
        except OSError as error:
            raise InputError(
                f"offload_folder: cannot write in {place}: {error.strerror or error}; name another "
                "folder"
            ) from None
        lock = try_lock(draft / LOCK, wait_s=SWEPT_S)
        # [another load] may have swept it before the lock was there.
        if (draft / LOCK).exists() or lock is None:
            return draft, lock
        lock.release()


def _sweep(place: Path) -> None:
    """Remove what loads that were killed have left in a place."""
    for left in place.glob(f"{DRAFT_PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = try_lock_folder(left)
            if lock is None:
                continue
            if strangers(left):
                lock.release()
            else:
                remove_under_lock(left, lock)


# Locks are the system's (``flock``, through filelock): a lock ends with the process that holds it.
# Only the process that holds the lock of a folder removes the folder, and only if devplan wrote
# every file in it; filelock knows nothing of files, so the manifest lists them.


LOCK = ".devplan-lock"
MANIFEST = ".devplan-files"
_CLAIM = ".devplan-claim-"
_WRITTEN = (".dat", ".safetensors")
_INDEX = "index.json"


def try_lock(path: Path, *, wait_s: float = 0) -> FileLock | None:
    """The lock of a file, or None where somebody has it or the file system has no locks."""
    try:
        return _acquired(path, wait_s)
    except (OSError, NotImplementedError):  # Timeout is an OSError
        return None


def _acquired(path: Path, wait_s: float) -> FileLock:
    # [threads] a model may be dropped in another thread than it was loaded in.
    lock = FileLock(str(path), timeout=wait_s, mode=0o600, thread_local=False)
    lock.acquire()
    return lock


def try_lock_folder(folder: Path) -> FileLock | None:
    """The lock of a folder that devplan wrote; None where it is in use, or is none of devplan's."""
    is_ours = not folder.is_symlink() and (folder / LOCK).is_file()
    return try_lock(folder / LOCK) if is_ours else None


@contextlib.contextmanager
def claimed(final: Path) -> Iterator[bool]:
    """Hold the name of a folder while it is written beside; gives whether nobody else does."""
    digest = hashlib.sha256(os.fsencode(final.name)).hexdigest()[:16]
    path = final.parent / f"{_CLAIM}{digest}"
    lock, is_alone = None, True
    try:
        lock = _acquired(path, 0)
    except Timeout:
        is_alone = False
    except (OSError, NotImplementedError):  # no locks here: only the folder itself tells
        pass
    try:
        yield is_alone
    finally:
        if lock is not None:
            with contextlib.suppress(OSError):
                path.unlink()
            lock.release()


def write_manifest(folder: Path) -> None:
    """Write down which files are in a folder now: these are devplan's."""
    text = json.dumps(sorted(_files(folder)), indent=0)
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def strangers(folder: Path) -> list[str]:
    """Files of a folder that devplan did not write."""
    known = _manifest(folder)
    return sorted(name for name in _files(folder) if not _is_ours(name, known))


def remove_under_lock(folder: Path, lock: FileLock | None) -> None:
    """Remove a folder whose lock is held, and let go of the lock."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        if lock is not None:
            lock.release()


def _manifest(folder: Path) -> frozenset[str] | None:
    try:
        listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a load that was killed has not written it yet
        return None
    return frozenset(listed) if isinstance(listed, list) else None


def _is_ours(name: str, known: frozenset[str] | None) -> bool:
    if name in (LOCK, MANIFEST):
        return True
    if known is None:
        return name.endswith(_WRITTEN) or Path(name).name == _INDEX
    return name in known


def _files(folder: Path) -> Iterator[str]:
    """Everything below a folder that is not a folder, links to folders among it."""
    for where, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(where, name))]
        for name in (*files, *links):
            yield os.path.relpath(os.path.join(where, name), folder)
