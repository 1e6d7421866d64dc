"""One type: a small checkpoint, two maps of it, what the check says of each and what it does."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import devplan
from devplan.checker.from_model import source_of_config
from devplan.checker.preparation import Built, build, context_of
from devplan.checker.results import result_of
from devplan.checker.run_options import RunOptions
from devplan.checker.running import planned_calls, run_all, run_prepared
from devplan.core.device_map import device_map_of
from devplan.core.findings import Finding
from devplan.core.names import find_entry
from devplan.core.types import CPU, DISK, DeviceMapFile, ModelIdentity, Plan
from devplan.core.workload import Workload
from devplan.inputs.example import example_inputs
from devplan.inputs.probe import describe
from devplan.inputs.request import InputRequest
from devplan.mapfile.of_plan import map_file_of
from devplan.models.build import build_skeleton
from devplan.models.native import require_native
from devplan.models.source import ModelSource
from devplan.planning.instance import PlanRequest
from devplan.planning.planner import plan
from devplan.rules.context import CheckContext
from devplan.virtual.calls import other_ways_in, usual_call
from tools.differential.real import RealCall, raise_out_of_memory, real_call, tried
from tools.differential.row import Failure, MapRow, Row, Stage, Way
from tools.differential.tiny import SIZES, TooLarge, tiny_model
from tools.sweep.maps import in_order, machine_for

STAND_INS = {"cuda:0": CPU, "cuda:1": DISK}
"""What is here of the two cards that maps are made for."""
SMALL_INPUTS = InputRequest(tokens=32, image_size=(112, 224), frames=2, audio_seconds=1.0)
OPTIONS = RunOptions(request=SMALL_INPUTS)
REQUEST = Workload(dtype="float32", context=128)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A checkpoint on this machine, and how its model is called."""

    model_class: Any
    folder: Path
    built: Built
    calls: tuple[RealCall, ...]
    brief: bool


def attempt(model_type: str, class_name: str, *, brief: bool = False) -> Row:
    """The row of one type; whatever raises is part of it.

    `brief`: one map, loaded one way, and one call, in a fourth of the time.
    """
    started = time.monotonic()
    row = Row(model_type=model_type, class_name=class_name, stage=Stage.BUILD)
    try:
        with tempfile.TemporaryDirectory(prefix="devplan-differential-") as folder:
            for reached in _stages(row, Path(folder), brief):
                row = reached
    except Exception as error:  # a model's own code can raise anything
        stage = Stage.MEMORY if isinstance(error, MemoryError) else row.stage
        row = replace(row, stage=stage, reason=describe(error)[:500])
    return replace(row, seconds=round(time.monotonic() - started, 1))


def _stages(row: Row, folder: Path, brief: bool) -> Iterator[Row]:
    """The row as it grows."""
    model_class = _class_named(row.class_name)
    size, model = smallest(row.model_type, model_class)
    row = replace(row, size=size, stage=Stage.SAVE)
    yield row
    model.save_pretrained(folder / "checkpoint")
    model = _loaded_whole(model_class, folder / "checkpoint")
    row = replace(row, stage=Stage.INPUTS)
    yield row
    built = build(str(folder / "checkpoint"), REQUEST, trust_remote_code=False)
    calls, refused = calls_of(model, built, brief)
    del model
    row = replace(row, calls=tuple(each.name for each in calls), refused=refused)
    yield row
    if not calls:
        return
    row = replace(row, stage=Stage.MAPS)
    yield row
    subject = Subject(model_class=model_class, folder=folder, built=built, calls=calls, brief=brief)
    rows = tuple(_map_row(subject, name, made) for name, made in _maps(subject))
    yield replace(row, stage=Stage.RAN, maps=rows)


def _loaded_whole(model_class: Any, checkpoint: Path) -> nn.Module:
    """The unsplit model as its checkpoint gives it, to which the split ones are held.

    Raises
    ------
    ValueError
        When the class does not find its own weights again.
    """
    model, found = model_class.from_pretrained(
        checkpoint, dtype=torch.float32, output_loading_info=True
    )
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"{len(missing)} weights that it saved are not found, {missing[0]} first")
    return model.eval()


def _class_named(name: str) -> Any:
    source = ModelSource(
        id=name, origin="folder", location=None, library="transformers", class_name=name
    )
    return require_native(source)


def smallest(model_type: str, model_class: Any) -> tuple[str, nn.Module]:
    """The smallest model of a type whose own code runs, and its size in words.

    Raises
    ------
    Exception
        What the largest raises, where none runs.
    """
    last: Exception | None = None
    for size in SIZES:
        try:
            model = tiny_model(model_type, model_class, size)
            _call_as_usual(model)
        except TooLarge as error:
            raise last or error from None
        except Exception as error:  # a class that does not take such a configuration
            last = error
        else:
            return str(size), model
    assert last is not None, "there are sizes"
    raise last


def _call_as_usual(model: nn.Module) -> None:
    source = source_of_config(copy.deepcopy(model.config))
    skeleton = build_skeleton(source, "float32")
    example = example_inputs(skeleton.model, skeleton.config, SMALL_INPUTS)
    call = usual_call(model)
    ways = (call, *other_ways_in(model, call))
    real_call(model, "", ((each, each.takes(model, example.kwargs)) for each in ways))


def calls_of(
    model: nn.Module, built: Built, brief: bool
) -> tuple[tuple[RealCall, ...], dict[str, str]]:
    """The calls that a check makes and the unsplit model takes, and why it does not take others."""
    whole = context_of(built, device_map_of({"": CPU}))
    made, refused = [], {}
    for name, forms in planned_calls(whole, OPTIONS, short=not brief):
        try:
            made.append(real_call(model, name, forms))
        except Exception as error:  # the model's own code
            refused[name] = describe(error)[:300]
    return tuple(made), refused


# --------------------------------------------------------------------------------------- maps


def _maps(subject: Subject) -> Iterator[tuple[str, DeviceMapFile | Mapping[str, str]]]:
    """The map that devplan plans for two cards, and one that is cut in the middle."""
    built = subject.built
    yield "in order", in_order(built)
    if subject.brief:
        return
    machine = machine_for(built)
    planned = plan(built.structure.graph, PlanRequest(machine=machine, workload=built.workload))
    assert isinstance(planned, Plan), "the cards hold twice the model"
    yield "planned", map_file_of(planned, machine, built.workload, _identity(built))


def _identity(built: Built) -> ModelIdentity:
    facts = {fact.first_name: fact for fact in built.structure.tensors.values()}.values()
    return ModelIdentity(
        id=built.source.id,
        revision=None,
        quantization=None,
        config_hash=built.source.config_hash,
        class_name=built.structure.class_name,
        dtype="float32",
        num_parameters=sum(fact.num_bytes // 4 for fact in facts if fact.is_parameter),
    )


def _map_row(subject: Subject, name: str, made: DeviceMapFile | Mapping[str, str]) -> MapRow:
    cards = made.device_map if isinstance(made, DeviceMapFile) else made
    device_map = {key: STAND_INS[device] for key, device in cards.items()}
    asked = context_of(subject.built, device_map_of(device_map))
    checked = _checked(asked, subject.brief)
    blocks = [device_map[find_entry(device_map, b)] for b in asked.structure.graph.names]
    first = subject.calls[:1]
    ways = {"from_pretrained": (partial(_from_pretrained, subject, device_map), subject.calls)}
    if subject.brief:
        pass
    elif isinstance(made, DeviceMapFile):
        ways["devplan.load"] = (partial(_load, subject, made), first)
    else:
        ways["devplan.apply"] = (partial(_apply, subject, device_map), first)
    return MapRow(
        name=name,
        num_blocks={device: blocks.count(device) for device in STAND_INS.values()},
        said=tuple(map(_said, result_of(checked).errors)),
        not_run=checked.not_run,
        ways={way: _way(subject, load, calls) for way, (load, calls) in ways.items()},
    )


def _checked(prepared: CheckContext, brief: bool) -> CheckContext:
    if not brief:
        return run_all(prepared, OPTIONS)
    record, not_run = run_prepared(prepared, OPTIONS)
    return replace(prepared, runs=(record,) if record else (), not_run=not_run)


def _said(diagnostic: Finding) -> Failure:
    what = f"{diagnostic.code} {diagnostic.message}"[:300]
    others = tuple(map(str, diagnostic.also_at))
    return Failure(what=what, place=str(diagnostic.source or ""), stack=others)


def _way(subject: Subject, load: Callable[[Path], Any], calls: tuple[RealCall, ...]) -> Way:
    """Load, and make the calls."""
    with tempfile.TemporaryDirectory(dir=subject.folder) as folder:
        try:
            model = load(Path(folder) / "offload").eval()
        except Exception as error:  # that is the question
            raise_out_of_memory(error)
            return Way(refused=describe(error)[:400])
        return tried(model, calls)


def _from_pretrained(subject: Subject, device_map: Mapping[str, str], folder: Path) -> Any:
    return subject.model_class.from_pretrained(
        subject.folder / "checkpoint",
        device_map=dict(device_map),
        offload_folder=folder,
        dtype=torch.float32,
    )


def _load(subject: Subject, made: DeviceMapFile, folder: Path) -> Any:
    checkpoint = subject.folder / "checkpoint"
    return devplan.load(checkpoint, made, devices=STAND_INS, offload_folder=folder)


def _apply(subject: Subject, device_map: Mapping[str, str], folder: Path) -> Any:
    model = subject.model_class.from_pretrained(subject.folder / "checkpoint", dtype=torch.float32)
    return devplan.apply(model, dict(device_map), offload_folder=folder)
