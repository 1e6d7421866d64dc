"""Whether a device map will run: structure, then a virtual run of the split model, then the rules.

    model + map -> subject -> example inputs -> split run -> findings

The run is skipped, and the result says why, where the map could not even be applied: a tensor that
no entry governs, a device that does not exist.  What needs no run is found all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devplan.blocks import partition
from devplan.calls import accepts, flag, of_class, optional
from devplan.checks.prepare import Prepared, against, prepare
from devplan.checks.run import result_of
from devplan.checks.run_options import RUNS, RunOptions
from devplan.errors import InputError
from devplan.findings import CheckResult, RunRecord
from devplan.inputs import (
    ExampleInputs,
    InputRequest,
    NoExampleInputs,
    example_inputs,
    user_function,
    user_inputs,
)
from devplan.inputs.for_workload import refuse_images_not_taken, request_for
from devplan.inputs.running import MOST_OPS, run_as_asked, run_as_usual, run_few_tokens
from devplan.machine import MachineLike, as_machine
from devplan.mapfile.hf import device_name
from devplan.sandbox import exclusively, in_time
from devplan.surroundings import Environment
from devplan.types import OFFLOAD_DEVICES, Workload
from devplan.virtual.calls import (
    DECODE_STEPS,
    ForwardCall,
    GenerateCall,
    ModelCall,
    PipelineCall,
    UserCall,
    can_generate,
    usual_call,
)
from devplan.virtual.cuda import VirtualCard
from devplan.virtual.limited import TooManyOps
from devplan.virtual.split import SplitModel
from devplan.workload import WorkloadRequest, as_workload

if TYPE_CHECKING:
    from torch import nn

FEW_TOKENS = 64
"""Text tokens of the run where the model's code loops over tokens: enough to see every device."""


@accepts(
    machine=optional(as_machine),
    main_device=optional(device_name),
    workload=as_workload,
    packed=flag,
    options=optional(of_class("devplan.RunOptions(...)", RunOptions)),
    trust_remote_code=flag,
    environment=optional(of_class("what devplan.environment.read_environment() gave", Environment)),
)
@in_time
@exclusively
def check(
    model: str | nn.Module | Any,
    device_map: Any,
    *,
    machine: MachineLike | None = None,
    main_device: str | int | None = None,
    workload: Workload | WorkloadRequest | None = None,
    packed: bool = False,
    options: RunOptions | None = None,
    trust_remote_code: bool = False,
    environment: Environment | None = None,
) -> CheckResult:
    """Find out whether a model runs with a device map, on GPUs that need not be here.

    It may be called from several threads; runs take place one after the other.  While one lasts,
    other threads find warnings and logging below ``ERROR`` silent, and torch may compute with one
    thread; what they ask ``torch.cuda`` is answered by the real driver.  A run cannot be started
    from inside a run.

    Parameters
    ----------
    model
        MODEL as on the command line, a transformers configuration, or a loaded model; a loaded
        model is not touched.
    device_map
        A map file, a mapping as ``from_pretrained`` takes it, a loaded model's ``hf_device_map``,
        or the name of a strategy of accelerate's (``auto``; needs `machine`).
    machine, main_device, workload
        None: as the map says; a bare map says nothing.
    packed
        Whether quantized weights count as they are stored; a map that was made so says so itself.
    options
        How the model is run.
    trust_remote_code
        Whether code that comes with the model may run.
    environment
        This machine (`devplan.environment.read_environment`): what it has otherwise than the map is
        found too.  None: no machine needs to be here.

    Returns
    -------
    CheckResult
        ``result.is_clean()`` says whether there is nothing to repair.

    Raises
    ------
    InputError
        When the model cannot be built, the map cannot be read or belongs to another model, or the
        time of `options` is up (``devplan.sandbox.OutOfTime``).
    UserCodeError
        When the user's inputs function raises.

    Examples
    --------
    In a test suite::

        assert devplan.check("Qwen/Qwen2.5-VL-7B-Instruct", "maps/qwen.yaml").is_clean()
    """
    options = options or RunOptions()
    prepared = prepare(
        model,
        device_map,
        machine=machine,
        main_device=main_device,
        workload=workload,
        packed=packed,
        trust_remote_code=trust_remote_code,
    )
    if environment is not None:
        prepared = against(prepared, environment)
    record, reason = run_prepared(prepared, options)
    runs = (record,) if record is not None else ()
    return result_of(replace(prepared.subject, runs=runs, not_run=reason))


@exclusively
def run_prepared(
    prepared: Prepared, options: RunOptions, around: Callable[[ModelCall], ModelCall] | None = None
) -> tuple[RunRecord | None, str]:
    """The record of the run, or why there is none; `around` gives another call for the call."""
    reason = _cannot_run(prepared)
    if reason:
        return None, reason
    skeleton = prepared.built.skeleton
    call = _call(skeleton.model, options)
    call = call if around is None else around(call)
    try:
        inputs = _inputs(prepared, options)
    except NoExampleInputs as error:
        return None, f"{error}; give the inputs with --inputs FILE.py:FUNCTION"
    split = SplitModel(
        model=skeleton.model,
        config=skeleton.config,
        sites=partition(skeleton.model, skeleton.no_split),
        device_map=prepared.subject.device_map,
        main_device=prepared.subject.main_device,
        cards=_cards(prepared),
    )

    def execute(run: Callable[..., RunRecord], inputs: ExampleInputs, tokens: int) -> RunRecord:
        record = run(
            split,
            inputs,
            described=_described(inputs),
            call=call,
            # [user] what a function of the user's calls has no phases that tell calls apart.
            fold=not (options.full or isinstance(call, UserCall)),
        )
        prompt_tokens = tokens if options.inputs is None else None
        notes = (*inputs.notes, *filter(None, [record.entered]), *record.notes)
        return replace(record, notes=notes, prompt_tokens=prompt_tokens)

    try:
        request = _request(prepared, options)
        run, few = (
            (run_as_usual, run_few_tokens)
            if options.run == RUNS[0]
            else (run_as_asked, run_as_asked)
        )
        if isinstance(call, PipelineCall):
            return execute(run, inputs, request.tokens), ""
        if request.tokens <= FEW_TOKENS:
            return execute(few, inputs, request.tokens), ""
        try:
            return execute(partial(run, limit_ops=MOST_OPS), inputs, request.tokens), ""
        except TooManyOps as reason:
            request = replace(request, tokens=FEW_TOKENS)
            shorter = _inputs(prepared, replace(options, request=request))
            record = execute(few, shorter, request.tokens)
            note = f"{reason}, so the run had {FEW_TOKENS} tokens and its peak is that of these"
            notes = (*record.notes, note)
            return replace(record, notes=notes, cut_to_tokens=FEW_TOKENS), ""
    except TooManyOps as error:
        return None, f"the model's code did not end: {error}"


def text_tokens(workload: Workload) -> int:
    """Tokens of the prompt: the context less what is generated."""
    return max(workload.context_tokens - DECODE_STEPS - 1, FEW_TOKENS)


def _request(prepared: Prepared, options: RunOptions) -> InputRequest:
    if options.request is not None:
        return options.request
    workload = prepared.subject.workload
    images = workload.images if options.images is None else options.images
    size = options.image_size or workload.image_size
    workload = replace(
        workload,
        images=images,
        image_size=size,
        frames=options.frames or workload.frames,
        tiling=options.tiling or workload.tiling,
    )
    is_pipeline = bool(prepared.built.skeleton.components)
    tokens = workload.context_tokens if is_pipeline else text_tokens(workload)
    return request_for(workload, tokens)


def _cannot_run(prepared: Prepared) -> str:
    """Why a map cannot be applied at all; empty where it can."""
    subject = prepared.subject
    if not prepared.built.skeleton.executable:
        return "the model's own code is not here"
    uncovered = [name for name in subject.structure.tensors if subject.device_of(name) is None]
    if uncovered:
        return f"{len(uncovered)} tensors are in no entry of the map, {uncovered[0]} among them"
    unread = [entry.key for entry in subject.given.entries if entry.device is None]
    if unread:
        return f"the device of {unread[0]!r} cannot be read"
    strange = [d for d in subject.devices if not d.startswith("cuda:") and d not in OFFLOAD_DEVICES]
    if strange:
        return f"only CUDA devices, cpu and disk are run virtually, and the map names {strange[0]}"
    return ""


def _call(model: nn.Module, options: RunOptions) -> ModelCall:
    if ":" in options.run:
        return UserCall(function=user_function(options.run)[0])
    if not can_generate(model) and (options.run == "generate" or options.generation):
        raise InputError(f"{type(model).__name__} cannot generate; use --run forward")
    usual = usual_call(model, options.generation)
    is_asked = options.run == "forward" and isinstance(usual, GenerateCall)
    return ForwardCall() if is_asked else usual


def _inputs(prepared: Prepared, options: RunOptions) -> ExampleInputs:
    skeleton = prepared.built.skeleton
    if options.inputs is not None:
        return user_inputs(options.inputs, skeleton.model, skeleton.config)
    request, folder = _request(prepared, options), _folder(prepared.built.source)
    example = example_inputs(skeleton.model, skeleton.config, request, folder=folder)
    refuse_images_not_taken(example, request)
    return example


def _folder(source: Any) -> Path | None:
    """The model's folder, where its processor may be."""
    return Path(source.location) if source.origin == "folder" and source.location else None


def _described(inputs: ExampleInputs) -> str:
    shapes = [
        f"{name} {list(value.shape)}"
        for name, value in inputs.kwargs.items()
        if hasattr(value, "shape") and name in ("input_ids", "pixel_values", "input_features")
    ]
    content = " and ".join(inputs.modalities) or "values of the user's function"
    return f"{content} ({', '.join(shapes)})" if shapes else content


def _cards(prepared: Prepared) -> tuple[VirtualCard, ...]:
    """The virtual machine by CUDA index: as the machine says, with a default for cards unknown."""
    subject = prepared.subject
    named = {card.device: card for card in subject.machine.cards} if subject.machine else {}
    used = (*subject.devices, subject.main_device, *named)
    indices = [int(device.partition(":")[2]) for device in used if device.startswith("cuda:")]
    return tuple(
        VirtualCard(name=named[device].name, total_bytes=named[device].capacity_bytes)
        if (device := f"cuda:{index}") in named
        else VirtualCard()
        for index in range(max(indices, default=0) + 1)
    )
