"""One command of devplan, watched from inside its process.

What it opens for writing, starts, connects to and imports is seen by an audit hook; what it leaves
replaced in Python, torch, transformers and accelerate is found by comparing names before and after.
Audit hooks cannot be taken back, so this runs only in processes that are made for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BAIT = Path(__file__).parent / "bait"
"""Modules that nobody may import: each leaves a canary."""
CANARY = "CANARY"
"""Variable with the path of the file that code leaves which must not run."""
SOFT_MIB = 3 * 1024
"""Address space on top of what is taken at the start: beyond it Python raises MemoryError."""

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PATH_EVENTS = {
    "os.mkdir": 1,
    "os.rename": 2,
    "os.remove": 1,
    "os.rmdir": 1,
    "os.link": 2,
    "os.truncate": 1,
    "shutil.rmtree": 1,
    "os.chmod": 1,
}
_COMMANDS = {"nvidia-smi", "dot", "lscpu", "ldconfig", "ldconfig.real", "uname", "git"}
_STARTS = {"os.system", "os.exec", "os.posix_spawn", "pty.spawn", "os.startfile"}
_FOREIGN = {"pytest", "_pytest", "hypothesis", "antigravity", "this", "pip", "idlelib", "turtle"}


@dataclass(kw_only=True)
class Request:
    """A command and the world it runs in; plain values, so that it can cross a pipe."""

    argv: list[str]
    root: str
    """Folder with ``here`` (the current folder), ``home``, ``tmp`` and ``cache``."""
    env: dict[str, str] = field(default_factory=dict)
    stdin: str = ""
    """Path of a file, ``closed``, or nothing."""
    stdout: str = ""
    """``closed``, ``full``, ``broken``, or a file."""
    stderr: str = ""
    file_bytes: int | None = None
    """Largest file that may be written: a disk that is full."""
    hub: dict[str, Any] | None = None


@dataclass(kw_only=True)
class Outcome:
    """What became of it."""

    status: int
    out: str = ""
    err: str = ""
    seconds: float = 0.0
    """Of CPU, which other work on the machine does not lengthen; of a killed process, passed."""
    peak_mib: float = 0.0
    strayed: list[str] = field(default_factory=list)


_watched: list[str] | None = None
_root = "/nowhere"


def arm() -> None:
    """Let this process be watched, from now on and for good."""
    sys.dont_write_bytecode = True
    if str(BAIT) not in sys.path:
        sys.path.append(str(BAIT))
    sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple) -> None:
    if _watched is None:
        return
    if event == "open":
        path, _, flags = arguments
        if isinstance(flags, int) and flags & _WRITES and isinstance(path, str | bytes):
            _note_path("opened for writing", path)
    elif event in _PATH_EVENTS:
        for path in arguments[: _PATH_EVENTS[event]]:
            if isinstance(path, str | bytes | os.PathLike):
                _note_path(event, path)
    elif event == "subprocess.Popen":
        command = arguments[1] or [arguments[0]]
        name = os.path.basename(str(command if isinstance(command, str) else command[0]))
        if name not in _COMMANDS:
            _watched.append(f"started {command}")
    elif event in _STARTS:
        _watched.append(f"{event} {arguments[:2]}")
    elif event == "socket.connect":
        address = arguments[1]
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            _watched.append(f"connected to {address}")


def _note_path(what: str, path: Any) -> None:
    name = os.fsdecode(path)
    # [relative to a directory's descriptor] shutil.rmtree names files so; its own event was seen.
    full = os.path.normpath(os.path.join(os.getcwd(), name))
    if full.startswith((_root + "/", "/dev/", "/proc/")) or full in (_root, "/proc"):
        return
    if what == "os.rmdir" and os.sep not in name:
        return
    _watched.append(f"{what} {full}")


# ------------------------------------------------------------------------------------- one command


def call(request: Request) -> Outcome:
    """Run the command in this process; what it raises becomes status 1 with a traceback."""
    global _watched, _root
    _root = os.path.realpath(request.root)
    here = os.path.join(_root, "here")
    strayed: list[str] = []
    before = State.now()
    modules = set(sys.modules)
    with _world(request, here), _streams(request) as streams:
        start_mib = _memory_mib("VmRSS")
        _reset_peak()
        started = time.process_time()
        _watched = strayed
        try:
            status = _status(request.argv)
        finally:
            _watched = None
        seconds = time.process_time() - started
        peak = max(_memory_mib("VmHWM") - start_mib, 0)
        status = streams.finish(status)
        strayed += before.differences(here, request)
        out, err = streams.texts()
    strayed += _imported(modules, here)
    return Outcome(
        status=status,
        out=out,
        err=err,
        seconds=round(seconds, 3),
        peak_mib=round(peak, 1),
        strayed=strayed,
    )


def _status(argv: Sequence[str]) -> int:
    """As ``sys.exit(main(argv))`` would end."""
    import traceback

    from devplan.cli.app import main

    try:
        code = main(list(argv))
    except SystemExit as error:
        code = error.code
    except BaseException:
        with contextlib.suppress(Exception):
            traceback.print_exc()
        return 1
    return code if isinstance(code, int) else 0 if code is None else 1


@contextlib.contextmanager
def _world(request: Request, here: str) -> Iterator[None]:
    """Folder, environment and limits of the command; the hub where there is one."""
    cwd, environment, path = os.getcwd(), dict(os.environ), list(sys.path)
    limit = resource.getrlimit(resource.RLIMIT_AS)
    size = resource.getrlimit(resource.RLIMIT_FSIZE)
    os.chdir(here)
    os.environ.update(
        HOME=os.path.join(_root, "home"),
        TMPDIR=os.path.join(_root, "tmp"),
        # torch makes this folder when a library compiles something; by default in /tmp itself.
        TORCHINDUCTOR_CACHE_DIR=os.path.join(_root, "tmp", "torchinductor"),
        COLUMNS="100",
        **{CANARY: os.path.join(_root, "canary")},
    )
    os.environ.update(request.env)
    sys.path.insert(0, here)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_hub(request.hub or {}, os.path.join(_root, "cache")))
        resource.setrlimit(
            resource.RLIMIT_AS, ((int(_memory_mib("VmSize")) + SOFT_MIB) << 20, limit[1])
        )
        if request.file_bytes is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (request.file_bytes, size[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limit)
            resource.setrlimit(resource.RLIMIT_FSIZE, size)
            os.chdir(cwd)
            os.environ.clear()
            os.environ.update(environment)
            sys.path[:] = path


@contextlib.contextmanager
def _hub(answers: Mapping[str, Any], cache: str) -> Iterator[None]:
    """A hub on this machine that this process takes for the real one; without answers none."""
    from huggingface_hub import constants

    from tests.sources.hub_server import Hub, Repository, start

    names = ("ENDPOINT", "HUGGINGFACE_CO_URL_TEMPLATE", "HF_HUB_CACHE", "HF_TOKEN_PATH")
    kept = {name: getattr(constants, name) for name in names}
    hub, server = Hub(endpoint="http://127.0.0.1:9"), None
    if answers:
        hub.raw = dict(answers.get("raw", {}))
        for name, folder in answers.get("repositories", {}).items():
            hub.repositories[name] = Repository(Path(os.getcwd()) / folder)
        server = start(hub)
    constants.ENDPOINT = hub.endpoint
    constants.HUGGINGFACE_CO_URL_TEMPLATE = (
        hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    constants.HF_HUB_CACHE = cache
    constants.HF_TOKEN_PATH = os.path.join(cache, "token")
    try:
        yield
    finally:
        if server is not None:
            server.shutdown()
            server.server_close()
        for name, value in kept.items():
            setattr(constants, name, value)


# ----------------------------------------------------------------------------------------- streams


class _Streams:
    """Descriptors 0, 1 and 2 and what Python makes of them."""

    def __init__(self, request: Request) -> None:
        self.kept = [os.dup(number) for number in range(3)]
        self.python = (sys.stdin, sys.stdout, sys.stderr)
        self.files: dict[int, int | None] = {}
        self.limited = request.file_bytes is not None
        sys.stdin = self._input(request.stdin)
        sys.stdout = self._output(1, request.stdout, "strict")
        sys.stderr = self._output(2, request.stderr, "backslashreplace")

    def _input(self, kind: str) -> Any:
        if kind == "closed":
            os.close(0)
            return None
        source = os.open(kind or os.devnull, os.O_RDONLY)
        os.dup2(source, 0)
        if source != 0:
            os.close(source)
        return io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), encoding="utf-8")

    def _output(self, number: int, kind: str, errors: str) -> Any:
        self.files[number] = None
        if kind == "closed":
            os.close(number)
            return None
        if kind == "full":
            target = os.open("/dev/full", os.O_WRONLY)
        elif kind == "broken":
            ours, target = os.pipe()
            os.close(ours)
        elif self.limited:  # a pipe is no file, which a disk that is full could cut off
            ours, target = os.pipe()
            fcntl.fcntl(target, fcntl.F_SETPIPE_SZ, 1 << 20)
            os.set_blocking(ours, False)
            self.files[number] = ours
        else:
            target = os.memfd_create(f"stream{number}")
            self.files[number] = os.dup(target)
        os.dup2(target, number)
        os.close(target)
        encoding, _, own = os.environ.get("PYTHONIOENCODING", "utf-8").partition(":")
        raw = io.FileIO(number, "w", closefd=False)
        buffer = io.BufferedWriter(raw)
        return io.TextIOWrapper(
            buffer,
            encoding=encoding or "utf-8",
            errors=own if own and number == 1 else errors,
            line_buffering=number == 2,
        )

    def finish(self, status: int) -> int:
        """Flush as the end of a process does, which has a status of its own for what fails."""
        try:
            if sys.stdout is not None:
                sys.stdout.flush()
        except Exception as error:
            with contextlib.suppress(Exception):
                print(f"Exception ignored while flushing sys.stdout: {error!r}", file=sys.stderr)
            status = 120
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        return status

    def texts(self) -> tuple[str, str]:
        return self._text(1), self._text(2)

    def _text(self, number: int) -> str:
        file = self.files[number]
        if file is None:
            return ""
        if self.limited:
            with contextlib.suppress(BlockingIOError):
                return os.read(file, 1 << 20).decode("utf-8", errors="surrogateescape")
            return ""
        os.lseek(file, 0, os.SEEK_SET)
        with open(os.dup(file), "rb") as stream:
            return stream.read().decode("utf-8", errors="surrogateescape")

    def restore(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.detach()
        sys.stdin, sys.stdout, sys.stderr = self.python
        for number, copy in enumerate(self.kept):
            os.dup2(copy, number)
            os.close(copy)
        for file in self.files.values():
            if file is not None:
                os.close(file)


@contextlib.contextmanager
def _streams(request: Request) -> Iterator[_Streams]:
    streams = _Streams(request)
    try:
        yield streams
    finally:
        streams.restore()


# ------------------------------------------------------------------------------------------- state


@dataclass(frozen=True, kw_only=True)
class State:
    """What a command must leave as it found it."""

    names: dict[str, int]
    facts: dict[str, Any]

    @classmethod
    def now(cls) -> State:
        return cls(names=_names(), facts=_facts())

    def differences(self, here: str, request: Request) -> list[str]:
        found = [
            f"left {name} replaced" for name, value in _names().items() if self.names[name] != value
        ]
        now = _facts()
        found += [
            f"left {name} as {now[name]!r}, was {value!r}"
            for name, value in self.facts.items()
            if now[name] != value
        ]
        if os.getcwd() != here:
            found.append(f"left the current folder at {os.getcwd()}")
        for name, value in request.env.items():
            if os.environ.get(name) != value:
                found.append(f"changed the variable {name}")
        return found


def _holders() -> dict[str, Any]:
    """Modules and classes that devplan, or what it calls, replaces something in."""
    names = (
        "builtins torch torch.cuda torch.nn.functional torch.nn.init torch.nn.Module torch.Tensor "
        "torch.utils.data torch.distributed accelerate.hooks accelerate.big_modeling "
        "accelerate.utils.modeling transformers.modeling_utils transformers.dynamic_module_utils "
        "transformers.utils.hub transformers.utils.import_utils safetensors"
    )
    found = {}
    for name in names.split():
        module, _, attribute = name.rpartition(".")
        if name in sys.modules:
            found[name] = sys.modules[name]
        elif attribute[:1].isupper() and module in sys.modules:
            found[name] = getattr(sys.modules[module], attribute)
    return found


_STATE: dict[str, int] = {}


def _names() -> dict[str, int]:
    """Identity of everything callable; of names that came later the first that was seen."""
    now = {
        f"{name}.{key}": id(value)
        for name, holder in _holders().items()
        for key, value in list(vars(holder).items())
        if callable(value) and key != "_"
    }
    for key, value in now.items():
        _STATE.setdefault(key, value)
    return {key: now.get(key, 0) for key in _STATE}


def _facts() -> dict[str, Any]:
    import gc

    facts: dict[str, Any] = {
        "gc enabled": gc.isenabled(),
        "frozen garbage": gc.get_freeze_count(),
        "recursion limit": sys.getrecursionlimit(),
        "excepthook": sys.excepthook,
        "SIGINT": signal.getsignal(signal.SIGINT),
        "SIGALRM": signal.getsignal(signal.SIGALRM),
        "timer": signal.getitimer(signal.ITIMER_REAL)[0] > 0,
        "threads": sorted(t.name for t in threading.enumerate() if not t.daemon),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        facts |= {
            "default dtype": torch.get_default_dtype(),
            "default device": str(torch.get_default_device()),
            "grad mode": torch.is_grad_enabled(),
            "inference mode": torch.is_inference_mode_enabled(),
            "cuda is there": torch.cuda.is_available(),
        }
    return facts


def _imported(before: set[str], here: str) -> list[str]:
    found = []
    for name in sorted(set(sys.modules) - before):
        file = str(getattr(sys.modules[name], "__file__", "") or "")
        if name.partition(".")[0] in _FOREIGN or file.startswith((here, str(BAIT))):
            found.append(f"imported {name}")
            sys.modules.pop(name)
    return found


def _memory_mib(key: str) -> float:
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith(key + ":"):
                return int(line.split()[1]) / 1024
    return 0.0


def _reset_peak() -> None:
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")
