"""Calls that make the installed accelerate, transformers and diffusers say their messages.

What they only log or warn of is raised as a `Said` with their words.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from unittest import mock

import torch
from accelerate import (
    Accelerator,
    dispatch_model,
    init_empty_weights,
    load_checkpoint_and_dispatch,
)
from accelerate.utils import bnb, modeling, set_module_tensor_to_device
from accelerate.utils.offload import OffloadedWeightsLoader
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.integrations import accelerate as in_transformers

from tests.diagnosis.models import cpu_map, tiny_llama


class Said(Exception):
    """What a library logged or warned of."""


@contextlib.contextmanager
def said(library: str) -> Iterator[None]:
    """Raise all that a library logs and warns of inside as one `Said`."""
    heard: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())
    logger = logging.getLogger(library)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    raise Said("\n".join([*heard, *(str(each.message) for each in caught)]))


def _disk_map() -> dict[str, str]:
    return {**cpu_map(), "lm_head": "disk"}


def _dispatched(folder: str) -> nn.Module:
    return dispatch_model(tiny_llama(), _disk_map(), offload_dir=folder, main_device="cpu")


def _accelerate_needs_value(folder: str):
    model = nn.Linear(2, 2, device="meta")
    set_module_tensor_to_device(model, "weight", "cpu")


def _save_offloaded(folder: str):
    # [stand-in] no test fills the machine's memory: only the lack of it is made up.
    model = _dispatched(folder)
    with mock.patch.object(modeling, "align_module_device", side_effect=MemoryError):
        modeling.get_state_dict_offloaded_model(model)


def _no_device_set(folder: str):
    tiny_llama().save_pretrained(folder)
    with init_empty_weights():
        model = tiny_llama()
    partial = {"model.embed_tokens": "cpu", "lm_head": "cpu"}
    modeling.load_checkpoint_in_model(model, folder, device_map=partial)


def _parameters_without_device(folder: str):
    dispatch_model(tiny_llama(), {"lm_head": "cpu"})


def _map_lacks_module(folder: str):
    modeling.check_tied_parameters_on_same_device([["lm_head.weight"]], {"model": 0})


def _keys_match_no_submodule(folder: str):
    with said("accelerate"):
        modeling.check_device_map(tiny_llama(), {"": "cpu", "model.visual": "cpu"})


def _tied_on_different_devices(folder: str):
    tied = [["lm_head.weight", "model.embed_tokens.weight"]]
    with said("transformers"):
        in_transformers.check_tied_parameters_on_same_device(tied, {"lm_head": 1, "model": 0})


def _map_string_of_accelerate(folder: str):
    load_checkpoint_and_dispatch(tiny_llama(), folder, device_map="cuda:0")


def _map_string_of_transformers(folder: str):
    in_transformers.check_and_set_device_map("maps/qwen.yaml")


def _negative_map(folder: str):
    in_transformers.check_and_set_device_map(-1)


def _max_memory_device(folder: str):
    modeling.get_max_memory({"cuda:0": 2**30})


def _max_memory_size(folder: str):
    modeling.get_max_memory({0: "22 gigs"})


def _nothing_assigned(folder: str):
    with said("accelerate"):
        modeling.infer_auto_device_map(
            tiny_llama(),
            {0: 2000, "cpu": 10**9},
            no_split_module_classes=["LlamaDecoderLayer", "Embedding"],
            verbose=False,
        )


def _training_with_map(folder: str):
    model = tiny_llama()
    model.hf_device_map = {"model": 0, "lm_head": 1}
    accelerator = Accelerator(cpu=True)
    with mock.patch.object(Accelerator, "distributed_type", "MULTI_GPU"):
        accelerator.prepare_model(model)


def _zero3_with_map(folder: str):
    with mock.patch.object(in_transformers, "is_deepspeed_zero3_enabled", lambda: True):
        in_transformers.check_and_set_device_map("auto")


def _needs_offload_folder(folder: str):
    modeling.load_checkpoint_in_model(tiny_llama(), folder, device_map=_disk_map())


def _needs_offload_dir(folder: str):
    dispatch_model(tiny_llama(), _disk_map(), main_device="cpu")


def _disk_weights_need_folder(folder: str):
    in_transformers.offload_weight(torch.ones(2), "lm_head.weight", None, {})


def _moved_while_offloaded(folder: str):
    _dispatched(folder).to("cpu")


def _moved_while_dispatched(folder: str):
    model = dispatch_model(tiny_llama(), cpu_map(), force_hooks=True)
    with said("accelerate"):
        model.to("cpu")


def _nothing_to_load_from(folder: str):
    OffloadedWeightsLoader()


def _parameters_were_offloaded(folder: str):
    with said("accelerate"):
        _dispatched(folder)


def _offloaded_without_hook(folder: str):
    in_transformers.load_offloaded_parameter(tiny_llama(), "model.embed_tokens.weight")


def _from_pretrained_under_meta(folder: str):
    tiny_llama().save_pretrained(folder)
    with torch.device("meta"):
        AutoModelForCausalLM.from_pretrained(folder)


def _diffusers_generator(folder: str):
    from diffusers.utils.torch_utils import randn_tensor

    on_a_card = SimpleNamespace(device=torch.device("cuda:0"))
    randn_tensor((1, 2), generator=on_a_card, device=torch.device("cpu"))


def _diffusers_map_is_no_string(folder: str):
    from diffusers import DiffusionPipeline

    DiffusionPipeline.from_pretrained(folder, device_map={"": 0})


def _diffusers_strategy(folder: str):
    from diffusers import DiffusionPipeline

    DiffusionPipeline.from_pretrained(folder, device_map="auto")


def _diffusers_placed_pipeline(folder: str):
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    unet = UNet2DModel(
        sample_size=8,
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=4,
    )
    pipeline = DDPMPipeline(unet=unet, scheduler=DDPMScheduler())
    pipeline.hf_device_map = {"unet": 0, "scheduler": 1}
    pipeline.to("cpu")


def _quantized_on_cpu_or_disk(folder: str):
    from transformers.quantizers import quantizer_bnb_4bit as quantizer

    # [stand-in] bitsandbytes need not be installed to hear what its quantizer refuses.
    config = SimpleNamespace(llm_int8_enable_fp32_cpu_offload=False)
    checker = SimpleNamespace(quantization_config=config)
    with (
        mock.patch.object(quantizer, "is_bitsandbytes_available", lambda: True),
        mock.patch("transformers.integrations.validate_bnb_backend_availability", mock.Mock()),
    ):
        quantizer.Bnb4BitHfQuantizer.validate_environment(
            checker, device_map={"model": 0, "lm_head": "cpu"}
        )


def _quantized_with_offload_map(folder: str):
    from transformers.quantizers.quantizer_hqq import HqqHfQuantizer

    HqqHfQuantizer.validate_environment(SimpleNamespace(), device_map={"model": 0, "x": "disk"})


def _quantized_training_elsewhere(folder: str):
    model = tiny_llama()
    model.is_loaded_in_4bit, model.hf_device_map = True, {"": 1}
    accelerator = Accelerator(cpu=True)
    card = mock.patch.object(Accelerator, "device", torch.device("cuda:0"))
    with card, mock.patch.dict(os.environ, ACCELERATE_BYPASS_DEVICE_MAP="true"):
        accelerator.prepare_model(model)


def _quantization_needs_gpu(folder: str):
    with (
        mock.patch.object(torch.cuda, "is_available", lambda: False),
        mock.patch.object(torch.xpu, "is_available", lambda: False),
    ):
        bnb.get_quantized_model_device_map(tiny_llama(), SimpleNamespace())


RAISED: Mapping[str, Callable[[str], object]] = {
    "accelerate-needs-value": _accelerate_needs_value,
    "save-offloaded": _save_offloaded,
    "no-device-set": _no_device_set,
    "parameters-without-device": _parameters_without_device,
    "map-lacks-module": _map_lacks_module,
    "keys-match-no-submodule": _keys_match_no_submodule,
    "tied-on-different-devices": _tied_on_different_devices,
    "map-string-of-accelerate": _map_string_of_accelerate,
    "map-string-of-transformers": _map_string_of_transformers,
    "negative-map": _negative_map,
    "max-memory-device": _max_memory_device,
    "max-memory-size": _max_memory_size,
    "nothing-assigned": _nothing_assigned,
    "training-with-map": _training_with_map,
    "zero3-with-map": _zero3_with_map,
    "needs-offload-folder": _needs_offload_folder,
    "needs-offload-dir": _needs_offload_dir,
    "disk-weights-need-folder": _disk_weights_need_folder,
    "moved-while-offloaded": _moved_while_offloaded,
    "moved-while-dispatched": _moved_while_dispatched,
    "nothing-to-load-from": _nothing_to_load_from,
    "parameters-were-offloaded": _parameters_were_offloaded,
    "offloaded-without-hook": _offloaded_without_hook,
    "from-pretrained-under-meta": _from_pretrained_under_meta,
    "diffusers-generator": _diffusers_generator,
    "diffusers-map-is-no-string": _diffusers_map_is_no_string,
    "diffusers-strategy": _diffusers_strategy,
    "diffusers-placed-pipeline": _diffusers_placed_pipeline,
    "quantized-on-cpu-or-disk": _quantized_on_cpu_or_disk,
    "quantized-with-offload-map": _quantized_with_offload_map,
    "quantized-training-elsewhere": _quantized_training_elsewhere,
    "quantization-needs-gpu": _quantization_needs_gpu,
}
