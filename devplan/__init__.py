"""devplan: device maps for Hugging Face models that are split over several GPUs.

The public names, imported on first use: ``import devplan`` costs nothing.
"""

# [order] nothing may be imported before the path is clean, neither typing nor __future__.
import os
import sys


def _is_run_by_name():
    """Whether the interpreter is executing ``python -m devplan``, and has come as far as this."""
    if sys.argv[:1] != ["-m"]:
        return False
    place = len(sys.orig_argv) - len(sys.argv)  # the arguments behind the name are the same in both
    name = sys.orig_argv[place] if place >= 0 else ""
    return name.removeprefix("-m").partition(".")[0] == "devplan"


def _leave_out_current_folder():
    """Take the current folder off the path, unless PYTHONPATH names it in full.

    ``python -m devplan`` puts the current folder first, so that a ``torch.py`` or ``yaml.py`` in a
    folder that somebody sent would run in place of the library.
    """
    try:
        here = os.getcwd()
    except OSError:  # it was removed
        here = None
    paths = list(sys.path)
    is_added = not getattr(sys.flags, "safe_path", False)
    if is_added and paths and paths[0] in ("", here):
        del paths[0]  # what ``-m`` put there
    asked = here in os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [path for path in paths if os.path.isabs(path) and (asked or path != here)]


if _is_run_by_name():
    _leave_out_current_folder()

__version__ = "0.1.0"


def __getattr__(name):
    """A public name of ``__init__.pyi``, or ``__all__``, when it is first asked for.

    lazy_loader is imported here and not above: the script ``devplan`` cleans the path only after
    it has imported this package, and an empty entry of PYTHONPATH is the current folder.
    """
    import lazy_loader

    find, _, names = lazy_loader.attach_stub(__name__, __file__)
    if name == "__all__":
        return ["__version__", *names]
    return find(name)


def __dir__():
    """Every public name."""
    return sorted(__getattr__("__all__"))
