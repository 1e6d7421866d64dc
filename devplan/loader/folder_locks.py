"""Who uses an offload folder, and what in it devplan wrote.

A lock is the system's (``flock``, by filelock): it goes with the process that holds it, however
that ends.  No folder is removed but by who holds its lock, and none that holds a file of somebody
else's.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

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
    """Everything below a folder that is no folder, links to folders among it."""
    for where, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(where, name))]
        for name in (*files, *links):
            yield os.path.relpath(os.path.join(where, name), folder)
