"""Calls that make the installed PyTorch say its messages, on cpu and meta."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import nn

ONES, META = torch.ones(2, 2), torch.ones(2, 2, device="meta")
CUBE, META_CUBE = torch.ones(1, 1, 2), torch.ones(1, 1, 2, device="meta")


def _two_devices():
    torch.ops.aten.silu_backward(ONES, META)


def _not_the_expected_device():
    nn.LayerNorm(2, device="meta")(ONES)


def _index_copy():
    ONES.clone().index_copy_(0, torch.tensor([0], device="meta"), torch.ones(1, 2))


def _attention_operands():
    query = torch.ones(1, 1, 2, 2)
    F.scaled_dot_product_attention(query, query.to("meta"), query)


def _recurrent_operands():
    nn.LSTM(2, 2)(CUBE, (META_CUBE, CUBE))


def _storage_of_other_device():
    META.clone().set_(ONES)


def _incompatible_data():
    nn.Linear(2, 2).weight.data = META


def _lengths_on_cpu():
    lengths = torch.tensor([2], device="meta")
    nn.utils.rnn.pack_padded_sequence(torch.ones(2, 1, 2), lengths)


def _no_numpy():
    META.numpy()


def _expected_a_cuda_device():
    torch.cuda._utils._get_device_index("cpu")


def _meta_module_moved():
    nn.Linear(2, 2, device="meta").to("cpu")


def _meta_copied():
    META.to("cpu")


def _meta_item():
    META.sum().item()


def _cpu_out_of_memory():
    torch.empty(10**15)


def _invalid_device_string():
    torch.device("0")


def _unknown_device_type():
    torch.ones(1, device="disk")


def _stored_on_other_device():
    stored = io.BytesIO()
    torch.save(ONES, stored)
    stored.seek(0)
    torch.load(stored, map_location=f"cuda:{max(torch.cuda.device_count(), 3)}")


def _no_cuda_build():
    torch.ones(1, device="cuda:0")


RAISED: Mapping[str, Callable[[], object]] = {
    "two-devices": _two_devices,
    "not-the-expected-device": _not_the_expected_device,
    "index-copy": _index_copy,
    "attention-operands": _attention_operands,
    "recurrent-operands": _recurrent_operands,
    "storage-of-other-device": _storage_of_other_device,
    "incompatible-data": _incompatible_data,
    "lengths-on-cpu": _lengths_on_cpu,
    "no-numpy": _no_numpy,
    "expected-a-cuda-device": _expected_a_cuda_device,
    "meta-module-moved": _meta_module_moved,
    "meta-copied": _meta_copied,
    "meta-item": _meta_item,
    "cpu-out-of-memory": _cpu_out_of_memory,
    "invalid-device-string": _invalid_device_string,
    "unknown-device-type": _unknown_device_type,
    "stored-on-other-device": _stored_on_other_device,
}
ONLY_WITHOUT_CUDA: Mapping[str, Callable[[], object]] = {"no-cuda-build": _no_cuda_build}
