"""A model on the hub: configuration and safetensors headers, never weight data.

Three kinds of requests, all through huggingface_hub (so that HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE
and its cache hold): the list of files, the small JSON files (and, if remote code is trusted, the
``*.py`` files), and the first bytes of each safetensors file.  A shard that lies in the cache is
read there.

Where the hub does not answer, refuses, or is not to be asked, a cached snapshot is used and a note
says so; without one, the error says what the hub answered.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from devplan.errors import InputError
from devplan.sources import catalogue
from devplan.sources.config import (
    CONFIG_FILE,
    config_hash,
    library_and_class,
    parse_object,
    read_text,
    stated_dtype,
)
from devplan.sources.hub_errors import hub_problem
from devplan.sources.source import ModelSource, StoredTensor
from devplan.sources.stored import (
    INDEX_SUFFIX,
    IncompleteWeights,
    StoredWeights,
    main_weight_file,
    merge,
    no_weights_notes,
    parse_index,
    read_folder_weights,
    read_header,
    stored_tensor,
)
from devplan.sources.without_config import without_config

# Header requests in flight: the largest checkpoints have 160 shards (deepseek-ai/DeepSeek-V3 163).
_NUM_REQUESTS = 8


@dataclass(frozen=True, kw_only=True)
class HubAddress:
    """A repository, a commit-ish of it, and a folder in it."""

    text: str
    """As the user typed it."""
    repo: str
    revision: str | None
    subfolder: str | None

    def path(self, name: str) -> str:
        """Path of a file of the model inside the repository."""
        return f"{self.subfolder}/{name}" if self.subfolder else name


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Where huggingface_hub keeps the files of one commit."""

    root: Path
    folder: Path
    """`root`, or the subfolder of the component."""

    @property
    def commit(self) -> str:
        return self.root.name


def parse_address(model: str, revision: str | None) -> HubAddress:
    """The parts of ``org/name``, ``org/name@revision`` or ``org/name/subfolder``.

    Raises
    ------
    InputError
        When it cannot be a hub id, or two revisions are given.
    """
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    path, _, inline = model.partition("@")
    if inline and revision is not None and inline != revision:
        raise InputError(f"{model} and revision {revision!r} contradict each other; give one")
    org, name, *below = path.rstrip("/").split("/")
    try:
        validate_repo_id(f"{org}/{name}")
    except HFValidationError as error:
        raise InputError(
            f"{model!r} is no folder, not in the catalogue, and no hub id, which is written "
            f"org/name in letters, digits, '-', '_' and '.'{catalogue.did_you_mean(model)}"
        ) from error
    return HubAddress(
        text=model,
        repo=f"{org}/{name}",
        revision=inline or revision,
        subfolder="/".join(below) or None,
    )


def resolve_hub(address: HubAddress, *, trust_remote_code: bool) -> ModelSource:
    """The model at an address of the hub, or its cached snapshot.

    Raises
    ------
    InputError
        When neither the hub nor the cache has it, or what they have cannot be used.
    """
    try:
        return _from_hub(address, trust_remote_code=trust_remote_code)
    except InputError:
        raise
    except Exception as error:
        problem = hub_problem(error, address.repo, address.revision)
        if problem is None:
            raise
        snapshot = _cached_snapshot(address)
        if snapshot is None:
            raise InputError(
                f"{address.text!r} is no folder here and not in the catalogue, and {problem.reason}; {problem.remedy}"
                f"{catalogue.did_you_mean(address.text)}"
            ) from error
    return _from_cache(address, snapshot, problem.reason, trust_remote_code=trust_remote_code)


def _from_hub(address: HubAddress, *, trust_remote_code: bool) -> ModelSource:
    from huggingface_hub import HfApi, constants

    info = HfApi().model_info(
        address.repo, revision=address.revision, timeout=constants.HF_HUB_ETAG_TIMEOUT
    )
    all_names = [file.rfilename for file in info.siblings or ()]
    prefix = address.path("")
    names = [name.removeprefix(prefix) for name in all_names if name.startswith(prefix)]
    download = partial(_download, address)
    if CONFIG_FILE not in names:
        raise without_config(address.text, names, lambda name: read_text(download(name)))
    # Asked for by the user's revision and not by the commit: this is how huggingface_hub learns
    # which commit a branch is at, and a later run finds the snapshot offline.
    config_path = download(CONFIG_FILE)
    snapshot = _snapshot(address, config_path)
    source = _source(address, snapshot, trust_remote_code=trust_remote_code)
    if source.code_folder is not None:
        for name in all_names:
            if name.endswith(".py"):
                _download(replace(address, subfolder=None, revision=snapshot.commit), name)
    return _with_weights(source, _remote_weights(address, snapshot, names))


def _from_cache(
    address: HubAddress, snapshot: Snapshot, reason: str, *, trust_remote_code: bool
) -> ModelSource:
    source = _source(address, snapshot, trust_remote_code=trust_remote_code)
    try:
        weights = read_folder_weights(snapshot.folder)
    except IncompleteWeights:
        weights = StoredWeights()
    lacking = "" if weights.tensors is not None else ", which has no weights"
    note = f"the cached snapshot {snapshot.commit[:12]} is used{lacking}: {reason}"
    return _with_weights(source, replace(weights, notes=(note,)))


def _source(address: HubAddress, snapshot: Snapshot, *, trust_remote_code: bool) -> ModelSource:
    where = f"{address.text}: {CONFIG_FILE}"
    config = parse_object(read_text(snapshot.folder / CONFIG_FILE), where)
    library, class_name = library_and_class(config, where)
    return ModelSource(
        id=address.text.partition("@")[0],
        origin="hub",
        location=address.repo,
        library=library,
        class_name=class_name,
        config=config,
        dtype=stated_dtype(config),
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


def _remote_weights(address: HubAddress, snapshot: Snapshot, names: list[str]) -> StoredWeights:
    main = main_weight_file(names)
    if main is None:
        return StoredWeights(notes=no_weights_notes(names))
    pinned = replace(address, revision=snapshot.commit)
    if not main.endswith(INDEX_SUFFIX):
        return StoredWeights(tensors=_remote_header(pinned, main))
    index = parse_index(read_text(_download(pinned, main)), f"{address.text}: {main}")
    headers = _remote_headers(pinned, index.shards)
    return StoredWeights(tensors=merge(headers), metadata=index.metadata)


def _remote_headers(pinned: HubAddress, shards: Iterable[str]) -> Iterable[dict[str, StoredTensor]]:
    with ThreadPoolExecutor(max_workers=_NUM_REQUESTS) as pool:
        return list(pool.map(partial(_remote_header, pinned), shards))


def _remote_header(pinned: HubAddress, name: str) -> dict[str, StoredTensor]:
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.utils import SafetensorsParsingError

    path = pinned.path(name)
    cached = try_to_load_from_cache(pinned.repo, path, revision=pinned.revision)
    if isinstance(cached, str):
        return read_header(Path(cached))
    where = f"{pinned.text}: {name}"
    try:
        header = HfApi().parse_safetensors_file_metadata(
            pinned.repo, path, revision=pinned.revision
        )
    except SafetensorsParsingError as error:
        raise InputError(f"{where} on the hub is no safetensors file") from error
    return {
        key: stored_tensor(key, tensor.dtype, tensor.shape, where)
        for key, tensor in header.tensors.items()
    }


def _download(address: HubAddress, name: str) -> Path:
    from huggingface_hub import hf_hub_download

    path = hf_hub_download(address.repo, address.path(name), revision=address.revision)
    return Path(path)


def _snapshot(address: HubAddress, config_path: Path) -> Snapshot:
    folder = config_path.parent
    depth = len(Path(address.subfolder).parts) if address.subfolder else 0
    return Snapshot(root=config_path.parents[depth], folder=folder)


def _cached_snapshot(address: HubAddress) -> Snapshot | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(
        address.repo, address.path(CONFIG_FILE), revision=address.revision
    )
    return _snapshot(address, Path(found)) if isinstance(found, str) else None
