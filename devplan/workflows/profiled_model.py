"""A model as it is known before anything is placed.

    source -> skeleton -> profile (weights, cache, activations)

`devplan suggest`, `fit`, `diff` and `compare` begin here.  Activations are learnt from virtual
runs on one card at the workload and below it (``devplan.profile.activations``); who asks about
longer contexts or larger batches has more of them run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial

from devplan.checker import USUAL, workload_calls
from devplan.core import (
    OBJECTIVE_NAMES,
    BlockGraph,
    InputError,
    Machine,
    ModelIdentity,
    NamedInFile,
    Reader,
    Workload,
    as_workload,
    dtype_name,
    flag,
    function,
    model_name,
    one_of,
    optional,
    read_pins,
    read_quantize,
    resolve_workload,
    text,
)
from devplan.machine import as_machine, least_of_all
from devplan.models import (
    ModelSource,
    Skeleton,
    build_skeleton,
    native_class,
    partition,
    remote_auto_class,
    resolve,
)
from devplan.profile import (
    QUANTIZED_BITS,
    ActivationProfile,
    Profile,
    build_graph,
    cache_notes,
    can_be_quantized,
    joined_activations,
    measure_activations,
    measure_work,
    profile_skeleton,
    quantize_word,
    quantized_profile,
    quantized_source,
    weights_on_cards,
)
from devplan.sandbox import exclusively, time_limit
from devplan.virtual import ModelCall, OneCard

Progress = Callable[[str], None]

MODEL_ARGUMENTS: Mapping[str, Reader] = {
    "model": model_name,
    "workload": as_workload,
    "packed": flag,
    "quantize": optional(read_quantize),
    "trust_remote_code": flag,
    "revision": optional(text("a branch, tag or commit as text")),
    "timeout_s": time_limit,
    "progress": function,
}
"""How the arguments that name a model and its workload are read, in every function that plans."""

PLAN_ARGUMENTS: Mapping[str, Reader] = {
    **MODEL_ARGUMENTS,
    "machine": as_machine,
    "objective": one_of(*OBJECTIVE_NAMES),
    "pins": optional(read_pins),
    "default_pins": flag,
}
"""Those, and the arguments of a plan for one machine."""

PADDED_BATCH = 2
"""The smallest batch whose sequences are padded: its masks hold for every larger one."""
LONGEST_RUN_TOKENS = 2**20
"""No virtual run is made for more: ids are real integers, and no model promises more."""
LONGER = 1.1
"""Runs are made again where the answer lies more than a tenth beyond the longest of them: so far
the curve through the last three goes on well (`ActivationGrowth`)."""
MOST_RUNS = 3
"""The second answer is mostly within a few per cent of the first."""


def silent(text: str) -> None:
    """Progress that nobody wants to see."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ProfiledModel:
    """A model without its weights, and what is known of it."""

    source: ModelSource
    skeleton: Skeleton
    workload: Workload
    """As asked, and what was not asked as the model has it."""
    profile: Profile
    notes: tuple[str, ...]
    """What people should know of how this came about."""
    packed: bool = False
    """Whether quantized weights count as they are stored."""
    run: str = USUAL
    """The calls that are planned for: one of `PLANNED`."""

    @property
    def calls(self) -> tuple[ModelCall, ...]:
        """Those of them that are made at the workload."""
        return workload_calls(self.skeleton, self.run)

    @property
    def graph(self) -> BlockGraph:
        return build_graph(self.profile)

    @property
    def limit_tokens(self) -> int | None:
        """Longest context that the model supports, or that was asked for beyond it."""
        limit = self.skeleton.max_tokens
        return None if limit is None else max(limit, self.workload.tokens)

    @property
    def is_growth_known(self) -> bool:
        """Whether runs showed how cache and activations grow; else only weights are known."""
        return bool(self.profile.run.order)

    @property
    def identity(self) -> ModelIdentity:
        source, skeleton, weights = self.source, self.skeleton, self.profile.weights
        return ModelIdentity(
            id=source.id,
            revision=source.revision,
            config_hash=source.config_hash,
            class_name=skeleton.class_name,
            auto_class=None if native_class(source) is not None else remote_auto_class(source),
            dtype=dtype_name(skeleton.dtype),
            quantization=weights.quantization,
            num_parameters=weights.num_parameters,
            components=tuple(skeleton.components),
            repository=_repository(source),
            packed=weights.packed,
            quantize=source.quantize,
        )


def _repository(source: ModelSource) -> str | None:
    """Where the files of a pipeline of the catalogue are, if not under its id."""
    elsewhere = source.origin == "catalogue" and source.location != source.id
    return source.location if source.components and elsewhere else None


@exclusively
def study(
    model: str | NamedInFile,
    workload: Workload,
    machines: Iterable[Machine],
    *,
    packed: bool = False,
    quantize: str | None = None,
    trust_remote_code: bool = False,
    revision: str | None = None,
    inputs: str | None = None,
    run: str = USUAL,
    of_tokens: str = "",
    progress: Progress = silent,
) -> ProfiledModel:
    """Find a model, build it without weights, and run it virtually on one card.

    Parameters
    ----------
    model
        Catalogue name, folder, hub id or ``package.module:factory``.
    workload
        Batch, context and dtypes; what is None is left to the model.
    machines
        What is planned for: their least compute capability decides how quantized weights lie.
    packed, quantize, trust_remote_code, revision, inputs, run, progress
        As for `devplan.suggest`.
    of_tokens
        The command that asks, where its questions are about tokens and a pipeline is refused.

    Raises
    ------
    InputError
        When the model cannot be found or built.
    """
    progress(f"reading {model}")
    source = resolve(model, trust_remote_code=trust_remote_code, revision=revision)
    if of_tokens and source.components:
        raise InputError(
            f"devplan {of_tokens} asks about models that generate tokens, and {model} is a "
            f"pipeline; run devplan suggest {model} for each machine"
        )
    progress(f"building {source.class_name or model} on the meta device")
    skeleton = replace(build_skeleton(source, workload.dtype), own_inputs=inputs)
    if quantize is not None:  # the skeleton stays as it was: sizes follow from the method
        if packed:
            raise InputError(
                "--packed is for checkpoints that are quantized already, and --quantize for those "
                "that are not; leave one of them out"
            )
        source = quantized_source(source, quantize)
        refuse_offload(source, machines)
    workload, workload_notes = resolve_workload(
        workload, dtype=dtype_name(skeleton.dtype), max_tokens=skeleton.max_tokens
    )
    progress("running it virtually")
    calls = workload_calls(skeleton, run)
    sites = partition(skeleton.model, skeleton.no_split)
    lie = {"least_capability": least_of_all(machines), "packed": packed}
    with OneCard(skeleton.model, skeleton.config, sites) as card:
        with _naming(source):
            profile = profile_skeleton(skeleton, source, workload, card=card, **lie)
        activations = measure_activations(skeleton, sites, workload, calls, card=card)
    profile = replace(profile, activations=activations)
    workload = as_made(workload, activations.made_shape)
    notes = (*source.notes, *skeleton.notes, *profile.notes, *workload_notes)
    return ProfiledModel(
        source=source,
        skeleton=skeleton,
        workload=workload,
        profile=profile,
        notes=notes + cache_notes(skeleton.model, profile.run),
        packed=packed,
        run=run,
    )


def can_offload(source: ModelSource) -> bool:
    """Whether weights may be outside the GPUs: bitsandbytes quantizes none there."""
    config = (source.config or {}).get("quantization_config") or {}
    return source.quantize is None or config.get("quant_method") != "bitsandbytes"


def refuse_offload(source: ModelSource, machines: Iterable[Machine]) -> None:
    """Refuse offloading of weights that bitsandbytes quantizes, which it does on GPUs only.

    transformers raises where a map has entries on cpu or disk beside GPUs
    (``Bnb4BitHfQuantizer.validate_environment``).
    """
    if not can_offload(source) and any(each.tiers for each in machines):
        raise InputError(
            f"--quantize {source.quantize} and --offload do not go together: bitsandbytes "
            "quantizes no weights that are offloaded; leave one of them out"
        )


def as_made(workload: Workload, made_shape: tuple[int, ...] | None) -> Workload:
    """The workload with the size and length that a pipeline gave to what it made."""
    if made_shape is None:
        return workload
    frames, height, width = made_shape
    return replace(workload, image_size=(height, width), frames=frames if frames > 1 else None)


@exclusively
def tiled(studied: ProfiledModel) -> ProfiledModel:
    """A pipeline whose autoencoder works in tiles."""
    workload = replace(studied.workload, tiling=True)
    activations = measure_activations(
        studied.skeleton, studied.profile.sites, workload, studied.calls
    )
    profile = replace(studied.profile, activations=activations)
    return replace(studied, workload=workload, profile=profile)


@exclusively
def on_machine(studied: ProfiledModel, machine: Machine) -> ProfiledModel:
    """The same with weights as they lie on the cards of one machine: some unpack, some do not."""
    if not (studied.source.config or {}).get("quantization_config"):
        return studied
    with _naming(studied.source):
        weights = weights_on_cards(
            studied.skeleton,
            studied.source,
            studied.profile.sites,
            least_of_all((machine,)),
            packed=studied.packed,
        )
    return replace(studied, profile=replace(studied.profile, weights=weights))


def run_as_long_as_fits(
    studied: ProfiledModel, longest: Callable[[ProfiledModel], int]
) -> ProfiledModel:
    """The same with runs at the context that fits, until no much longer one does.

    Parameters
    ----------
    longest
        Tokens that fit by what is known of activations so far.
    """
    for _ in range(MOST_RUNS):
        tokens = longest(studied)
        if tokens <= LONGER * _longest_run(studied):
            break
        longer = run_at(studied, tokens)
        if longer is studied:
            break
        studied = longer
    return studied


@exclusively
def run_at(studied: ProfiledModel, tokens: int) -> ProfiledModel:
    """The same with activations from runs of so many tokens too, at the batch of the workload.

    Nothing is run where the model's code loops over tokens: a long run would only be cut again.
    """
    activations, known = studied.profile.activations, _longest_run(studied)
    fixed = bool(studied.skeleton.components or studied.skeleton.own_inputs)
    loops = fixed or known < studied.workload.tokens
    if loops or not activations.blocks or tokens > LONGEST_RUN_TOKENS:
        return studied
    workload = replace(studied.workload, context=tokens)
    more = measure_activations(studied.skeleton, studied.profile.sites, workload, studied.calls)
    joined = joined_activations(activations, more)
    return replace(studied, profile=replace(studied.profile, activations=joined))


def _longest_run(studied: ProfiledModel) -> int:
    growths = studied.profile.activations.blocks.values()
    return max((growth.samples[-1][0] for growth in growths), default=0)


@exclusively
def with_work(studied: ProfiledModel) -> ProfiledModel:
    """The same with what each block reads and computes."""
    work = measure_work(studied.skeleton, studied.profile.sites, studied.workload)
    return replace(studied, profile=replace(studied.profile, work=work))


def lighter_forms(studied: ProfiledModel) -> dict[str, Callable[[], BlockGraph]]:
    """What is tried when nothing fits: 8 and 4 bit weights, a pipeline's tiles (run once)."""
    if studied.graph.components and not studied.workload.tiling:
        return {"--tiling": cache(lambda: build_graph(tiled(studied).profile))}
    if not can_be_quantized(studied.profile, studied.source):
        return {}

    def in_bits(bits: int) -> BlockGraph:
        source = quantized_source(studied.source, quantize_word(bits))
        return build_graph(quantized_profile(studied.profile, studied.skeleton, source))

    return {f"--quantize {quantize_word(bits)}": partial(in_bits, bits) for bits in QUANTIZED_BITS}


@exclusively
def padded_activations(studied: ProfiledModel) -> ActivationProfile:
    """Activations as they grow with the batch, for batches above that of the workload.

    One sequence needs no mask, several do, as they are padded: what one needs says nothing of
    many, and what many need is at most their share of what two do.
    """
    known = studied.profile.activations
    if studied.workload.batch >= PADDED_BATCH or not known.blocks:
        return known
    workload = replace(studied.workload, batch=PADDED_BATCH)
    more = measure_activations(studied.skeleton, studied.profile.sites, workload, studied.calls)
    return more if more.blocks else known


@contextmanager
def _naming(source: ModelSource) -> Iterator[None]:
    """An error of a quantization config, which does not know whose it is, names the model."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{source.id}: {error}") from error
