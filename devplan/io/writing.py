"""Text to a file, whole or not at all: for everything that devplan writes.

A file is written beside its target and moved over it, so that a reader sees the old file or the new
one and never a half.  The draft is called ``.devplan-<machine>-<process>-<random>.tmp``; one that a
killed process left behind is removed by the next write in that folder.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import re
import secrets
import stat
import sys
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path, PurePath

from devplan.core import InputError
from devplan.io.streams import is_stdout_file

STDOUT = "-"
"""What ``-o`` is given to write to stdout."""

OLD_S = 24 * 3600
"""No write takes a day: an older draft is nobody's, whoever has its process id by now."""

_DRAFT = re.compile(r"\.devplan-([0-9a-f]{8})-([0-9]{1,10})-[0-9a-f]{16}\.tmp")
_being_written: set[str] = set()
"""Names of the drafts that this process is writing."""


class WriteOutcome(StrEnum):
    """What a write did; the value is the word that a report shows."""

    WRITTEN = "written"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"


def write_text(
    text: str,
    path: str | PurePath,
    *,
    force: bool = True,
    option: str = "-o",
    streams: bool = False,
) -> WriteOutcome:
    """Write a file, creating the folders on the way.

    Parameters
    ----------
    text
        All of the file; line breaks stay as they are.
    path
        The file.  A link is followed; permissions of a file that is replaced are kept.
    force
        Whether a file with different content may be replaced.
    option
        What the user named the file with, for messages.
    streams
        Whether it may be a pipe or a terminal, which is written to directly.

    Raises
    ------
    InputError
        When the path cannot be written, or holds something else and `force` is not given.
    """
    # [surrogates] of a file name that is no UTF-8: shown as what they are, not a reason to stop.
    content = text.encode("utf-8", "backslashreplace")
    with _one_line(path, option):
        target = _looked_at(path, option, streams)
        if target is None:
            _write_stream(content, path)
            return WriteOutcome.WRITTEN
        outcome = WriteOutcome.WRITTEN
        if target.exists():
            if target.stat().st_size == len(content) and target.read_bytes() == content:
                return WriteOutcome.UNCHANGED
            if not force:
                raise InputError(
                    f"{path} exists and holds something else; replace it with --force, or name "
                    f"another file with {option} FILE"
                )
            outcome = WriteOutcome.REPLACED
        with _folder_made(target.parent):
            _sweep(target.parent)
            _write_whole(content, target)
        return outcome


def refuse_unwritable(
    path: str | PurePath, *, option: str = "-o", streams: bool = False
) -> Path | None:
    """Look at a target before the work whose result goes there.

    Returns
    -------
    The file behind all links, which may not exist yet; None for a stream.

    Raises
    ------
    InputError
        When it is a folder, a device, write-protected, or in a place where nothing can be made.
    """
    with _one_line(path, option):
        target = _looked_at(path, option, streams)
        if target is None:
            return None
        nearest = next(folder for folder in target.parents if os.path.lexists(folder))
        if not nearest.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{nearest} is not a folder")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, f"no permission to write in {nearest}")
        return target


def is_stdout(path: str | PurePath | None) -> bool:
    """Whether a path means stdout: ``-``, or any name of what stdout is, such as /dev/stdout."""
    if path is None or str(path) == STDOUT:
        return path is not None
    return is_stdout_file(str(path))


@contextlib.contextmanager
def _one_line(path: str | PurePath, option: str) -> Iterator[None]:
    """What the system says about a path, as the user's mistake that it mostly is."""
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot write {path}: {reason}; name another file with {option} FILE"
            f"{_or_stdout(option)}"
        ) from None


def _or_stdout(option: str) -> str:
    return f", or use {option} {STDOUT} for stdout" if option == "-o" else ""


def _looked_at(path: str | PurePath, option: str, streams: bool) -> Path | None:
    """The file behind all links, or None where a stream is written to."""
    target = Path(os.path.realpath(path))
    try:
        # [not of the target] a link of /proc to a pipe leads nowhere by its text.
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        if os.fspath(path).endswith((os.sep, os.altsep or os.sep)) or not os.fspath(path):
            raise InputError(
                f"cannot write {os.fspath(path)!r}: that is not a name of a file; give one with "
                f"{option} FILE"
            ) from None
        return target
    except NotADirectoryError as error:
        strange = next(each for each in target.parents if each.exists())
        raise NotADirectoryError(errno.ENOTDIR, f"{strange} is not a folder") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"cannot write {path}: it is a folder; name a file with {option} FILE")
    if streams and (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
        return None
    if not stat.S_ISREG(mode):
        raise InputError(
            f"cannot write {path}: it is not a regular file; name another with {option} FILE"
            f"{_or_stdout(option)}"
        )
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "it is write-protected")
    return target


def _write_stream(content: bytes, path: str | PurePath) -> None:
    try:
        # [nonblocking] a pipe that nobody reads is an error, and nothing to wait for.
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "the pipe has no reader") from None
        raise
    os.set_blocking(handle, True)
    try:
        with open(handle, "wb") as file:
            file.write(content)
    except BrokenPipeError:
        raise OSError(errno.EPIPE, "the reader of the pipe went away") from None


@contextlib.contextmanager
def _folder_made(folder: Path) -> Iterator[None]:
    """The folder, for what is written in it; made ones go again where that fails."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, f"{folder} is not a folder") from error
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for each in missing:
                each.rmdir()
        raise


def _write_whole(content: bytes, target: Path) -> None:
    """Write beside the target, then move over it: os.replace is atomic in one folder."""
    before = target.stat() if target.exists() else None
    draft = target.parent / f".devplan-{_machine()}-{os.getpid()}-{secrets.token_hex(8)}.tmp"
    _being_written.add(draft.name)
    try:
        # [permissions] open() honours the umask; tempfile would make the file private.
        with open(draft, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if before is not None:
            _keep_owner_and_mode(draft, before)
        os.replace(draft, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
        _being_written.discard(draft.name)


def _keep_owner_and_mode(draft: Path, before: os.stat_result) -> None:
    if hasattr(os, "chown"):
        with contextlib.suppress(OSError):  # only root may give a file away
            os.chown(draft, before.st_uid, before.st_gid)
    os.chmod(draft, stat.S_IMODE(before.st_mode))


# -------------------------------------------------------------------- drafts of killed processes


def _machine() -> str:
    """Where process ids mean the same: a machine, or a container on it."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:  # no Linux
        space = ""
    return hashlib.sha256(f"{platform.node()} {space}".encode()).hexdigest()[:8]


def _sweep(folder: Path) -> None:
    """Remove the drafts of processes that live no longer."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _DRAFT.fullmatch(entry.name)
            if match is None or entry.name in _being_written:
                continue
            with contextlib.suppress(OSError):
                state = entry.stat(follow_symlinks=False)
                is_old = time.time() - state.st_mtime > OLD_S
                is_dead = match[1] == _machine() and not _lives(int(match[2]))
                if stat.S_ISREG(state.st_mode) and (is_old or is_dead):
                    os.unlink(entry.path)


def _lives(process: int) -> bool:
    """Whether a process runs that is not this one: of this one the drafts are known."""
    if process in (0, os.getpid()):
        return False
    if sys.platform == "win32":  # there, signal 0 would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
