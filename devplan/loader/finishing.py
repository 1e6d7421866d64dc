"""What is put on a model once it lies where its map says: patch, transfer cache, diagnosis."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from devplan.core import DeviceMapFile, InputError, is_inside, relative
from devplan.loader.hooks import is_dispatched
from devplan.loader.loaded import Loaded
from devplan.loader.parts import Part
from devplan.loader.target import Target

log = logging.getLogger("devplan")

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
        "better repair: devplan check %s",
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


def cache_copies(parts: Iterable[Part]) -> None:
    """Move each tensor to a device once in a forward, where accelerate's hooks move any."""
    from devplan.runtime import cache_transfers

    for part in parts:
        if is_dispatched(part.model):
            cache_transfers(part.model)


def attach_diagnosis(loaded: Loaded, map: str | Path | DeviceMapFile) -> None:
    """Let each model explain its own failures; one of a pipeline by its part of the map."""
    from devplan.diagnosis import attach, part_for

    for part in loaded.parts:
        attach(part.model, part_for(map, part.name))
