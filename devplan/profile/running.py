"""Virtual runs of a model's main path, and what they say about order, cache and activations."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections import Counter
from collections.abc import Iterator

from devplan.blocks import BlockSite
from devplan.profile.cache import block_growths
from devplan.profile.model import RunProfile
from devplan.skeleton.model import Skeleton
from devplan.types import Workload
from devplan.virtual.folding import Outcome, extrapolate
from devplan.virtual.inputs import main_inputs
from devplan.virtual.tracing import Trace, run_traced

SMALL_TOKENS, MEDIUM_TOKENS = 24, 120
"""Tokens of the two runs that give constant and slope.  More than the widest convolution of a
state-space layer (4 in Mamba), fewer than any attention window in use (128 in gpt-oss); the second
is more than one chunk of the gated delta rule (64 tokens in Qwen3-Next), so that its loop over
chunks shows as a growing number of ops."""

MOST_TOKENS = 2**20
"""No context longer than this is looked at for windows."""

MOST_OPS = 20_000
"""Ops that the large run may take, a second or two: code that loops over tokens would take
minutes at 128k (the gated delta rule of Qwen3-Next: 456,000 ops at 131,072 tokens, 26 s)."""


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
        The model on the meta device.
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
    runner = _Runner(skeleton, sites, fold)
    try:
        small, medium = runner.run(SMALL_TOKENS), runner.run(MEDIUM_TOKENS)
    except Exception as error:  # the model's own code, on inputs that we made: anything can happen
        return _nothing(
            f"the virtual run failed ({type(error).__name__}: {' '.join(str(error).split())[:200]}"
            "); execution order is that of the module tree and the KV cache is not counted"
        )
    large_tokens = max(workload.context_tokens, skeleton.max_tokens or 0)
    large, notes = runner.run_large(small, medium, min(large_tokens, MOST_TOKENS))
    layers = {site.name for site in sites if site.stack is not None}
    carried, shared = _input_bytes(small, medium, layers)
    return RunProfile(
        order=tuple(medium.order),
        cache=block_growths(
            (SMALL_TOKENS, small),
            (MEDIUM_TOKENS, medium),
            large,
            kv_element_bytes=kv_element_bytes,
        ),
        input_bytes_per_token=carried,
        shared_bytes_per_token=shared,
        made_up=tuple(sorted(small.made_up | medium.made_up)),
        notes=notes,
    )


def _nothing(note: str) -> RunProfile:
    return RunProfile(cache={}, input_bytes_per_token={}, shared_bytes_per_token={}, notes=(note,))


class _Runner:
    """Runs one skeleton at several numbers of tokens."""

    def __init__(self, skeleton: Skeleton, sites: tuple[BlockSite, ...], fold: bool) -> None:
        self.skeleton = skeleton
        self.sites = sites
        self.fold = fold

    def run(self, tokens: int, preset: dict[str, Outcome] | None = None) -> Trace:
        skeleton = self.skeleton
        inputs = main_inputs(skeleton.model, skeleton.config, batch=1, tokens=tokens)
        with _quiet():
            return run_traced(
                skeleton.model,
                self.sites,
                inputs,
                config=skeleton.config,
                fold=self.fold,
                preset=preset,
            )

    def run_large(
        self, small: Trace, medium: Trace, tokens: int
    ) -> tuple[tuple[int, Trace] | None, tuple[str, ...]]:
        """The run that shows windows, at as many tokens as can be afforded."""
        if tokens <= MEDIUM_TOKENS:
            return None, ()
        preset = _constant_blocks(small, medium, tokens)
        affordable, notes = _affordable_tokens(small, medium, preset, tokens)
        if affordable < tokens:
            preset = _constant_blocks(small, medium, affordable)
        try:
            return (affordable, self.run(affordable, preset)), notes
        except Exception as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            return None, (
                f"the virtual run at {affordable:,} tokens failed ({reason}); sliding windows "
                f"above {MEDIUM_TOKENS} tokens are not seen and count as full attention",
            )


def _constant_blocks(small: Trace, medium: Trace, tokens: int) -> dict[str, Outcome]:
    """Blocks that loop over tokens but keep no growing cache, with their results at `tokens`."""
    growths = block_growths(
        (SMALL_TOKENS, small), (MEDIUM_TOKENS, medium), None, kv_element_bytes=None
    )
    steps = (tokens - SMALL_TOKENS) / (MEDIUM_TOKENS - SMALL_TOKENS)
    found = {}
    for name, ops in medium.num_block_ops.items():
        loops = ops > small.num_block_ops.get(name, 0)
        grows = any(part.bytes_per_token for part in growths.get(name, ()))
        if not loops or grows or name not in small.outcomes or name not in medium.outcomes:
            continue
        outcome = extrapolate(small.outcomes[name], medium.outcomes[name], steps)
        if outcome is not None:
            found.update(dict.fromkeys((name, *medium.stands_for.get(name, ())), outcome))
    return found


def _affordable_tokens(
    small: Trace, medium: Trace, preset: dict[str, Outcome], tokens: int
) -> tuple[int, tuple[str, ...]]:
    """At most `tokens`, and fewer where ops grow with them: the code loops over tokens."""

    def num_ops(trace: Trace) -> int:
        given = sum(ops for name, ops in trace.num_block_ops.items() if name in preset)
        return trace.num_ops - given

    more = num_ops(medium) - num_ops(small)
    per_token = more / (MEDIUM_TOKENS - SMALL_TOKENS)
    if num_ops(medium) + per_token * tokens <= MOST_OPS:
        return tokens, ()
    affordable = max(MEDIUM_TOKENS + 1, int((MOST_OPS - num_ops(medium)) / per_token))
    return affordable, (
        f"the model's code loops over tokens: sliding windows above {affordable:,} tokens are "
        "not seen and count as full attention",
    )


def _input_bytes(
    small: Trace, medium: Trace, layers: set[str]
) -> tuple[dict[str, int], dict[str, int]]:
    """Per token and block: bytes that are carried into it, and bytes that are shared.

    Hidden states leave one block and enter one layer; position embeddings, masks and the
    encoder's output enter many layers.
    """
    entered = Counter(id(item.tensor) for name in layers for item in medium.inputs.get(name, ()))
    carried: dict[str, int] = {}
    shared: dict[str, int] = {}
    for name in medium.order:
        carried[name] = shared[name] = 0
        pairs = zip(small.inputs.get(name, ()), medium.inputs[name], strict=False)
        for before, after in pairs:
            per_token = max(after.bytes - before.bytes, 0) // (MEDIUM_TOKENS - SMALL_TOKENS)
            alone = after.maker is not None and entered[id(after.tensor)] <= 1
            (carried if alone else shared)[name] += per_token
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
