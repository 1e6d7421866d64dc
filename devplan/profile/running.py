"""Virtual runs of a model's main path, and what they say about order, cache and activations.

Three runs: at two small numbers of tokens, which give constants and slopes, and at the largest
that matters, which shows windows.  Layers that are identical are run once (``virtual.folding``);
should the model's code not bear that, all of them are run.

At the large number some code loops over tokens or chunks of them and would take minutes (the
gated delta rule of Qwen3-Next: 456,000 ops at 131,072 tokens, 26 s).  Every block may therefore
take only a few times the ops of a small run.  One that passes its limit is given the result that
the two small runs foretell, if its cache does not grow, together with its like; else the large
run is made smaller, and a note says what is not seen.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from devplan.blocks import BlockSite
from devplan.profile.cache import block_growths
from devplan.profile.model import RunProfile
from devplan.skeleton.model import Skeleton
from devplan.types import CacheGrowth, SharedInput, Workload
from devplan.virtual.execution import TooManyOps
from devplan.virtual.folding import Outcome, extrapolate, layer_kinds
from devplan.virtual.inputs import Example, example_inputs
from devplan.virtual.tracing import Limits, Trace, run_traced

SMALL_TOKENS, MEDIUM_TOKENS = 24, 40
"""Tokens of the two runs that give constant and slope.  More than the widest convolution of a
state-space layer (4 in Mamba), fewer than any attention window in use (128 in gpt-oss).  Loops
over chunks of more tokens (64 in the gated delta rule) are stopped by the limits of the large
run."""

MOST_TOKENS = 2**20
"""No context longer than this is looked at for windows."""

MOST_OPS = 20_000
"""Ops of the large run together, a few seconds."""

LOOP_FACTOR, LOOP_OPS = 4, 200
"""A block that takes more than `LOOP_FACTOR` times the ops of the run at `MEDIUM_TOKENS` tokens,
and `LOOP_OPS` more, loops over tokens.  Code that takes another branch for long inputs (block
sparse attention of BigBird) stays below: at most 2.5 times, measured over the causal and
sequence-to-sequence classes of transformers 5.23."""


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
        runs = _small_runs(skeleton, sites, fold)
    except Exception as error:  # the model's own code, on inputs that we made: anything can happen
        return _nothing(
            f"the virtual run failed ({_one_line(error)}); execution order is that of the module "
            "tree and the KV cache is not counted"
        )
    large, notes = _large_run(runs, workload)
    cache = _growths(runs, large, kv_element_bytes)
    if not cache and "use_cache" in runs.example.makers:
        notes = (*notes, "asked to keep a cache, the model kept none: no KV cache is counted")
    carried, shared = _input_bytes(runs)
    return RunProfile(
        order=tuple(runs.medium.order),
        cache=cache,
        input_bytes_per_token=carried,
        shared_inputs=shared,
        made_up=tuple(sorted(runs.small.made_up | runs.medium.made_up)),
        notes=notes,
    )


def _nothing(note: str) -> RunProfile:
    return RunProfile(cache={}, input_bytes_per_token={}, shared_inputs={}, notes=(note,))


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


# ------------------------------------------------------------------------------- small runs


@dataclass(frozen=True, kw_only=True)
class _Runs:
    """A skeleton, how it is run, and its two small runs."""

    skeleton: Skeleton
    sites: tuple[BlockSite, ...]
    example: Example
    kinds: Mapping[str, Hashable]
    small: Trace = field(default_factory=Trace)
    medium: Trace = field(default_factory=Trace)

    @property
    def layers(self) -> set[str]:
        """Blocks that are part of a stack."""
        return {site.name for site in self.sites if site.stack is not None}

    def run(
        self, tokens: int, preset: Mapping[str, Outcome] | None = None, limits: Limits | None = None
    ) -> Trace:
        with _quiet():
            return run_traced(
                self.skeleton.model,
                self.sites,
                self.example.make(tokens),
                kinds=self.kinds,
                preset=preset or {},
                limits=limits or Limits(run_ops=MOST_SMALL_OPS),
            )


MOST_SMALL_OPS = 1_000_000
"""A small run that takes more (minutes) is taken for an endless loop: no class of transformers
5.23 takes a tenth of that at `MEDIUM_TOKENS` tokens with every layer run."""


def _small_runs(skeleton: Skeleton, sites: tuple[BlockSite, ...], fold: bool) -> _Runs:
    """The two small runs, with the first kind of inputs that the model accepts.

    Raises
    ------
    Exception
        What the model said to the first kind of inputs, when it accepts none.
    """
    first_error: Exception | None = None
    for example in example_inputs(skeleton.model, skeleton.config):
        kinds = layer_kinds(sites, skeleton.config) if fold else {}
        for chosen in (kinds, {}) if kinds else ({},):
            runs = _Runs(skeleton=skeleton, sites=sites, example=example, kinds=chosen)
            try:
                return replace(runs, small=runs.run(SMALL_TOKENS), medium=runs.run(MEDIUM_TOKENS))
            except Exception as error:
                first_error = first_error or error
    assert first_error is not None
    raise first_error


# -------------------------------------------------------------------------------- large run


def _large_run(runs: _Runs, workload: Workload) -> tuple[tuple[int, Trace] | None, tuple[str, ...]]:
    """(tokens, trace) of the run that shows windows, at as many tokens as can be had."""
    promised = runs.skeleton.max_tokens
    wanted = min(max(workload.context_tokens, promised or 0), MOST_TOKENS)
    needed = min(workload.context_tokens, promised or workload.context_tokens)
    reason = ""
    for tokens in _attempts(wanted, promised):
        try:
            trace = _run_without_loops(runs, tokens)
        except TooManyOps as error:
            reason = reason or str(error)
            continue
        except Exception as error:
            reason = reason or _one_line(error)
            continue
        seen = () if tokens >= needed else (_unseen(tokens, reason),)
        return (tokens, trace), seen
    return None, (_unseen(MEDIUM_TOKENS, reason),) if wanted > MEDIUM_TOKENS else ()


def _attempts(wanted: int, promised: int | None) -> list[int]:
    """Numbers of tokens to try, falling; beyond its promised context a model may well fail."""
    tries = {wanted, *((promised,) if promised else ()), *(8192, 2048, 512, 128)}
    return sorted((tokens for tokens in tries if MEDIUM_TOKENS < tokens <= wanted), reverse=True)


def _unseen(tokens: int, reason: str) -> str:
    return (
        f"no virtual run of more than {tokens:,} tokens ({reason}); attention windows above that "
        "are not seen and count as full attention"
    )


def _run_without_loops(runs: _Runs, tokens: int) -> Trace:
    """The run at `tokens`, blocks that loop over tokens given instead of run where that can be.

    Raises
    ------
    TooManyOps
        When a block loops whose cache grows, or the code between the blocks does.
    """
    growths = _growths(runs, None, None)
    preset: dict[str, Outcome] = {}
    limits = Limits(
        run_ops=max(MOST_OPS, LOOP_FACTOR * runs.medium.num_ops),
        block_ops={
            name: LOOP_FACTOR * ops + LOOP_OPS for name, ops in runs.medium.num_block_ops.items()
        },
    )
    while True:
        try:
            return runs.run(tokens, preset, limits)
        except TooManyOps as error:
            given = _foretold(runs, growths, error.block, tokens)
            if not given or error.block in preset:
                raise
            preset.update(given)


def _foretold(
    runs: _Runs, growths: Mapping[str, tuple[CacheGrowth, ...]], block: str | None, tokens: int
) -> dict[str, Outcome]:
    """Outcomes at `tokens` of a block and its like, from the two small runs; empty: unknown."""
    stack_of = {site.name: site.stack for site in runs.sites}
    steps = (tokens - SMALL_TOKENS) / (MEDIUM_TOKENS - SMALL_TOKENS)
    found: dict[str, Outcome] = {}
    if block is None or any(part.bytes_per_token for part in growths.get(block, ())):
        return found
    for name, after in runs.medium.outcomes.items():
        like = stack_of.get(name) == stack_of.get(block) and growths.get(name) == growths.get(block)
        before = runs.small.outcomes.get(name)
        if not (name == block or like) or before is None:
            continue
        outcome = extrapolate(before, after, steps)
        if outcome is not None:
            found.update(dict.fromkeys((name, *runs.medium.stands_for.get(name, ())), outcome))
    return found


def _growths(
    runs: _Runs, large: tuple[int, Trace] | None, kv_element_bytes: int | None
) -> dict[str, tuple[CacheGrowth, ...]]:
    return block_growths(
        (SMALL_TOKENS, runs.small),
        (MEDIUM_TOKENS, runs.medium),
        large,
        layers=runs.layers,
        kv_element_bytes=kv_element_bytes,
    )


# ------------------------------------------------------------------------------ activations


def _input_bytes(runs: _Runs) -> tuple[dict[str, int], dict[str, tuple[SharedInput, ...]]]:
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


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Models warn about kernels and caches; in a virtual run nobody can act on it."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
