"""Whether a device map will run: structure, then virtual runs of the split model, then the rules.

    model + map -> context -> example inputs -> split runs -> findings

The run is skipped, and the result says why, where the map could not even be applied: a parameter
that no entry governs, a device that does not exist.  What needs no run is found all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from devplan.checker.preparation import against, prepare
from devplan.checker.results import result_of
from devplan.checker.run_options import CHECK_ARGUMENTS, RunOptions
from devplan.checker.running import run_all
from devplan.core import (
    CheckResult,
    Environment,
    Workload,
    accepts,
    of_class,
    optional,
)
from devplan.machine import MachineLike
from devplan.mapfile import MapLike, model_before_map
from devplan.sandbox import exclusively, in_time

if TYPE_CHECKING:
    from torch import nn


@accepts(
    model=model_before_map("devplan.check(MODEL, MAP)"),
    **CHECK_ARGUMENTS,
    environment=optional(of_class("what devplan.environment.read_environment() gave", Environment)),
)
@in_time
@exclusively
def check(
    model: str | nn.Module | Any,
    map: MapLike,
    *,
    machine: MachineLike | None = None,
    main_device: str | int | None = None,
    workload: Workload | None = None,
    packed: bool = False,
    quantize: str | None = None,
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
    map
        A map file, a mapping as ``from_pretrained`` takes it, a loaded model's ``hf_device_map``,
        or the name of a strategy of accelerate's (``auto``; needs `machine`).
    machine, main_device, workload
        None: as the map says; a bare map says nothing.
    packed
        Whether quantized weights count as they are stored; a map that was made so says so itself.
    quantize
        How transformers quantizes the weights while it loads them, as for `devplan.suggest`; None:
        as the map says.
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
        ``result.is_clean`` says whether there is nothing to repair.

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

        assert devplan.check("Qwen/Qwen2.5-VL-7B-Instruct", "maps/qwen.yaml").is_clean
    """
    options = options or RunOptions()
    context = prepare(
        model,
        map,
        machine=machine,
        main_device=main_device,
        workload=workload,
        packed=packed,
        quantize=quantize,
        trust_remote_code=trust_remote_code,
    )
    if environment is not None:
        context = against(context, environment)
    return result_of(run_all(context, options))
