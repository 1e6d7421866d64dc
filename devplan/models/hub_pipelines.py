"""A diffusers pipeline on the hub: its index, small JSON files and headers, never weight data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from devplan.models.config import CONFIG_FILE, read_config_text
from devplan.models.hub_files import HubAddress, Snapshot, download, snapshot_of
from devplan.models.hub_weights import remote_weights
from devplan.models.pipeline_source import (
    PIPELINE_FILE,
    component_source,
    named_components,
    parse_pipeline_index,
    pipeline_source,
)
from devplan.models.source import ModelSource
from devplan.models.stored_tensors import IncompleteWeights, StoredWeights, read_folder_weights


def pipeline_on_hub(address: HubAddress, names: Sequence[str]) -> ModelSource:
    """The pipeline at an address; `names` are its files with their path below it."""
    snapshot = snapshot_of(address, download(address, PIPELINE_FILE))
    pinned = replace(address, revision=snapshot.commit)

    def read(name: str) -> str | None:
        return read_config_text(download(pinned, name)) if name in names else None

    def weights(name: str) -> StoredWeights:
        prefix = f"{name}/"
        inside = [file.removeprefix(prefix) for file in names if file.startswith(prefix)]
        return remote_weights(replace(pinned, subfolder=pinned.path(name)), inside)

    return _pipeline(address, snapshot, read, weights)


def cached_pipeline(address: HubAddress, snapshot: Snapshot, reason: str) -> ModelSource:
    """The pipeline as a snapshot in the cache has it, where the hub cannot be asked."""

    def read(name: str) -> str | None:
        path = snapshot.folder / name
        return read_config_text(path) if path.is_file() else None

    source = _pipeline(address, snapshot, read, lambda name: _cached(snapshot.folder / name))
    note = f"the cached snapshot {snapshot.commit[:12]} is used: {reason}"
    return replace(source, notes=(*source.notes, note))


def _cached(folder: Path) -> StoredWeights:
    try:
        return read_folder_weights(folder)
    except IncompleteWeights:
        return StoredWeights()


def _pipeline(address: HubAddress, snapshot: Snapshot, read, weights) -> ModelSource:
    where = f"{address.text}: {PIPELINE_FILE}"
    index = parse_pipeline_index(read_config_text(snapshot.folder / PIPELINE_FILE), where)
    whole = ModelSource(
        id=address.model,
        origin="hub",
        location=address.repo,
        library="diffusers",
        class_name=index["_class_name"],
        config=index,
        revision=snapshot.commit,
    )
    components = {}
    for name, library, class_name in named_components(index):
        part = component_source(name, library, class_name, read, of=whole)
        if read(f"{name}/{CONFIG_FILE}") is not None:
            stored = weights(name)
            part = replace(
                part,
                stored=stored.tensors,
                stored_metadata=stored.metadata,
                notes=stored.notes,
            )
        components[name] = part
    return pipeline_source(whole, components)
