"""A function of the user's, run by ``--run FILE.py:FUNCTION``: it may train the model."""

from __future__ import annotations

import pytest

import devplan
from devplan import RunOptions
from tests.small_models import small_llama

STEPS = """
import torch


def train(model, inputs):
    model.gradient_checkpointing_enable()
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    for _ in range(2):
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = model(**inputs, labels=inputs["input_ids"]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def every_parameter_has_a_gradient_where_it_is(model, inputs):
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.grad.device != parameter.device or parameter.grad.shape != parameter.shape:
            raise ValueError(name)


def no_gradients(model, inputs):
    with torch.no_grad():
        if model(**inputs).logits.requires_grad:
            raise ValueError("gradients")


def adds_norms(model, inputs):
    loss = model(**inputs, labels=inputs["input_ids"]).loss
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    return sum(gradient.norm() for gradient in gradients)


def labels_elsewhere(model, inputs):
    logits = model(**inputs).logits.flatten(0, 1)
    labels = inputs["input_ids"].flatten().to("cuda:1")
    torch.nn.functional.cross_entropy(logits, labels).backward()


def optimizer_state_elsewhere(model, inputs):
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    state = [torch.zeros_like(parameter, device="cuda:0") for parameter in model.parameters()]
    torch._foreach_add_(state, [parameter.grad for parameter in model.parameters()])
"""
CLEAN = ["train", "every_parameter_has_a_gradient_where_it_is", "no_gradients"]
MAP = {
    "model.embed_tokens": 0,
    "model.rotary_emb": 0,
    "model.layers.0": 0,
    "model.layers.1": 1,
    "model.norm": 1,
    "lm_head": 0,
}


@pytest.fixture
def checked(tmp_path):
    sizes = {"hidden_size": 32, "intermediate_size": 32, "vocab_size": 64, "num_key_value_heads": 2}
    model = small_llama(tmp_path, num_hidden_layers=2, num_attention_heads=2, **sizes)
    (tmp_path / "steps.py").write_text(STEPS)

    def check(function: str) -> devplan.CheckResult:
        options = RunOptions(run=f"{tmp_path / 'steps.py'}:{function}")
        return devplan.check(model, MAP, machine="8GiB,8GiB", options=options)

    return check


@pytest.mark.parametrize("function", CLEAN)
def test_a_training_step_of_a_correct_map_is_clean(checked, function):
    result = checked(function)
    assert result.is_strictly_clean, result.findings
    assert result.runs[0].error is None


@pytest.mark.parametrize(
    ("function", "line"),
    [
        ("adds_norms", "return sum(gradient.norm()"),
        ("labels_elsewhere", "cross_entropy(logits, labels)"),
        ("optimizer_state_elsewhere", "_foreach_add_(state"),
    ],
)
def test_mixed_devices_in_a_training_step_are_found_at_their_line(checked, function, line):
    first = checked(function).errors[0]
    assert first.code == "DP301"
    assert line in first.source.text


def test_the_copies_of_gradients_are_counted(checked):
    """Forward crosses into the second layer and into the head; their gradients cross back."""
    forward = checked("no_gradients").runs[0]
    both = checked("every_parameter_has_a_gradient_where_it_is").runs[0]
    crossed = {(each.source_device, each.target_device) for each in both.transfers}
    assert {("cuda:0", "cuda:1"), ("cuda:1", "cuda:0")} <= crossed
    assert len(both.transfers) > len(forward.transfers)


def test_a_mistake_of_devplans_own_is_not_blamed_on_the_model(checked, monkeypatch):
    monkeypatch.delattr("devplan.virtual.dispatch_mode.with_gradients")
    with pytest.raises(NameError, match="with_gradients"):
        checked("no_gradients")
