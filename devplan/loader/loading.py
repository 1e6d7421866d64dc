"""`load`: from a map and a checkpoint to a model that lies where the map says."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from devplan.errors import InputError
from devplan.loader.arguments import from_pretrained_arguments, location, refuse_clashes
from devplan.loader.auditing import audit_target, refuse_differences
from devplan.loader.checkpoint_files import checkpoint_files
from devplan.loader.differences import Audit
from devplan.loader.dispatching import settle
from devplan.loader.finishing import (
    attach_diagnosis,
    cache_copies,
    explained_loading,
    patch_if_needed,
)
from devplan.loader.here import (
    answer_differences,
    cards_and_releases,
    model_at_hand,
    on_these_cards,
    read_here,
)
from devplan.loader.integrity import check_integrity
from devplan.loader.model_class import Loadable, loadable
from devplan.loader.offloading import offload_folder as writing_to
from devplan.loader.pipelines import load_pipeline
from devplan.loader.target import Target, refuse_inside_offloaded, target_of
from devplan.sources.folder import is_path
from devplan.types import DISK, DeviceMapFile

log = logging.getLogger("devplan")

ON_DIFFERENCE = ("raise", "warn")


def load(
    map: str | Path | DeviceMapFile,
    model: str | Path | None = None,
    *,
    devices: Mapping[str, Any] | None = None,
    on_difference: str = "raise",
    offload_folder: str | Path | None = None,
    remap: bool = False,
    patch_embeddings: bool = True,
    cache_transfers: bool = True,
    diagnose: bool = False,
    trust_remote_code: bool = False,
    **from_pretrained: Any,
) -> Any:
    """Load a model by a map, and make sure that it lies where the map says.

    Class, dtype and revision are those of the map.  Before anything is loaded this machine is
    compared with the map's, and the checkpoint's headers are looked at; afterwards the model is
    audited (`devplan.audit`).

    Parameters
    ----------
    map
        A map file that `devplan suggest` wrote, or what ``devplan.mapfile.read_map`` gave.
    model
        Folder or id of the checkpoint; None: the id that stands in the map.
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
        Further arguments of ``from_pretrained``: ``attn_implementation="sdpa"``.

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
    >>> model = devplan.load("maps/qwen2.5-vl-7b-instruct__24+12gib__b1-c32768.yaml")
    >>> model = devplan.load("maps/x.yaml", "./checkpoint", attn_implementation="sdpa")
    """
    if on_difference not in ON_DIFFERENCE:
        raise InputError(f"on_difference={on_difference!r}; give {' or '.join(ON_DIFFERENCE)}")
    target = target_of(map, devices)
    if target.content is not None and target.content.model.components:
        return _load_pipeline(target, model, offload_folder, on_difference, from_pretrained)
    found = loadable(target, trust_remote_code=trust_remote_code)
    refuse_clashes(target, from_pretrained)
    refuse_inside_offloaded(target)
    environment = read_here(offload_folder)
    if remap:
        target = on_these_cards(target, environment)
    answer_differences(target, cards_and_releases(target, environment), on_difference)
    given = None if model is None else str(model)
    arguments = from_pretrained_arguments(target, found, given, from_pretrained)
    if trust_remote_code:
        arguments["trust_remote_code"] = True
    place, _ = location(target, given)
    _refuse_absent(target, place)
    said = target.content if remap else map
    with explained_loading(said):
        files = checkpoint_files(place, found.library, arguments)
        if files is not None:
            other = model_at_hand(target, environment, files.folder)
            answer_differences(target, other, on_difference)
            quantizes = from_pretrained.get("quantization_config") is not None
            check_integrity(files, target.content, quantizes=quantizes)
        loaded, info = _load(target, found, place, arguments, offload_folder, on_difference)
    if patch_embeddings:
        patch_if_needed(loaded, target, environment.versions, trust_remote_code)
    if cache_transfers:
        cache_copies(loaded)
    if diagnose:
        attach_diagnosis(loaded, said)
    return (loaded, info) if from_pretrained.get("output_loading_info") else loaded


def _load_pipeline(
    target: Target,
    model: str | Path | None,
    offload_folder: str | Path | None,
    on_difference: str,
    further: Mapping[str, Any],
) -> Any:
    """A diffusers pipeline, each of its models by its part of the map."""
    refuse_clashes(target, further)
    place, _ = location(target, None if model is None else str(model))
    _refuse_absent(target, place)
    pipeline, audits = load_pipeline(
        target,
        place,
        revision=target.content.model.revision if model is None else None,
        offload_folder=offload_folder,
        further=further,
    )
    for found in audits:
        answer(found, on_difference)
    return pipeline


def answer(found: Audit, on_difference: str) -> None:
    """Say what an audit found, or raise it."""
    for use in found.uses:
        log.info("%s", use)
    if on_difference == "warn":
        for difference in found.differences:
            log.warning("%s", difference)
    else:
        refuse_differences(found)


def _refuse_absent(target: Target, place: str) -> None:
    """A folder that is not here is said in one line, and is not looked for on the hub."""
    if is_path(place) and not Path(place).expanduser().is_dir():
        raise InputError(
            f"there is no folder {place} here, which {target.name} is loaded from; give the folder "
            "or id of the checkpoint: devplan.load(map, FOLDER)"
        )


def _load(
    target: Target,
    found: Loadable,
    place: str,
    arguments: dict[str, Any],
    folder: str | Path | None,
    on_difference: str,
) -> tuple[nn.Module, Any]:
    """The model, dispatched and audited; the offload folder is kept only if all went well."""
    log.info("loading %s from %s by %s", found.model_class.__name__, place, target.name)
    if DISK not in target.devices:
        return _dispatched(target, found, place, arguments, on_difference)
    with writing_to(folder) as draft:
        arguments = {**arguments, "offload_folder": str(draft.draft)}
        model, info = _dispatched(target, found, place, arguments, on_difference)
        kept = draft.keep(model)
    if kept is not None:
        log.info("weights on disk are in %s", kept)
    return model, info


def _dispatched(
    target: Target, found: Loadable, place: str, arguments: dict[str, Any], on_difference: str
) -> tuple[nn.Module, Any]:
    loaded = found.model_class.from_pretrained(place, **arguments)
    model, info = loaded if isinstance(loaded, tuple) else (loaded, {})
    missing = sorted(info.get("missing_keys", ()))
    if missing:
        log.warning(
            "%d tensors are not in %s and have made-up values, %s among them",
            len(missing),
            place,
            missing[0],
        )
    settle(model, target, offload_buffers=bool(arguments.get("offload_buffers")))
    answer(audit_target(model, target), on_difference)
    return model, info
