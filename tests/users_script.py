"""A script of a user's with every public name, which mypy checks and nobody runs."""

from __future__ import annotations

from typing import Any, assert_type

import torch
from torch import nn

import devplan

model: nn.Module = nn.Linear(2, 2)
machine = devplan.parse_gpus(["24GiB", "12GiB"], reserve="1GiB")
assert_type(machine, devplan.Machine)
assert_type(machine.cards[0], devplan.Card)
work = devplan.Workload(batch=2, context=32768, dtype="bfloat16", image_size=(448, 672))
assert_type(work.context, int | None)
assert_type(work.tokens, int)

found = devplan.suggest("Qwen/Qwen3-8B", "24GiB,12GiB", work, objective="context")
assert_type(found, devplan.Suggestion)
assert_type(found.workload, devplan.Workload)
assert_type(found.result, devplan.Plan | devplan.Infeasible)
assert_type(found.checked_map, devplan.DeviceMapFile)
if isinstance(found.result, devplan.Plan):
    assert_type(found.result.loads, tuple[devplan.DeviceMemory, ...])
assert_type(devplan.write_map(found, "map.yaml", force=True), devplan.WriteOutcome)
assert_type(devplan.read_map("map.yaml"), devplan.DeviceMapFile)
assert_type(devplan.device_map(found), dict[str, int | str])

here = devplan.read_environment()
assert_type(here, devplan.Environment)
options = devplan.RunOptions(run="forward", images=2, timeout_s=60)
for given in ("map.yaml", {"model": 0, "lm_head": "cpu"}, found, found.checked_map):
    checked = devplan.check("Qwen/Qwen3-8B", given, machine=machine, options=options)
    assert_type(checked, devplan.CheckResult)
checked = devplan.check(model, "auto", machine=[24 * 2**30], workload=work, environment=here)
checked.raise_for_findings(strict=True)
assert_type(checked.is_clean, bool)
assert_type(checked.findings, tuple[devplan.Finding, ...])
assert_type(checked.findings[0].severity, devplan.Severity)
assert_type(checked.findings[0].entry, devplan.Entry | None)
assert_type(checked.findings[0].fix, devplan.Fix)

fits = devplan.fit("Qwen/Qwen3-8B", ["24GiB", machine], cards=["rtx-4090"], workload=work)
assert_type(fits, devplan.FitResult)
assert_type(fits.fits, bool)
compared = devplan.compare("Qwen/Qwen3-8B", machine, work, pins={"lm_head": "cuda:0"})
assert_type(compared, devplan.Comparison)
assert_type(compared.contenders, tuple[devplan.Contender, ...])
assert_type(compared.own.judged, devplan.Evaluation | None)
changed = devplan.diff("Qwen/Qwen3-8B", "a.yaml", {"": 0}, machine="24GiB")
assert_type(changed, devplan.MapDiff)
assert_type(changed.is_same, bool)
assert_type(devplan.diff(before="a.yaml", after="b.yaml"), devplan.MapDiff)

loaded: Any = devplan.load("./checkpoint", "map.yaml", attn_implementation="sdpa")
loaded = devplan.load(map=found)
applied: nn.Module = devplan.apply(model, {"": 0}, devices={"cuda:0": "cpu"})
audited = devplan.audit(applied, "map.yaml")
assert_type(audited, devplan.Audit)
assert_type(audited.findings, tuple[devplan.Finding, ...])
assert_type(audited.uses, tuple[devplan.DeviceUsage, ...])
audited.raise_for_findings()
inputs: dict[str, torch.Tensor] = devplan.to_main(model, {"x": torch.zeros(1)})

advice = devplan.needed_patch(model, "map.yaml", machine=machine)
assert_type(advice, devplan.PatchAdvice)
patched = devplan.patch_embeddings(model, advice.names, advice.device)
assert_type(patched, tuple[devplan.PatchedEmbedding, ...])
assert_type(devplan.unpatch_embeddings(model), tuple[str, ...])
with devplan.cache_transfers(model) as cache:
    assert_type(cache, devplan.TransferCache)

assert_type(devplan.diagnose(model, "map.yaml"), devplan.Diagnosis)
with devplan.diagnose(model, "map.yaml"):
    model(torch.zeros(1, 2))


@devplan.diagnose(model)
def answer(question: str) -> int:
    return len(question)


assert_type(answer("why?"), int)
devplan.attach_diagnosis(model, "map.yaml")
devplan.detach_diagnosis(model)
try:
    model(torch.zeros(1, 2))
except RuntimeError as error:
    assert_type(devplan.report_of(error), devplan.FailureReport | None)
except devplan.DeviceMapError as error:
    assert_type(error.findings, tuple[devplan.Finding, ...])
except devplan.InputError as error:
    print(error)
handler = devplan.JsonFormatter()
name: str = devplan.__version__
places: list[devplan.MapLike | devplan.MachineLike] = []
one: devplan.DeviceMap | None = None
