"""Failures on a real card; every machine without one skips them."""

from __future__ import annotations

import pytest
import torch

from devplan.diagnosis.failure_report import FailureKind
from devplan.diagnosis.from_exception import report_of
from devplan.diagnosis.messages import recognise
from devplan.diagnosis.watching import diagnose
from tests.diagnosis.models import Masks, prompt, tiny_llama

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def said(call) -> str:
    with pytest.raises(Exception) as caught:
        call()
    return recognise(str(caught.value)).message.id


def test_messages_of_a_card_are_recognised():
    card, host = torch.ones(2, 2, device="cuda:0"), torch.ones(2, 2)
    index = torch.tensor([0], device="cuda:0")
    assert said(lambda: card + host) == "two-devices"
    assert said(lambda: card @ host) in ("argument-elsewhere", "two-devices")
    assert said(lambda: host[index]) == "indices-elsewhere"
    assert said(lambda: card.masked_fill(host.bool(), 0.0)) == "mask-elsewhere"
    conv = torch.nn.Conv2d(1, 1, 1).cuda()
    assert said(lambda: conv(torch.ones(1, 1, 2, 2))) == "convolution-types"
    assert said(lambda: torch.ones(1, device=f"cuda:{torch.cuda.device_count()}")) == (
        "invalid-device-ordinal"
    )
    assert said(lambda: torch.empty(2**50, device="cuda:0")) == "cuda-out-of-memory"
    assert said(lambda: card.numpy()) == "no-numpy"


def test_an_embedding_on_the_cpu_is_told():
    from accelerate import dispatch_model

    places = {"embed": "cpu", "layers": 0}
    model = dispatch_model(Masks().eval(), places, main_device="cuda:0", force_hooks=True)
    model.embed._hf_hook.execution_device = "cpu"
    ids = prompt().clamp(max=7).cuda()
    with pytest.raises(RuntimeError) as caught, diagnose(model):
        model(ids)
    report = report_of(caught.value)
    assert report.kind is FailureKind.MISMATCH


def test_a_full_card_is_told_with_its_memory():
    model = tiny_llama().cuda()
    model.hf_device_map = {"": 0}

    def call(input_ids):
        model(input_ids=input_ids)
        return torch.empty(2**45, device="cuda:0")

    with pytest.raises(torch.OutOfMemoryError) as caught, diagnose(model):
        call(prompt().cuda())
    report = report_of(caught.value)
    card = next(card for card in report.cards if card.device == "cuda:0")
    assert card.allocated_bytes > 0 and card.total_bytes >= card.free_bytes
    assert report.requested_bytes == 2**47
    assert "GiB; 128.00 TiB asked for" in caught.value.__notes__[0]
