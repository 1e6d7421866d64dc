"""An attack as its file says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

CASES = Path(__file__).parent / "cases"


@dataclass(frozen=True, kw_only=True)
class Must:
    """What must happen, on top of what holds for every input."""

    status: tuple[int, ...] = (2,)
    err: tuple[str, ...] = ()
    out: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    """Texts that may stand in neither stream."""
    files: tuple[str, ...] = ()
    """Patterns of the files that may be new or changed."""
    seconds: float = 10.0
    mib: float = 1024.0
    err_lines: int | None = None


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One attack."""

    name: str
    what: str
    """A sentence: what must be so."""
    run: tuple[str, ...]
    must: Must = Must()
    files: Mapping[str, Any] = field(default_factory=dict)
    stdin: Any = None
    stdout: str = ""
    stderr: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    hub: Mapping[str, Any] | None = None
    disk_bytes: int | None = None
    interrupt: float | None = None
    slow: bool = False


def load_attacks(folder: Path = CASES) -> list[Attack]:
    """Every attack below a folder, in the order of the names."""
    return [load_attack(path) for path in sorted(folder.rglob("*.yaml"))]


def load_attack(path: Path) -> Attack:
    """One file; a key that is not known is an error."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    must = content.pop("must", {})
    status = must.get("status", 2)
    for key in ("err", "out", "never", "files"):
        value = must.get(key, ())
        must[key] = (value,) if isinstance(value, str) else tuple(value)
    must["status"] = tuple(status) if isinstance(status, list) else (status,)
    content["run"] = tuple(str(argument) for argument in content["run"])
    name = path.relative_to(CASES).with_suffix("").as_posix()
    return Attack(name=name, must=Must(**must), **content)


def dump_attack(path: Path, content: Mapping[str, Any]) -> None:
    """Write an attack that a fuzzer found; bytes that are not text are kept as escapes."""
    path.write_text(
        yaml.safe_dump(_plain(content), sort_keys=False, allow_unicode=False), encoding="utf-8"
    )


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return {"bytes": value.decode("latin-1")}
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
