"""Commands of this checkout beside the same commands of another revision, in time and memory.

``python -m benchmarks commands --against REV`` names the revision; its package comes from
``git archive`` into a temporary folder, so that the repository stays as it is.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.processes import Run, run
from benchmarks.report import RefusedError, Report, Requirement, Table
from devplan.core.units import MIB
from tools.commit import commit

ROOT = Path(__file__).parents[1]
AGAINST = "6aa5625"
"""The revision before the package was restructured."""
NUM_ROUNDS = 7
NUM_WARM_UPS = 1
MOST_RATIO = 1.05
VISION_LANGUAGE = "Qwen/Qwen2.5-VL-7B-Instruct"
MIXTURE_OF_EXPERTS = "Qwen/Qwen3-30B-A3B"


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command of devplan, and how often it runs in a round: short ones vary more."""

    name: str
    line: str
    num_per_round: int = 1


COMMANDS = (
    Command(name="help", line="--help", num_per_round=10),
    Command(
        name="suggest, vision-language",
        line=f"suggest {VISION_LANGUAGE} --gpus 24GiB,12GiB --force -o map.yaml",
    ),
    Command(name="check", line="check map.yaml"),
    Command(name="compare", line=f"compare {VISION_LANGUAGE} --gpus 24GiB,12GiB"),
    Command(
        name="suggest, mixture of experts",
        line=f"suggest {MIXTURE_OF_EXPERTS} --gpus 4x24GiB --force -o experts.yaml",
    ),
)
"""In this order: the map that one writes is the map that the next one checks."""

SMALL = {
    "AGAINST": "HEAD",
    "NUM_ROUNDS": 1,
    "NUM_WARM_UPS": 0,
    "COMMANDS": (Command(name="help", line="--help"), *COMMANDS[1:2]),
}

PROSE = """
The same commands of two revisions of devplan: *before* is commit {before}, *after* is commit
{after}. Each run is a whole process, with the same Python and the same libraries. In a round each
command runs in both revisions, one right behind the other, and the one that goes first changes.
Rounds that count: {num_rounds}; earlier ones, which compile the modules and fill the caches of the
file system: {num_warm_ups}; runs of `devplan --help` in a round: {num_help}.

Times and memory are medians. A ratio is the median of the ratios of neighbors, after to before:
above 1, the command became slower or larger. The requirements look at processor time, because the
clock also shows what else the machine does.
"""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A command, run in both revisions one right behind the other."""

    before: Run
    after: Run

    def ratio(self, name: str) -> float:
        """After to before, of that field of `Run`."""
        return getattr(self.after, name) / getattr(self.before, name)


def measure() -> Report:
    """Both revisions, in turns.

    Raises
    ------
    RefusedError
        Git does not know the revision, or is not there.
    """
    before = _short(AGAINST)
    with tempfile.TemporaryDirectory() as folder:
        packages = {"before": _extract(before, Path(folder) / "package"), "after": ROOT}
        for name, package in packages.items():
            (Path(folder) / name).mkdir()
            _assert_imported(package, folder)
        pairs = _in_turns(packages, Path(folder))
    prose = PROSE.format(
        before=before,
        after=commit(),
        num_rounds=NUM_ROUNDS,
        num_warm_ups=NUM_WARM_UPS,
        num_help=COMMANDS[0].num_per_round,
    )
    return Report(
        title="Commands of two revisions",
        prose=prose,
        tables=(
            Table(title="Commands", rows=[_line(command) for command in COMMANDS]),
            Table(title="Ratios", rows=[_ratios(name, of) for name, of in pairs.items()]),
            Table(title="Medians", rows=[_medians(name, of) for name, of in pairs.items()]),
        ),
        requirements=[
            _requirement(name, of, field, what)
            for name, of in pairs.items()
            for field, what in (("cpu_s", "processor time"), ("peak_bytes", "peak memory"))
        ],
    )


# ---------------------------------------------------------------------------------- two revisions


def _short(revision: str) -> str:
    """The abbreviated commit of a revision."""
    refused = RefusedError(
        f"git finds no revision {revision!r} here; fetch it, or name another one: "
        "python -m benchmarks commands --against REV"
    )
    command = ["git", "rev-parse", "--verify", "--quiet", "--short", f"{revision}^{{commit}}"]
    try:
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        raise refused from None
    if found.returncode:
        raise refused
    return found.stdout.strip()


def _extract(revision: str, folder: Path) -> Path:
    """The package of that revision, in a new folder."""
    archive = ["git", "archive", "--format=tar", revision, "devplan"]
    packed = subprocess.run(archive, cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def _environment(package: Path) -> dict[str, str]:
    """Variables with which Python imports devplan from there, and keeps the byte code."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    path = [str(package), *filter(None, [kept.get("PYTHONPATH")])]
    return kept | {"PYTHONPATH": os.pathsep.join(path)}


def _assert_imported(package: Path, folder: str) -> None:
    """An installed devplan must not come before the one to measure."""
    command = [sys.executable, "-c", "import devplan; print(devplan.__file__)"]
    told = subprocess.run(
        command, cwd=folder, env=_environment(package), capture_output=True, text=True, check=True
    )
    assert Path(told.stdout.strip()).is_relative_to(package), told.stdout


def _in_turns(packages: Mapping[str, Path], folder: Path) -> dict[str, list[Pair]]:
    """Name of a command -> its pairs; each revision has a folder of its own for its maps."""
    pairs: dict[str, list[Pair]] = {command.name: [] for command in COMMANDS}
    for turn in range(NUM_WARM_UPS + NUM_ROUNDS):
        for command in COMMANDS:
            for time in range(command.num_per_round):
                order = list(packages) if (turn + time) % 2 else list(reversed(packages))
                words = [sys.executable, "-m", "devplan", *command.line.split()]
                runs = {
                    name: run(words, folder / name, _environment(packages[name])) for name in order
                }
                if turn >= NUM_WARM_UPS:
                    pairs[command.name].append(Pair(**runs))
    return pairs


# ---------------------------------------------------------------------------------------- results


def _line(command: Command) -> dict:
    return {"command": command.name, "typed": f"`devplan {command.line}`"}


def _ratios(name: str, pairs: Sequence[Pair]) -> dict:
    cpu = [pair.ratio("cpu_s") for pair in pairs]
    return {
        "command": name,
        "CPU time": f"{median(cpu):.3f}",
        "least to most": f"{min(cpu):.3f} to {max(cpu):.3f}",
        "wall time": f"{_median_ratio(pairs, 'wall_s'):.3f}",
        "peak memory": f"{_median_ratio(pairs, 'peak_bytes'):.3f}",
        "pairs": len(pairs),
    }


def _medians(name: str, pairs: Sequence[Pair]) -> dict:
    cells = {"command": name}
    for field, heading, unit, digits in (
        ("cpu_s", "CPU s", 1, 2),
        ("wall_s", "wall s", 1, 2),
        ("peak_bytes", "peak MiB", MIB, 0),
    ):
        for when in ("before", "after"):
            value = median(getattr(getattr(pair, when), field) for pair in pairs) / unit
            cells[f"{heading} {when}"] = f"{value:.{digits}f}"
    return cells


def _median_ratio(pairs: Sequence[Pair], field: str) -> float:
    return median(pair.ratio(field) for pair in pairs)


def _requirement(name: str, pairs: Sequence[Pair], field: str, what: str) -> Requirement:
    ratio = _median_ratio(pairs, field)
    return Requirement(
        text=f"{name}: at most {MOST_RATIO:.2f} times the {what} of before",
        measured=f"{ratio:.3f}",
        met=ratio <= MOST_RATIO,
    )
