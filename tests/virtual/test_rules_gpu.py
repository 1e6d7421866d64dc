"""The rules against real GPUs: the same code, run for real and foretold from labels.

Every case of ``rules_cases`` runs with real ``cuda:0`` tensors near and CPU tensors far, and,
where there are two GPUs, with ``cuda:1`` far.  Whether it raises must be what the rules said for
labels of those names; where CUDA takes the call apart as the CPU does, the words must be the same.

torch words the comparison in the wrappers in two ways; both are accepted.
"""

from __future__ import annotations

import re
from functools import partial

import pytest
import torch

from tests.virtual.rules_bench import at, judged
from tests.virtual.rules_cases import CASES

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

_YOUNG = re.compile(
    r"but got (?P<argument>\S+) is on (?P<odd>\S+), "
    r"different from other tensors on (?P<common>\S+) "
    r"\(when checking argument in method (?P<method>\w+)\)"
)


def wordings(message: str) -> set[str]:
    """The message, and the form in which releases up to 2.7 print it."""
    found = _YOUNG.search(message)
    if found is None:
        return {message}
    older = (
        "Expected all tensors to be on the same device, but found at least two devices, "
        f"{found['common']} and {found['odd']}! (when checking argument for argument "
        f"{found['argument']} in method {found['method']})"
    )
    return {message, older}


def real_message(case, far: str) -> str | None:
    """What PyTorch says; None when it runs."""
    try:
        with torch.no_grad():
            case.run(lambda tensor: tensor.to("cuda:0"), lambda tensor: tensor.to(far))
            torch.cuda.synchronize()
    except RuntimeError as error:
        return str(error).partition("\n")[0]
    return None


@pytest.mark.parametrize("far", ["cpu", "cuda:1"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_real_op_does_what_the_rules_say(case, far):
    if far == "cuda:1" and torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    label = None if far == "cpu" else far
    mode = judged(partial(case.run, partial(at, "cuda:0"), partial(at, label)))
    foretold = mode.mismatches[0].message if mode.mismatches else None
    real = real_message(case, far)
    assert (real is None) == (foretold is None), f"PyTorch: {real}\nrules: {foretold}"
    if real is not None and case.same_words:
        assert real in wordings(foretold)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_repair_that_the_verdict_names_runs(case):
    """With everything near, the case runs: it fails for no reason but its devices."""
    with torch.no_grad():
        case.run(lambda tensor: tensor.to("cuda:0"), lambda tensor: tensor.to("cuda:0"))


def test_the_results_lie_where_the_verdict_says():
    near, far = torch.ones(2, 3, device="cuda:0"), torch.ones(2, 3)
    for run in (
        lambda n, f: n.clone().copy_(f),
        lambda n, f: f.clone().copy_(n),
        lambda n, f: torch.where(n > 0, n, f.sum()),
        lambda n, f: f.sum() * n,
        lambda n, f: n[f[:, 0].long()],
        lambda n, f: torch.zeros_like(f),
        lambda n, f: n.new_zeros(3),
    ):
        labelled = judged(lambda run=run: run(at("cuda:0", near.cpu()), at(None, far)))
        foretold = labelled.verdicts[-1][1].device or torch.device("cpu")
        with torch.no_grad():
            assert run(near, far).device == foretold
