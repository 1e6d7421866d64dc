"""What a check runs a model on: the inputs, the virtual GPUs, and why it cannot be run at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from devplan.checker.matrix import FEW_TOKENS
from devplan.checker.run_options import RunOptions
from devplan.core import OFFLOAD_DEVICES, Workload
from devplan.inputs import (
    ExampleInputs,
    InputRequest,
    example_inputs,
    refuse_images_not_taken,
    request_for,
    user_inputs,
)
from devplan.rules import CheckContext
from devplan.virtual import DECODE_STEPS, VirtualCard


def text_tokens(workload: Workload) -> int:
    """Tokens of the prompt: the context less what is generated."""
    return max(workload.context_tokens - DECODE_STEPS - 1, FEW_TOKENS)


def request_of(context: CheckContext, options: RunOptions) -> InputRequest:
    """What the inputs of the call at the workload contain."""
    if options.request is not None:
        return options.request
    workload = context.workload
    images = workload.images if options.images is None else options.images
    workload = replace(
        workload,
        images=images,
        image_size=options.image_size or workload.image_size,
        frames=options.frames or workload.frames,
        tiling=options.tiling or workload.tiling,
    )
    is_pipeline = bool(context.skeleton.components)
    tokens = workload.context_tokens if is_pipeline else text_tokens(workload)
    return request_for(workload, tokens)


def cannot_run(context: CheckContext) -> str:
    """Why a map cannot be applied at all; empty where it can."""
    if not context.skeleton.executable:
        return "the model's own code is not here"
    tensors = context.structure.tensors.values()
    # [saved] what is no part of the state dict accelerate does not ask for.
    refused = [t.name for t in tensors if t.persistent and context.device_of(t.name) is None]
    if refused and not context.is_unhooked:
        return (
            f"accelerate refuses the map, as {len(refused)} tensors are in no entry, {refused[0]} "
            "among them"
        )
    unread = [entry.key for entry in context.map.entries if entry.device is None]
    if unread:
        return f"the device of {unread[0]!r} cannot be read"
    strange = [d for d in context.devices if not d.startswith("cuda:") and d not in OFFLOAD_DEVICES]
    if strange:
        return f"only CUDA devices, cpu and disk are run virtually, and the map names {strange[0]}"
    return ""


def inputs_for(
    context: CheckContext, options: RunOptions, request: InputRequest | None = None
) -> ExampleInputs:
    """The inputs of a call: the user's, or made as `request` says (None: for the workload).

    Raises
    ------
    NoExampleInputs
        When an argument that the model requires cannot be made.
    """
    skeleton, source = context.skeleton, context.source
    if options.inputs is not None:
        return user_inputs(options.inputs, skeleton.model, skeleton.config)
    request = request or request_of(context, options)
    is_folder = source.origin == "folder" and source.location
    folder = Path(source.location) if is_folder else None
    example = example_inputs(skeleton.model, skeleton.config, request, folder=folder)
    refuse_images_not_taken(example, request)
    return example


def described(inputs: ExampleInputs) -> str:
    """The inputs in words, for the record of a run."""
    shapes = [
        f"{name} {list(value.shape)}"
        for name, value in inputs.kwargs.items()
        if hasattr(value, "shape") and name in ("input_ids", "pixel_values", "input_features")
    ]
    content = " and ".join(inputs.modalities) or "values of the user's function"
    return f"{content} ({', '.join(shapes)})" if shapes else content


def virtual_cards(context: CheckContext) -> tuple[VirtualCard, ...]:
    """The virtual machine by CUDA index: as the machine says, with a default for cards unknown."""
    named = {card.device: card for card in context.machine.cards} if context.machine else {}
    used = (*context.devices, context.main_device, *named)
    indices = [int(device.partition(":")[2]) for device in used if device.startswith("cuda:")]
    return tuple(
        VirtualCard(name=named[device].name, total_bytes=named[device].capacity_bytes)
        if (device := f"cuda:{index}") in named
        else VirtualCard()
        for index in range(max(indices, default=0) + 1)
    )
