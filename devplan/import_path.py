"""Which folders Python imports from: not the current one, unless its code is asked for.

``python -m devplan`` puts the current folder first, so that a ``torch.py`` or ``yaml.py`` in a
folder that somebody sent would run in place of the library.  devplan takes it out before it imports
anything else.  Only `sys` and what the interpreter has loaded by then is imported here.
"""

import os
import sys


def is_run_by_name():
    """Whether the interpreter is executing ``python -m devplan``, and has come as far as this."""
    if sys.argv[:1] != ["-m"]:
        return False
    place = len(sys.orig_argv) - len(sys.argv)  # the arguments behind the name are the same in both
    name = sys.orig_argv[place] if place >= 0 else ""
    return name.removeprefix("-m").partition(".")[0] == "devplan"


def leave_out_current_folder():
    """Take the current folder off the path, unless PYTHONPATH names it in full."""
    here = _here()
    paths = list(sys.path)
    is_added = not getattr(sys.flags, "safe_path", False)
    if is_added and paths and paths[0] in ("", here):
        del paths[0]  # what ``-m`` put there
    asked = here in os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [path for path in paths if os.path.isabs(path) and (asked or path != here)]


class CurrentFolderVisible:
    """While a module that the user named is imported or called: the current folder comes first on
    the path, as it does for ``python -m``."""

    def __enter__(self):
        here = _here()
        is_there = here is None or here in sys.path or "" in sys.path
        self.added = None if is_there else here
        if self.added is not None:
            sys.path.insert(0, self.added)

    def __exit__(self, *_):
        if self.added in sys.path:
            sys.path.remove(self.added)


def _here():
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None
