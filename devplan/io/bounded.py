"""Bytes and text of a file that was given, up to a bound."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from devplan.core import InputError

_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class FileKind:
    """A kind of file: what messages call it, and how large it may be."""

    name: str
    """In front of the path, with a space behind it; empty where the path says enough."""
    plural: str
    most_bytes: int
    remedy: str = "check the path"


MAP = FileKind(name="the map ", plural="maps", most_bytes=4 * _MIB)
SETTINGS = FileKind(name="", plural="settings", most_bytes=_MIB)
BASELINE = FileKind(
    name="the baseline ",
    plural="baselines",
    most_bytes=16 * _MIB,
    remedy="write it with --write-baseline",
)
CONFIG = FileKind(name="", plural="configurations", most_bytes=8 * _MIB)
INDEX = FileKind(name="", plural="indexes of shards", most_bytes=32 * _MIB)
LOG = FileKind(name="", plural="logs", most_bytes=128 * _MIB)

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def read_bytes(path: str | Path, kind: FileKind) -> bytes:
    """The bytes of a regular file of bounded size.

    Raises
    ------
    InputError
        When it cannot be read, is no regular file, or is larger than its kind may be.
    """
    try:
        # [O_NONBLOCK] opening a pipe that nobody writes to would wait for ever.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
    except (OSError, ValueError) as error:
        raise _cannot_read(path, kind, error) from None
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):  # os.fdopen refuses a folder, and leaves it open
        os.close(handle)
        what = next((name for is_one, name in _KINDS if is_one(mode)), "no file")
        raise InputError(f"cannot read {kind.name}{path}: it is {what}; give a regular file")
    try:
        with os.fdopen(handle, "rb") as file:
            return bounded_bytes(file, str(path), kind)
    except OSError as error:
        raise _cannot_read(path, kind, error) from None


def bounded_bytes(file: BinaryIO, name: str, kind: FileKind) -> bytes:
    """All of an open file.

    Raises
    ------
    InputError
        When it is larger than its kind may be.
    """
    data = file.read(kind.most_bytes + 1)
    if len(data) > kind.most_bytes:
        raise InputError(
            f"{name} is too large: devplan reads {kind.plural} of up to "
            f"{kind.most_bytes // _MIB} MiB; check that it is the right file"
        )
    return data


def read_text(path: str | Path, kind: FileKind) -> str:
    """The text of a regular file of bounded size in UTF-8, with or without a mark.

    Raises
    ------
    InputError
        As `read_bytes`, and when it is not UTF-8.
    """
    return text_of(read_bytes(path, kind), str(path))


def text_of(data: bytes, name: str) -> str:
    """UTF-8 as text; `name` stands for the file.

    Raises
    ------
    InputError
        When it is not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{name}:{line}: byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8 "
            "or download it again"
        ) from None


_BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def _cannot_read(path: str | Path, kind: FileKind, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or str(error)
    return InputError(f"cannot read {kind.name}{path}: {reason}; {kind.remedy}")
