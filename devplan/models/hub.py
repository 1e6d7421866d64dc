"""A model on the hub: configuration and safetensors headers, never weight data.

Three kinds of requests, all through huggingface_hub (so that HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE
and its cache hold): the list of files, the small JSON files (and, if remote code is trusted, the
``*.py`` files), and the first bytes of each safetensors file.  A shard that lies in the cache is
read there.

Where the hub does not answer, refuses, or is not to be asked, a cached snapshot is used and a note
says so; without one, the error says what the hub answered.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import replace

from devplan.core import InputError
from devplan.models import from_catalog
from devplan.models.config import (
    CONFIG_FILE,
    config_hash,
    library_and_class,
    parse_object,
    read_config_text,
    refuse_wrong_kinds,
    stated_dtype,
)
from devplan.models.hub_errors import hub_problem
from devplan.models.hub_files import HubAddress, Snapshot, cached_snapshot, download, snapshot_of
from devplan.models.hub_pipelines import cached_pipeline, pipeline_on_hub
from devplan.models.hub_weights import remote_weights
from devplan.models.inside import require_inside
from devplan.models.pipeline_source import PIPELINE_FILE
from devplan.models.source import ModelSource
from devplan.models.stored_tensors import IncompleteWeights, StoredWeights, read_folder_weights
from devplan.models.without_config import without_config


def resolve_hub(address: HubAddress, *, trust_remote_code: bool) -> ModelSource:
    """The model at an address of the hub, or its cached snapshot.

    Raises
    ------
    InputError
        When neither the hub nor the cache has it, or what they have cannot be used.
    """
    try:
        with _quietly():
            return _from_hub(address, trust_remote_code=trust_remote_code)
    except InputError:
        raise
    except Exception as error:
        problem = hub_problem(error, address.repo, address.revision)
        if problem is None:
            raise
        snapshot = cached_snapshot(address)
        if snapshot is None and (cached := cached_snapshot(address, PIPELINE_FILE)) is not None:
            return cached_pipeline(address, cached, problem.reason)
        if snapshot is None:
            raise InputError(
                f"{_what_was_asked(address)}{problem.reason}; {problem.remedy}"
                f"{from_catalog.did_you_mean(address.text)}"
            ) from error
    return _from_cache(address, snapshot, problem.reason, trust_remote_code=trust_remote_code)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what huggingface_hub says of each attempt: what became of them is told once."""
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _what_was_asked(address: HubAddress) -> str:
    if address.revision is not None:
        return f"{address.repo!r} at revision {address.revision!r}: "
    return f"{address.text!r} is no folder here and no name of the catalogue, and "


def _from_hub(address: HubAddress, *, trust_remote_code: bool) -> ModelSource:
    from huggingface_hub import HfApi, constants

    info = HfApi().model_info(
        address.repo, revision=address.revision, timeout=constants.HF_HUB_ETAG_TIMEOUT
    )
    where = f"the list of files of {address.repo}"
    listed = (file.rfilename for file in info.siblings or ())
    all_names = [require_inside(name, where) for name in listed if isinstance(name, str)]
    prefix = address.path("")
    names = [name.removeprefix(prefix) for name in all_names if name.startswith(prefix)]
    if CONFIG_FILE not in names and PIPELINE_FILE in names:
        return pipeline_on_hub(address, names)
    if CONFIG_FILE not in names:
        raise without_config(
            address.text, names, lambda name: read_config_text(download(address, name))
        )
    # Asked for by the user's revision and not by the commit: this is how huggingface_hub learns
    # which commit a branch is at, and a later run finds the snapshot offline.
    snapshot = snapshot_of(address, download(address, CONFIG_FILE))
    pinned = replace(address, revision=snapshot.commit)
    source = _source(address, snapshot, trust_remote_code=trust_remote_code)
    if source.code_folder is not None:
        for name in names:
            if name.endswith(".py"):
                download(pinned, name)
    return _with_weights(source, remote_weights(pinned, names))


def _from_cache(
    address: HubAddress, snapshot: Snapshot, reason: str, *, trust_remote_code: bool
) -> ModelSource:
    source = _source(address, snapshot, trust_remote_code=trust_remote_code)
    try:
        weights = read_folder_weights(snapshot.folder)
    except IncompleteWeights:
        weights = StoredWeights()
    lacking = "" if weights.tensors is not None else ", which lacks weights"
    note = f"the cached snapshot {snapshot.commit[:12]} is used{lacking}: {reason}"
    return _with_weights(source, replace(weights, notes=(note,)))


def _source(address: HubAddress, snapshot: Snapshot, *, trust_remote_code: bool) -> ModelSource:
    where = f"{address.text}: {CONFIG_FILE}"
    config = parse_object(read_config_text(snapshot.folder / CONFIG_FILE), where)
    library, class_name = library_and_class(config, where)
    refuse_wrong_kinds(config, where)
    return ModelSource(
        id=address.model,
        origin="hub",
        location=address.repo,
        library=library,
        class_name=class_name,
        config=config,
        dtype=stated_dtype(config, where),
        subfolder=address.subfolder,
        revision=snapshot.commit,
        config_hash=config_hash(config),
        trust_remote_code=trust_remote_code,
        code_folder=str(snapshot.folder) if trust_remote_code and "auto_map" in config else None,
    )


def _with_weights(source: ModelSource, weights: StoredWeights) -> ModelSource:
    return replace(
        source,
        stored=weights.tensors,
        stored_metadata=weights.metadata,
        notes=source.notes + weights.notes,
    )
