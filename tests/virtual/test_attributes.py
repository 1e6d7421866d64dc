"""Tensors in plain attributes: named by their path, on the CPU, with the values of integers."""

from __future__ import annotations

from dataclasses import replace

import torch
from accelerate import dispatch_model
from torch import nn

from devplan.checker.checking import check
from devplan.checker.run_options import RunOptions
from devplan.core.findings import Severity
from devplan.models.boundary import RememberIntegers
from devplan.virtual.calls import ForwardCall
from devplan.virtual.labels import attribute_path, plain_tensors
from devplan.virtual.run import run_split
from tests.virtual import tiny


class Part(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(8, 8)
        self._table = torch.arange(8.0)
        self.tables = [torch.ones(8), {"wide": torch.ones(2, 8)}]
        self.sizes = torch.tensor([3, 5])

    def forward(self, hidden):
        hidden = self.up(hidden) + self._table[None]  # a view of what is held
        hidden = hidden * self.tables[0] + self.tables[1]["wide"][0]
        return hidden + hidden[:, : self.sizes[0]].sum()


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.config = None
        self.embed = nn.Embedding(50, 8)
        self.layers = nn.ModuleList(Part() for _ in range(4))
        self.kept = None

    def forward(self, input_ids):
        hidden = self.kept = self.embed(input_ids)
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden + self.kept


MAP = {"embed": "cuda:0", "layers": "cuda:1"}
HELD = ["layers.0._table", "layers.0.tables[0]", "layers.0.tables[1]['wide']"]


def inputs(model=None, config=None):
    """What ``check`` is handed below."""
    return {"input_ids": torch.ones(1, 8, dtype=torch.int64)}


def meta_model() -> Model:
    with torch.device("meta"), RememberIntegers():
        return Model()


def test_operands_are_named_by_their_path_and_layers_are_folded():
    model = meta_model()
    before = [dict(vars(module)) for module in model.modules()]
    split = replace(tiny.split_of(model), device_map=MAP)
    folded, full = (
        run_split(split, inputs(), described="", call=ForwardCall(), fold=fold)
        for fold in (True, False)
    )
    assert folded.error is None and folded.num_ops < full.num_ops
    for record in (folded, full):
        named = {fact.name: fact.device for m in record.mismatches for fact in m.operands}
        named.pop(None)  # activations
        assert named == {**dict.fromkeys(HELD, "cpu"), "kept": "cuda:0"}
        assert not record.made_up  # sizes[0] has its value
    assert [dict(vars(module)) for module in model.modules()] == before


def test_what_no_hook_moves_is_dp303_and_a_kept_activation_is_not():
    options = RunOptions(inputs=f"{__file__}:inputs")
    for model in (meta_model(), Model()):
        found = {}
        for finding in check(model, MAP, main_device="cuda:0", options=options).errors:
            found.setdefault(finding.code, []).append(finding)
        assert [HELD[i] in found["DP303"][i].message for i in range(3)] == [True] * 3
        assert all("plain attribute" in finding.message for finding in found["DP303"])
        assert "kept on cuda:0" in found["DP301"][0].message


def test_paths():
    part = Part()
    part.itself = [part._table]
    part.itself.append(part.itself)
    names = {id(part): "layers.7"}
    assert attribute_path(part.tables[1]["wide"][1], [part], names) == "layers.7.tables[1]['wide']"
    assert attribute_path(part.up.weight, [part], names) is None
    assert attribute_path(torch.ones(8), [part], names) is None
    parent = nn.ModuleList([part])
    assert attribute_path(part.sizes, [parent], names) == "layers.7.sizes"
    assert {path for path, _ in plain_tensors(part)} >= {"_table", "sizes", "itself[0]"}


class Rotary(nn.Module):
    """As rotary embeddings of transformers 4.45: the frequencies, and what they were at first."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("inv_freq", torch.arange(8.0), persistent=False)
        self.original_inv_freq = self.inv_freq

    def forward(self, hidden):
        return hidden * self.inv_freq[None]


class Resetting(Rotary):
    def forward(self, hidden):
        self.register_buffer("inv_freq", self.original_inv_freq, persistent=False)
        return super().forward(hidden)


class Rotating(nn.Module):
    def __init__(self, rotary: nn.Module) -> None:
        super().__init__()
        self.embed, self.rotary, self.head = nn.Embedding(50, 8), rotary, nn.Linear(8, 8)

    def forward(self, input_ids):
        return self.head(self.rotary(self.embed(input_ids)))


def found(model: nn.Module, device_map):
    options = RunOptions(inputs=f"{__file__}:inputs")
    return check(model, device_map, main_device="cuda:0", options=options)


def test_an_alias_of_a_buffer_stays_behind():
    device_map = {"embed": 0, "rotary": 0, "head": 1}
    assert found(Rotating(Rotary()), device_map).errors == ()
    (finding,) = found(Rotating(Resetting()), device_map).errors
    assert finding.code == "DP303"
    assert "rotary.original_inv_freq stays on cpu, it is a plain attribute" in finding.message


def test_an_alias_of_a_buffer_stays_behind_for_real():
    """``meta`` stands for the card."""
    model = Rotating(Resetting())
    dispatch_model(model, {"embed": "cpu", "rotary": "meta", "head": "cpu"}, main_device="cpu")
    assert model.rotary.inv_freq.device.type == "meta"
    assert model.rotary.original_inv_freq.device.type == "cpu"


def test_a_buffer_that_no_entry_covers_is_run_where_it_stays():
    device_map = {"embed": 0, "head": 1}
    result = found(Rotating(Rotary()), device_map)
    assert [run.phases for run in result.runs] == [("forward",)]
    (finding,) = result.errors
    assert finding.code == "DP303" and "rotary.inv_freq stays on cpu" in finding.message
    assert finding.fix.changed_entries == {"rotary": "cuda:0"}
    (missing,) = (d for d in result.findings if d.code == "DP001")
    assert missing.severity is Severity.WARNING and missing.fix.changed_entries == {
        "rotary": "cuda:0"
    }
    repaired = found(Rotating(Rotary()), {**device_map, **finding.fix.changed_entries})
    assert repaired.errors == () and "DP001" not in {d.code for d in repaired.findings}


def test_a_buffer_that_no_entry_covers_stays_on_the_cpu_for_real():
    model = Rotating(Rotary())
    dispatch_model(model, {"embed": "cpu", "head": "meta"}, main_device="cpu")
    assert model.rotary.inv_freq.device.type == "cpu" and not hasattr(model.rotary, "_hf_hook")


def test_a_parameter_that_no_entry_covers_is_refused():
    result = found(Rotating(Rotary()), {"embed": 0, "rotary": 1})
    assert [d.code for d in result.errors] == ["DP001"] and result.runs == ()
    assert "accelerate refuses the map" in result.errors[0].message


class ReadingThrice(Rotary):
    def forward(self, hidden):
        hidden = hidden * self.inv_freq[None]
        hidden = hidden + self.inv_freq
        return hidden - self.inv_freq[:8]


def test_a_tensor_that_is_read_in_three_places_is_one_finding():
    (finding,) = found(Rotating(ReadingThrice()), {"embed": 0, "head": 1}).errors
    assert finding.count == 3
    assert [each.line - finding.source.line for each in finding.also_at] == [1, 2]


class UsesAWeight(Rotating):
    """Its scale is read, and called by nobody; its other part is left out."""

    def __init__(self) -> None:
        super().__init__(Rotary())
        self.scale, self.unused = nn.Linear(8, 8), nn.Linear(8, 8)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(8, 8)) for _ in range(4))

    def forward(self, input_ids):
        hidden = super().forward(input_ids) @ self.scale.weight
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


def test_what_is_used_without_its_forward_did_run():
    result = found(UsesAWeight(), {"": 0})
    assert result.runs[0].used == {"scale.weight"}
    (finding,) = (d for d in result.findings if d.code == "DP902")
    assert "unused" in finding.message and "scale" not in finding.message
