"""Names of files that a file gives: they stay below the folder that the file stands in.

The check is of the name alone.  Links are not followed: huggingface_hub's cache is made of them.
"""

from __future__ import annotations

import re

from devplan.core import InputError

_DRIVE = re.compile(r"[A-Za-z]:")


def is_below(name: str) -> bool:
    """Whether a name with ``/`` between folders leads nowhere but downwards, on any system."""
    if "\\" in name or "\0" in name or _DRIVE.match(name):
        return False
    return all(part not in ("", ".", "..") for part in name.split("/"))


def require_inside(name: str, where: str) -> str:
    """The name itself.

    Raises
    ------
    InputError
        When it leaves the folder.
    """
    if is_below(name):
        return name
    raise InputError(
        f"{where} names the file {name!r}, which is not below its own folder; download it again, "
        "or correct the name"
    )
