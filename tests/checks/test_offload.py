"""Weights that code reads while they are offloaded: devplan against accelerate's own hooks.

The same module is dispatched for real over ``cpu`` and ``disk`` and run, and checked with the same
map.  What raises there is a finding here, and what runs there is clean.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from accelerate import dispatch_model
from torch import nn

from devplan.checker.checking import check
from devplan.checker.run_options import RunOptions
from devplan.core.findings import CheckResult, Severity

MAIN = {"first": "cpu", "last": "cpu"}


class Reading(nn.Module):
    """A part whose weights the model's own code uses in one way or another."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)
        self.kept = nn.Linear(4, 4)
        self.kept.register_buffer("table", torch.ones(4, 4))

    def forward(self, x):
        return self.last(self.used(self.first(x)))


class ByItsForward(Reading):
    def used(self, x):
        return self.kept(x)


class HandedToAModule(Reading):
    def used(self, x):
        return x + self.last(self.kept.weight)


class Added(Reading):
    def used(self, x):
        return x + self.kept.weight


class HandedOnFromMeta(Reading):
    """All on meta at first; what the weight was is not forgotten."""

    def used(self, x):
        return x + self.last(F.relu(self.kept.weight.t()) * 2)


class CopiedInto(Reading):
    def used(self, x):
        x[:4] = self.kept.weight
        return x


class AskedForANumber(Reading):
    def used(self, x):
        return x * self.kept.weight.sum().item()


class MovedToItsDevice(Reading):
    def used(self, x):
        return self.last(x.to(self.kept.weight.device))


class MadeOnItsDevice(Reading):
    def used(self, x):
        return x + torch.ones(4, 4, device=self.kept.weight.device)


class OfItsShape(Reading):
    def used(self, x):
        return self.kept(x) * self.kept.weight.expand(2, 4, 4).shape[0]


class ReadsABuffer(Reading):
    """It stays where the hook computes: buffers are not offloaded with the weights."""

    def used(self, x):
        return self.kept(x) + self.kept.table


class TiedToAWeightThatIsThere(Reading):
    """One tensor, so that the entry of its first name brings it."""

    def __init__(self) -> None:
        super().__init__()
        self.kept.weight = self.first.weight

    def used(self, x):
        return x + self.last(self.first.weight)


class OwnParameter(nn.Module):
    """The hook of a module brings the parameters that are its own, and not those of its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.part = nn.Parameter(torch.ones(4)), nn.Linear(4, 4)

    def forward(self, x):
        return self.part(x * self.scale)


class WithAnOwnParameter(Reading):
    def __init__(self) -> None:
        super().__init__()
        self.kept = OwnParameter()

    def used(self, x):
        return self.kept(x)


class ReadsFromInside(OwnParameter):
    def forward(self, x):
        return F.linear(x, self.part(self.part.weight) + self.scale)


class WithAReaderInside(Reading):
    def __init__(self) -> None:
        super().__init__()
        self.kept = ReadsFromInside()

    def used(self, x):
        return self.kept(x)


def inputs(model, config):
    """What the modules of this file take."""
    return {"x": torch.ones(4, 4)}


def checked(model: nn.Module, device_map: dict[str, str]) -> CheckResult:
    options = RunOptions(inputs=f"{__file__}:inputs")
    return check(model, device_map, main_device="cpu", options=options)


def is_refused(model: nn.Module, device_map: dict[str, str], folder) -> bool:
    """Whether the model raises for real where its hooks are accelerate's."""
    dispatch_model(model, device_map, main_device="cpu", offload_dir=str(folder))
    try:
        with torch.no_grad():
            model(**inputs(None, None))
    except (RuntimeError, NotImplementedError) as error:
        assert "meta" in str(error)
        return True
    return False


def found(result: CheckResult):
    return [d for d in result.findings if d.severity is Severity.ERROR]


@pytest.mark.parametrize(
    "kind, raises",
    [
        (ByItsForward, False),
        (HandedToAModule, True),
        (Added, True),
        (HandedOnFromMeta, True),
        (CopiedInto, True),
        (AskedForANumber, True),
        (MovedToItsDevice, True),
        (MadeOnItsDevice, True),
        (OfItsShape, False),
        (ReadsABuffer, False),
        (WithAnOwnParameter, False),
        (WithAReaderInside, True),
    ],
    ids=lambda item: getattr(item, "__name__", ""),
)
def test_what_is_read_while_it_is_offloaded(kind, raises, tmp_path):
    device_map = {**MAIN, "kept": "disk"}
    result = checked(kind(), device_map)
    assert is_refused(kind(), device_map, tmp_path) == raises
    assert [d.code for d in found(result)] == ["DP403"] * raises
    assert [run.phases for run in result.runs] == [("forward",)]
    for finding in found(result):
        assert finding.source.file.endswith("test_offload.py")
        assert finding.entry.key == "kept" and "kept." in finding.message
        assert finding.fix.changed_entries == {"kept": "cpu"}
        repaired = checked(kind(), {**device_map, **finding.fix.changed_entries})
        assert found(repaired) == []
