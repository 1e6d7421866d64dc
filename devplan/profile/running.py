"""What virtual runs of a model's main path say about order, cache and activations."""

from __future__ import annotations

from collections import Counter

from devplan.core import InputError, SharedInput, UserCodeError, Workload
from devplan.inputs import user_inputs
from devplan.models import BlockSite, Skeleton
from devplan.profile.model import RunProfile
from devplan.profile.runs import (
    MEDIUM_TOKENS,
    MOST_SMALL_OPS,
    SMALL_TOKENS,
    Runs,
    growths,
    large_run,
    one_line,
    small_runs,
)
from devplan.virtual import GenerateCall, Limits, entered_part, quiet, run_traced


def measure_run(
    skeleton: Skeleton,
    sites: tuple[BlockSite, ...],
    workload: Workload,
    *,
    kv_element_bytes: int | None = None,
    fold: bool = True,
) -> RunProfile:
    """Run the main path of a skeleton virtually and read off what it shows.

    A run that fails is no error: the profile then holds a note with the reason, no order and no
    cache, and the plan says what it does not know.

    Parameters
    ----------
    skeleton
        The model on the meta device; left as it was.
    sites
        Its blocks.
    workload
        Its context is the least that the window search looks at.
    kv_element_bytes
        Bytes of an element of a KV cache of another dtype than the model's.
    fold
        Whether identical layers are run once.
    """
    if not skeleton.executable:
        return _nothing("not run: the model's code is not here, so the KV cache is not counted")
    try:
        runs = small_runs(skeleton, sites, fold)
    except (InputError, UserCodeError):  # of the user's function, which is theirs to repair
        raise
    except Exception as error:  # the model's own code, on inputs that we made: anything can happen
        return _nothing(
            f"the virtual run failed ({one_line(error)}); execution order is that of the module "
            "tree and the KV cache is not counted"
        )
    large, notes = large_run(runs, workload)
    cache = growths(runs, large, kv_element_bytes)
    # [pipeline] nothing of it grows with the tokens alone: its runs say what is copied.
    carried, shared = _input_bytes(runs) if not skeleton.components else ({}, {})
    order = dict.fromkeys((*runs.medium.order, *_order_of_whole(runs)))
    return RunProfile(
        order=tuple(order),
        cache=cache,
        input_bytes_per_token=carried,
        shared_inputs=shared,
        made_up=tuple(sorted(runs.small.made_up | runs.medium.made_up)),
        notes=notes,
    )


def _order_of_whole(runs: Runs) -> tuple[str, ...]:
    """Blocks that ``generate`` of a model without a ``forward`` reaches with the user's inputs.

    What it raises is found again in the split run, and told there.
    """
    skeleton = runs.skeleton
    if skeleton.own_inputs is None or entered_part(skeleton.model) is None:
        return ()
    call, model = GenerateCall(), skeleton.model
    given = user_inputs(skeleton.own_inputs, model, skeleton.config).kwargs
    try:
        with quiet():
            trace = run_traced(
                model,
                runs.sites,
                call.takes(model, given),
                kinds=runs.kinds,
                limits=Limits(run_ops=MOST_SMALL_OPS),
                entry=lambda **inputs: call.run(model, inputs),
            )
    except Exception:  # the model's own code: anything can happen
        return ()
    return tuple(trace.order)


def _nothing(note: str) -> RunProfile:
    return RunProfile(cache={}, input_bytes_per_token={}, shared_inputs={}, notes=(note,))


# ------------------------------------------------------------------------------ activations


def _input_bytes(runs: Runs) -> tuple[dict[str, int], dict[str, tuple[SharedInput, ...]]]:
    """Per token and block: bytes that are carried into it, and what is shared with others.

    Hidden states leave one block and enter one layer; position embeddings, masks and the
    encoder's output enter many layers.
    """
    small, medium = runs.small, runs.medium
    entered = Counter(
        id(item.tensor) for name in runs.layers for item in medium.inputs.get(name, ())
    )
    carried: dict[str, int] = {}
    shared: dict[str, tuple[SharedInput, ...]] = {}
    for name in medium.order:
        carried[name], shared[name] = 0, ()
        pairs = zip(small.inputs.get(name, ()), medium.inputs[name], strict=False)
        for before, after in pairs:
            per_token = max(after.bytes - before.bytes, 0) // (MEDIUM_TOKENS - SMALL_TOKENS)
            alone = after.maker is not None and entered[id(after.tensor)] <= 1
            if alone:
                carried[name] += per_token
            elif per_token:
                item = SharedInput(maker=after.maker, bytes_per_token=per_token)
                shared[name] = (*shared[name], item)
    return carried, shared
