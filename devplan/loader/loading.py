"""`load`: from a map and a checkpoint to a model that lies where the map says."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from devplan.core import (
    DISK,
    DeviceMapFile,
    InputError,
    accepts,
    flag,
    is_inside,
    one_of,
    optional,
    path,
    relative,
)
from devplan.diagnosis import Diagnosis
from devplan.loader.auditing import Audit, audit_line, audit_parts, usage_line
from devplan.loader.integrity import check_integrity, refuse_fetched_code
from devplan.loader.offloading import offload_folder as writing_to
from devplan.loader.one_model import model_loader
from devplan.loader.parts import Loaded, Loader, Part, Stored
from devplan.loader.pipelines import pipeline_loader
from devplan.loader.preflight import (
    answer_differences,
    cards_and_releases,
    model_at_hand,
    on_these_cards,
    read_here,
)
from devplan.loader.target import Target, refuse_inside_offloaded, target_of
from devplan.mapfile import MapLike, model_before_map
from devplan.models import is_path, never_asked
from devplan.sandbox import exclusively
from devplan.virtual import is_dispatched

log = logging.getLogger("devplan")

ON_DIFFERENCE = ("raise", "warn")


CALL = "devplan.load(MODEL, MAP), or devplan.load(map=MAP) for the model that MAP names"

_checkpoint = path("the folder or hub id of the checkpoint")
_of_model = model_before_map(CALL)


def _model(name: str, value: Any) -> Any:
    return _checkpoint(name, _of_model(name, value))


@accepts(
    model=optional(_model),
    on_difference=one_of(*ON_DIFFERENCE),
    offload_folder=optional(path("a folder, new or empty")),
    remap=flag,
    patch_embeddings=flag,
    cache_transfers=flag,
    diagnose=flag,
    trust_remote_code=flag,
)
@exclusively
def load(
    model: str | Path | None = None,
    map: MapLike | None = None,
    *,
    devices: Mapping[str, Any] | None = None,
    on_difference: str = "raise",
    offload_folder: str | Path | None = None,
    remap: bool = False,
    patch_embeddings: bool = True,
    cache_transfers: bool = False,
    diagnose: bool = False,
    trust_remote_code: bool = False,
    **from_pretrained: Any,
) -> Any:
    """Load a model, or a diffusers pipeline, by a map; make sure that it lies where the map says.

    Class, dtype and revision are those of the map.  Before anything is loaded this machine is
    compared with the map's, and the checkpoint's headers are looked at; afterwards the model is
    audited (`devplan.audit`).  Nothing else is changed in the model but what the arguments ask for
    and, where the map does not run without it, the embedding patch; each change is logged to
    ``logging.getLogger("devplan")``.  Threads take turns: checks and loads of other threads wait
    until the model is loaded, and notice what `devplan.check` says.

    Parameters
    ----------
    model
        Folder or hub id of the checkpoint; None: the id in the map.
    map
        A map file that `devplan suggest` wrote, or what `devplan.read_map` or `devplan.suggest`
        returned.
    devices
        Card of the map -> device that stands in for it: with
        ``{"cuda:0": "cpu", "cuda:1": "cpu"}`` the model lies on the CPU with the hooks that it
        would have on the cards, as for a test of the loading code without GPUs.
    on_difference
        ``raise``, or ``warn``: where the machine or the loaded model is not what the map says, that
        is a warning in the log and no error.
    offload_folder
        Where weights on ``disk`` are written that cannot be read where they are.  It appears when
        the model is complete; None: a temporary one that goes with the model.
    remap
        Whether the cards may be taken by capacity: a map for 24 + 12 GiB where 12 + 24 are here.
    patch_embeddings
        Whether embeddings are patched (`devplan.patch_embeddings`) where the map does not run
        without; what is done is said in the log.
    cache_transfers
        Whether a tensor is moved to a device once in a forward, not once for every layer that uses
        it (`devplan.cache_transfers`).
    diagnose
        Whether the model explains its own failures (`devplan.diagnose`); a failure of the loading
        itself is always explained.
    trust_remote_code
        Whether code that comes with the model may run.
    **from_pretrained
        Further arguments of ``from_pretrained``: ``attn_implementation="sdpa"``; of a pipeline
        those that are its own.

    Returns
    -------
    The model, or the pipeline; with ``output_loading_info=True`` the model and what
    ``from_pretrained`` says of it.

    Raises
    ------
    InputError
        When the map or an argument cannot be used, or the checkpoint is damaged; one line.
    DeviceMapError
        When this machine is not the map's, or the model does not lie where the map says; one line
        a difference.

    Examples
    --------
    >>> model = devplan.load(map="maps/qwen2.5-vl-7b-instruct__24+12gib__b1-c32768.yaml")
    >>> model = devplan.load("./checkpoint", "maps/x.yaml", attn_implementation="sdpa")
    """
    if map is None:
        raise InputError(f"a map is missing; give one: {CALL}")
    # 1. Look: at the arguments, at this machine, at the headers of the checkpoint.
    target = target_of(map, devices)
    loader = loader_of(target, model, from_pretrained, trust_remote_code)
    refuse_inside_offloaded(target)
    environment = read_here(offload_folder)
    if remap:
        target = on_these_cards(target, environment)
    answer_differences(target, cards_and_releases(target, environment), on_difference)
    _refuse_absent(target, loader.place)
    map_here = target.content if remap else map
    with Diagnosis(None, map_here), never_asked():  # memory may run out before there is a model
        stored = loader.stored(target)
        if stored is not None:
            others = model_at_hand(target, environment, stored.folder)
            answer_differences(target, others, on_difference)
            _refuse_damaged(stored, trust_remote_code)
        # 2. Load and dispatch. 3. Audit.
        loaded = _load_and_audit(loader, target, offload_folder, on_difference)
    # 4. Add what the map needs, or the caller asked for.
    if patch_embeddings:
        patch_if_needed(loaded, target, environment.versions, trust_remote_code)
    cache_copies(loaded.parts, is_asked=cache_transfers)
    if diagnose:
        explain_failures(loaded, map_here)
    return loaded.result


def loader_of(
    target: Target,
    model: str | Path | None,
    given: Mapping[str, Any],
    trust_remote_code: bool,
) -> Loader:
    """How the model or pipeline of a map is loaded; classes and arguments are looked at here."""
    place = None if model is None else str(model)
    is_of_pipeline = target.content is not None and target.content.model.components
    make = pipeline_loader if is_of_pipeline else model_loader
    return make(target, place, given, trust_remote_code=trust_remote_code)


def answer(found: Audit, on_difference: str) -> None:
    """Log what an audit found, or raise it."""
    for note in found.notes:
        log.warning("%s", note)
    for use in found.uses:
        log.info("%s", usage_line(use))
    if on_difference == "warn":
        for finding in found.findings:
            log.warning("%s", audit_line(finding))
    else:
        found.raise_for_findings()


def _refuse_absent(target: Target, place: str) -> None:
    """A folder that is not here is said in one line, and is not looked for on the hub."""
    if is_path(place) and not Path(place).expanduser().is_dir():
        raise InputError(
            f"there is no folder {place} here, which {target.name} is loaded from; give "
            "the folder "
            "or id of the checkpoint: devplan.load(FOLDER, MAP)"
        )


def _refuse_damaged(stored: Stored, trust_remote_code: bool) -> None:
    """Refuse damaged files, and configurations that fetch code which may not run."""
    for files, content in stored.files:
        if not trust_remote_code:
            refuse_fetched_code(files.folder)
        check_integrity(files, content, quantizes=stored.quantizes)


def _load_and_audit(
    loader: Loader, target: Target, folder: str | Path | None, on_difference: str
) -> Loaded:
    """Load, dispatch and audit; the offload folder is kept only if everything succeeds."""
    log.info("loading %s from %s by %s", loader.class_name, loader.place, target.name)
    if DISK not in target.devices:
        loaded = loader.loaded(target, None)
        answer(audit_parts(loaded.parts, target), on_difference)
        return loaded
    with writing_to(folder) as draft:
        loaded = loader.loaded(target, draft.draft)
        answer(audit_parts(loaded.parts, target), on_difference)
        kept = draft.keep(*(part.model for part in loaded.parts))
    if kept is not None:
        log.info("weights on disk are in %s", kept)
    return loaded


# After the audit the model gets its embedding patch, its transfer cache and its diagnosis.


CLEAN = "clean"


def patch_if_needed(
    loaded: Loaded,
    target: Target,
    versions: Mapping[str, str],
    trust_remote_code: bool = False,
) -> None:
    """Patch embeddings where the map does not run without and runs better with the patch.

    A map whose file says that it was run clean, with the releases that are installed here, needs
    no patch.  Any other is run virtually, on the map's own cards.

    Parameters
    ----------
    versions
        Library -> release that is installed here.
    """
    content = target.content
    if content is None or _is_proven(content, versions):
        return
    from devplan.runtime import needed_patch, patch_embeddings

    try:
        advice = needed_patch(loaded.checked_as, content, trust_remote_code=trust_remote_code)
    except InputError as error:
        log.warning("whether %s needs its embeddings patched was not found: %s", target.name, error)
        return
    if not advice.is_needed:
        log.info("%s was run virtually: no embedding needs a patch", target.name)
        return
    device = None if advice.device is None else target.here(advice.device)
    for part in loaded.parts:
        names = [relative(name, part.name) for name in advice.names if is_inside(name, part.name)]
        if names:
            patch_embeddings(part.model, names, device)
    log.warning(
        "%s stops at %d errors without a patch, %d with it: %s patched; moving the entry is the "
        "better fix: devplan check %s",
        target.name,
        len(advice.before.errors),
        len(advice.after.errors) if advice.after else 0,
        ", ".join(advice.names),
        target.name,
    )


def _is_proven(content: DeviceMapFile, versions: Mapping[str, str]) -> bool:
    library = "diffusers" if "diffusers" in content.versions else "transformers"
    ran = {library, "accelerate"}
    if content.model.components:  # the text encoders of a pipeline
        ran.add("transformers")
    here = {name: version.partition("+")[0] for name, version in versions.items()}
    same = all(content.versions.get(name) == here.get(name) for name in ran)
    return content.verification.status == CLEAN and same


def cache_copies(parts: Iterable[Part], *, is_asked: bool) -> None:
    """Move each tensor to a device once in a forward, where accelerate's hooks move any and the
    caller asks for it; a model that has a cache already keeps it with its new hooks."""
    from devplan.runtime import cache_transfers, transfer_cache_of

    for part in parts:
        if is_dispatched(part.model) and (is_asked or transfer_cache_of(part.model)):
            cache_transfers(part.model)
            log.info("%s caches its transfers", type(part.model).__name__)


def explain_failures(loaded: Loaded, map: str | Path | DeviceMapFile) -> None:
    """Let each model explain its own failures; one of a pipeline by its part of the map."""
    from devplan.diagnosis import attach_diagnosis, part_for

    for part in loaded.parts:
        attach_diagnosis(part.model, part_for(map, part.name))
        log.info("%s explains its own failures", type(part.model).__name__)
