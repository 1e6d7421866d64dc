"""The current folder on the import path, only while code that the user named is imported."""

from __future__ import annotations

import os
import sys


class CurrentFolderVisible:
    """While a module that the user named is imported or called: the current folder comes first on
    the path, as it does for ``python -m``.  At all other times it is not there (see `devplan`)."""

    def __enter__(self) -> None:
        here = _here()
        is_there = here is None or here in sys.path or "" in sys.path
        self.added = None if is_there else here
        if self.added is not None:
            sys.path.insert(0, self.added)

    def __exit__(self, *_: object) -> None:
        if self.added in sys.path:
            sys.path.remove(self.added)


def _here() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None
