"""What a test leaves behind in the process, looked at after each one: it spoils others.

A look is cheap, some tenths of a millisecond: references are kept and compared.  Of torch nothing
is asked before somebody has imported it.  What an import does, once in a process, is no leftover.
"""

from __future__ import annotations

import builtins
import contextlib
import gc
import importlib
import logging
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_PATIENCE_S = 2.0
"""What a thread may take to end that a test has told to."""

_FOLDERS = tuple(
    folder
    for top in (ROOT, *(ROOT / name for name in ("devplan", "docs", "maps", "tests", "benchmarks")))
    for folder in (top, *sorted(top.iterdir()))
    if folder.is_dir() and not folder.name.startswith((".", "_")) and folder.name != "build"
)
_CACHES = {"__pycache__", ".pytest_cache", ".hypothesis", ".ruff_cache", ".git"}
_CACHES_OF_TORCH = "torchinductor_"
_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGURG", "SIGUSR1", "SIGUSR2", "SIGCHLD")
    if hasattr(signal, name)
)
_TIMERS = tuple(
    getattr(signal, name)
    for name in ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF")
    if hasattr(signal, name)
)
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, type)
_OPEN = Path("/proc/self/fd")
_CHILDREN = Path(f"/proc/self/task/{os.getpid()}/children")
_OWN_MODULES = (str(ROOT), sys.prefix, sys.base_prefix, os.path.dirname(os.__file__))


class Look:
    """What the process is like now.

    Parameters
    ----------
    scratch
        A folder in which tests may leave what they want.
    """

    def __init__(self, scratch: Path) -> None:
        self.scratch = str(scratch)
        self.state = {name: read() for name, read in _READ.items()}
        self.modules = dict(sys.modules)
        self.levels = _levels()
        self.threads = set(threading.enumerate())
        self.files = _open_files()
        self.folders = {path: _entries(path) for path in self._folders()}
        self.torch = _torch_state() if "torch" in sys.modules else None

    def _folders(self) -> Iterable[str]:
        return (*map(str, _FOLDERS), os.getcwd(), _temporary())

    def differences(self) -> list[str]:
        """What is otherwise than it was, each in a few words."""
        return [
            *self._changed_state(),
            *self._changed_torch(),
            *self._changed_levels(),
            *self._planted_modules(),
            *self._threads_left(),
            *self._files_left(),
            *self._new_entries(),
        ]

    def forget_written(self) -> None:
        """Forget modules that were imported since from where tests write: they are theirs alone."""
        for name in sys.modules.keys() - self.modules.keys():
            if (_file_of(sys.modules[name]) or "").startswith(self.scratch):
                del sys.modules[name]
        importlib.invalidate_caches()

    def _changed_state(self) -> Iterable[str]:
        for name, read in _READ.items():
            before, now = self.state[name], read()
            if before != now:
                yield from _changes(name, before, now)

    def _changed_torch(self) -> Iterable[str]:
        if self.torch is None:
            return
        now = _torch_state()
        new = sys.modules.keys() - self.modules.keys()
        if any(name.startswith("torch._dynamo") for name in new):
            del now["Distribution._validate_args"]  # which it sets at its first use
        for name in now:
            before = self.torch[name]
            if isinstance(before, dict):
                yield from _changes(name, _functions(before), _functions(now[name]))
            elif now[name] is not before and now[name] != before and not _is_librarys(now[name]):
                yield f"{name} is {_shown(now[name])} instead of {_shown(before)}"

    def _changed_levels(self) -> Iterable[str]:
        """Of the loggers that were there; what an import brings sets its own."""
        for name, level in _levels().items():
            if level != (before := self.levels.get(name, level)):
                yield f"the level of the logger {name} is {level} instead of {before}"

    def _planted_modules(self) -> Iterable[str]:
        if self.modules == sys.modules:
            return
        for name, module in list(sys.modules.items()):
            is_ours = name.partition(".")[0] in ("devplan", "tests")
            before = self.modules.get(name)
            if before is not None and before is not module and (is_ours or _is_planted(module)):
                yield f"sys.modules[{name!r}] is another module"
            elif before is None and _is_planted(module):
                yield f"sys.modules[{name!r}] is new, {_file_of(module) or 'made by hand'}"
        for name in self.modules.keys() - sys.modules.keys():
            yield f"sys.modules[{name!r}] is gone"

    def _threads_left(self) -> Iterable[str]:
        end = time.monotonic() + _PATIENCE_S
        for thread in set(threading.enumerate()) - self.threads:
            if type(thread).__module__.startswith(("tqdm", "execnet")):
                continue
            thread.join(max(0.0, end - time.monotonic()))
            if thread.is_alive():
                yield f"thread {thread.name} is alive"

    def _files_left(self) -> Iterable[str]:
        if _open_files() == self.files:
            return
        gc.collect()  # a file that nobody refers to is no leftover
        for number, target in _open_files().items():
            if target != self.files.get(number) and not target.startswith(self.scratch):
                yield f"{target} is open"

    def _new_entries(self) -> Iterable[str]:
        for path, names in self.folders.items():
            if path.startswith(self.scratch) and path != _temporary():
                continue
            new = _entries(path) - names - _CACHES
            new = {name for name in new if not name.startswith(_CACHES_OF_TORCH)}
            if new:
                yield f"{', '.join(sorted(new))} in {path}"


_listed: dict[str, tuple[int, frozenset[str]]] = {}
"""Folder -> when it was changed, and what was in it."""


def _entries(path: str) -> frozenset[str]:
    """What is in a folder; read only if it changed since."""
    try:
        changed_at = os.stat(path).st_mtime_ns
        if _listed.get(path, (0,))[0] != changed_at:
            _listed[path] = changed_at, frozenset(os.listdir(path))
    except OSError:
        return frozenset()
    return _listed[path][1]


def _temporary() -> str:
    import tempfile

    return tempfile.gettempdir()


def _open_files() -> dict[str, str]:
    """Descriptors of files that have a name."""
    if not _OPEN.exists():
        return {}
    found = {}
    for number in os.listdir(_OPEN):
        with contextlib.suppress(OSError):
            found[number] = os.readlink(_OPEN / number)
    no_files = ("/dev/", "/proc/")
    return {n: t for n, t in found.items() if t.startswith("/") and not t.startswith(no_files)}


def _children() -> str:
    try:
        return _CHILDREN.read_text()
    except OSError:
        return ""


def _environment() -> dict[Any, Any]:
    variables = dict(os.environ._data)
    of_libraries = (b"PYTEST_CURRENT_TEST", b"TORCHINDUCTOR_", b"TRITON_")
    return {name: v for name, v in variables.items() if not name.startswith(of_libraries)}


def _of_tests(items: Iterable[Any]) -> list[Any]:
    """Those that are ours; what a package adds for itself is its matter."""
    modules = (getattr(item, "__module__", None) or type(item).__module__ for item in items)
    names = (module.partition(".")[0] for module in modules)
    return [item for item, name in zip(items, names, strict=True) if name in ("tests", "devplan")]


def _handlers() -> list[Any]:
    """Of the root logger; those of pytest come and go."""
    return [h for h in logging.root.handlers if not type(h).__module__.startswith("_pytest")]


_READ: dict[str, Callable[[], Any]] = {
    "builtins": lambda: {n: v for n, v in vars(builtins).items() if n != "_"},
    "sys.stdin": lambda: sys.stdin,
    "sys.stdout": lambda: sys.stdout,
    "sys.stderr": lambda: sys.stderr,
    "sys.excepthook": lambda: sys.excepthook,
    "threading.excepthook": lambda: threading.excepthook,
    "sys.settrace": sys.gettrace,
    "sys.setprofile": sys.getprofile,
    "sys.argv": lambda: list(sys.argv),
    "sys.path": lambda: list(sys.path),
    "sys.meta_path": lambda: _of_tests(sys.meta_path),
    "sys.setrecursionlimit": sys.getrecursionlimit,
    "the current folder": os.getcwd,
    "the environment": _environment,
    "gc.freeze": gc.get_freeze_count,
    "gc.enable": gc.isenabled,
    "gc.set_threshold": gc.get_threshold,
    "gc.set_debug": gc.get_debug,
    "gc.callbacks": lambda: _of_tests(gc.callbacks),
    "signal": lambda: {number.name: signal.getsignal(number) for number in _SIGNALS},
    "timers": lambda: [signal.getitimer(timer) for timer in _TIMERS],
    "logging.disable": lambda: logging.root.manager.disable,
    "logging.root.level": lambda: logging.root.level,
    "logging.root.handlers": _handlers,
    "child processes": _children,
}


def _torch_state() -> dict[str, Any]:
    """Names of torch that devplan replaces for a while, modes and switches."""
    import torch
    from torch.overrides import _len_torch_function_stack
    from torch.utils import _device, _python_dispatch

    distributions = sys.modules.get("torch.distributions.distribution")
    return {
        "torch.cuda": dict(vars(torch.cuda)),
        "torch.nn.init": dict(vars(torch.nn.init)),
        "Distribution._validate_args": distributions
        and vars(distributions.Distribution)["_validate_args"],
        "torch.compile": torch.compile,
        "Module.__init__": torch.nn.Module.__init__,
        "Module.__setattr__": torch.nn.Module.__setattr__,
        "Module.__getattr__": torch.nn.Module.__getattr__,
        "Module.__call__": torch.nn.Module.__call__,
        "Parameter.__new__": torch.nn.Parameter.__new__,
        "number of function modes": _len_torch_function_stack(),
        "number of dispatch modes": len(_python_dispatch._get_current_dispatch_mode_stack()),
        "number of threads": torch.get_num_threads(),
        "default dtype": torch.get_default_dtype(),
        "default device": _device.CURRENT_DEVICE,
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
    }


def _is_librarys(value: Any) -> bool:
    """Whether a function is defined by an installed package: dynamo's own ``Module.__init__``."""
    code = getattr(value, "__code__", None)
    return code is not None and "site-packages" in code.co_filename


def _functions(names: dict[str, Any]) -> dict[str, Any]:
    return {n: v for n, v in names.items() if isinstance(v, _FUNCTIONS)}


def _levels() -> dict[str, int]:
    known = logging.root.manager.loggerDict
    return {name: one.level for name, one in known.items() if isinstance(one, logging.Logger)}


def _is_planted(module: Any) -> bool:
    """Whether a module came from a test and not from a package that is installed."""
    path = _file_of(module)
    if module is sys.modules.get("__main__"):  # under a second name, by an import
        return False
    if path is None:
        return type(module) is types.ModuleType and not _is_of_an_extension(module)
    return not path.startswith(_OWN_MODULES)


def _is_of_an_extension(module: types.ModuleType) -> bool:
    """Whether a module without a file belongs to a package that is installed, or to Python."""
    if getattr(module, "__spec__", None) is not None:
        return True
    if module.__name__.startswith(("_cython", "cython_runtime")):  # what C made by Cython adds
        return True
    top = module.__name__.partition(".")[0]
    path = _file_of(sys.modules.get(top))
    return path is not None and top not in ("devplan", "tests") and path.startswith(_OWN_MODULES)


def _file_of(module: Any) -> str | None:
    try:
        return vars(module).get("__file__")
    except TypeError:
        return None


def _changes(name: str, before: Any, now: Any) -> Iterable[str]:
    """One line, or one for each key of a mapping."""
    if not isinstance(before, dict):
        yield f"{name}: {_shown(now)} instead of {_shown(before)}"
        return
    for key in before.keys() | now.keys():
        if before.get(key) != now.get(key):
            key_text = key.decode() if isinstance(key, bytes) else key
            was, is_now = _shown(before.get(key)), _shown(now.get(key))
            yield f"{name}: {key_text} is {is_now} instead of {was}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
