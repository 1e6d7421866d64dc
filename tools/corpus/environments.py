"""An environment for a release of transformers: what differs between releases, and no more.

An environment is a folder of packages in front of those of the running interpreter: transformers,
accelerate, huggingface_hub and tokenizers of their time (``releases.yaml``), and what a bug asks
for besides.  torch and everything else are the interpreter's own, so that an environment takes
tens of megabytes and not gigabytes.  It is made once, by pip, and kept.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CACHE_VARIABLE = "DEVPLAN_CORPUS_CACHE"
INSTALL_TIMEOUT_S = 600
_INSTALLING = threading.Lock()
"""Two bugs of one release must not make its environment twice."""


class NoEnvironment(Exception):
    """pip could not make an environment; the text is its last line."""


def cache_folder() -> Path:
    """Where environments are kept: `CACHE_VARIABLE`, or a folder of the user's cache."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named) if named else Path.home() / ".cache" / "devplan" / "corpus"


def known_releases() -> Mapping[str, Mapping[str, str]]:
    """Release of transformers -> package -> the version that was current when it came out."""
    return yaml.safe_load((HERE / "releases.yaml").read_text(encoding="utf-8"))


def pins_of(release: str, accelerate: str | None = None, extra: Sequence[str] = ()) -> list[str]:
    """What pip is to install for a release of transformers.

    Parameters
    ----------
    release
        Of transformers; a key of ``releases.yaml``.
    accelerate
        Its version where that is what matters; None: the one of the release's time.
    extra
        Further requirements, such as ``timm==1.0.15``.
    """
    beside = dict(known_releases()[release])
    if accelerate is not None:
        beside["accelerate"] = accelerate
    return [f"transformers=={release}", *(f"{n}=={v}" for n, v in beside.items()), *extra]


def packages_folder(pins: Sequence[str]) -> Path:
    """Where the packages of an environment lie, be it made or not.

    The last folder is called ``site-packages`` as in any environment: that is how devplan knows
    installed code from the user's own.
    """
    name = "+".join(pin.replace("==", "-") for pin in pins if "hub" not in pin[:15])
    return cache_folder() / name / "site-packages"


def environment(pins: Sequence[str]) -> Path:
    """The packages folder of an environment; made when it is not there yet.

    Raises
    ------
    NoEnvironment
        When pip refuses.
    """
    folder = packages_folder(pins)
    with _INSTALLING:
        if not folder.is_dir():
            _make(pins, folder)
    return folder


def _make(pins: Sequence[str], folder: Path) -> None:
    folder.parent.parent.mkdir(parents=True, exist_ok=True)
    # An interrupted installation must not be taken for an environment: it is made elsewhere.
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=folder.parent.parent))
    try:
        _install(pins, unfinished / "site-packages")
        unfinished.rename(folder.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _install(pins: Sequence[str], target: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-compile", "--target", str(target), *pins]
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise NoEnvironment(lines[-1] if lines else f"pip gave {done.returncode}")


def variables(folder: Path) -> dict[str, str]:
    """Environment variables with which the interpreter sees an environment, and devplan itself."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT))),
        "PYTHONNOUSERSITE": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
    }
