"""On a real card, with the CPU and the disk beside it: as the model whole on that card."""

from __future__ import annotations

import pytest
import torch

import devplan
from devplan.virtual.hooks import hook_device
from tests.loader import checkpoints
from tests.loader.checkpoints import assert_same, outputs

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

TIERS = {
    "cpu": {"cuda:1": "cpu", "cuda:2": "cpu"},
    "disk": {"cuda:1": "disk", "cuda:2": "disk"},
    "cpu and disk": {"cuda:1": "cpu", "cuda:2": "disk"},
}


@pytest.mark.parametrize("tiers", TIERS.values(), ids=TIERS)
@pytest.mark.parametrize("name", checkpoints.MODELS)
def test_it_answers_as_the_whole_model(checkpoint_of, name, tiers):
    checkpoint = checkpoint_of(name)
    path = checkpoints.with_offload(checkpoint, tiers)
    model = devplan.load(checkpoint.folder, path)
    assert hook_device(model) == "cuda:0"
    inputs = devplan.to_main(model, checkpoint.inputs)
    whole = checkpoint.whole(device_map={"": 0})
    assert_same(outputs(model, inputs), outputs(whole, inputs))


def test_the_cards_memory_stands_beside_the_prediction(tied):
    torch.cuda.empty_cache()
    path = checkpoints.with_offload(tied, TIERS["cpu"])
    model = devplan.load(tied.folder, path)
    uses = {use.device: use for use in devplan.audit(model, path).uses}
    use = uses["cuda:0"]
    assert use.placed_bytes == use.predicted_bytes
    assert use.allocated_bytes >= use.placed_bytes


def test_apply_on_a_card(tied):
    path = checkpoints.with_offload(tied, TIERS["cpu and disk"])
    model = devplan.apply(tied.whole(), path)
    inputs = devplan.to_main(model, tied.inputs)
    assert_same(outputs(model, inputs), outputs(tied.whole(device_map={"": 0}), inputs))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_a_main_device_that_is_not_the_lowest(tied):
    """accelerate would take cuda:0."""
    path = checkpoints.suggest(tied.folder, "--main", "cuda:1", name="main", gpus="1GiB,1GiB")
    model = devplan.load(tied.folder, path)
    assert hook_device(model) == "cuda:1"
    assert devplan.to_main(model, tied.inputs)["input_ids"].device == torch.device("cuda:1")
