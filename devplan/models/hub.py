"""A model on the hub: configuration and safetensors headers, never weight data.

Three kinds of requests, all through huggingface_hub (so that HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE
and its cache hold): the list of files, the small JSON files (and, if remote code is trusted, the
``*.py`` files), and the first bytes of each safetensors file.  A shard in the cache is read there.

Where the hub does not answer, refuses, or is not to be asked, a cached snapshot is used and a note
says so; without one, the error says what the hub answered.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from devplan.core import InputError
from devplan.models.config import CONFIG_FILE, is_below, read_config_text, require_inside
from devplan.models.files import PIPELINE_FILE, source_of_files, without_config
from devplan.models.folder import FolderFiles
from devplan.models.from_catalog import did_you_mean
from devplan.models.hub_errors import OddAnswer, hub_problem
from devplan.models.source import ModelSource, StoredTensor
from devplan.models.stored_tensors import (
    INDEX_SUFFIX,
    IncompleteWeights,
    StoredWeights,
    main_weight_file,
    merge,
    no_weights_notes,
    parse_shard_index,
    read_folder_weights,
    read_header,
    stored_tensor,
)

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
"""Of git, by SHA-1 or SHA-256."""
# Header requests in flight; deepseek-ai/DeepSeek-V3, among the largest, has 163 shards.
_NUM_REQUESTS = 8


@dataclass(frozen=True, kw_only=True)
class HubAddress:
    """A repository, a commit-ish of it, and a folder in it."""

    text: str
    """As the user typed it."""
    repo: str
    revision: str | None
    subfolder: str | None

    @property
    def model(self) -> str:
        """Repository and subfolder, without the revision: how the user would type it again."""
        return f"{self.repo}/{self.subfolder}" if self.subfolder else self.repo

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
            f"{model!r} is not a folder, not in the catalogue, and no hub id, which is written "
            f"org/name in letters, digits, '-', '_' and '.'{did_you_mean(model)}"
        ) from error
    for part in ("/".join(below), inline, revision):
        if part and not is_below(part):
            raise InputError(
                f"{model!r}: {part!r} is not a folder or revision of {org}/{name}; write "
                "org/name/folder or org/name@revision"
            )
    return HubAddress(
        text=model,
        repo=f"{org}/{name}",
        revision=inline or revision,
        subfolder="/".join(below) or None,
    )


def download(address: HubAddress, name: str) -> Path:
    """Local path of a file of the model, fetched where the cache does not have it."""
    from huggingface_hub import hf_hub_download

    path = hf_hub_download(address.repo, address.path(name), revision=address.revision)
    return Path(path)


def snapshot_of(address: HubAddress, config_path: Path) -> Snapshot:
    """The snapshot that a downloaded config.json lies in."""
    folder = config_path.parent
    depth = len(Path(address.subfolder).parts) if address.subfolder else 0
    snapshot = Snapshot(root=config_path.parents[depth], folder=folder)
    if not _COMMIT.fullmatch(snapshot.commit):
        raise OddAnswer(f"{snapshot.commit} is not a commit")
    return snapshot


def cached_snapshot(address: HubAddress, name: str = CONFIG_FILE) -> Snapshot | None:
    """The snapshot in the cache that has a file, without asking the hub; None: there is none."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(address.repo, address.path(name), revision=address.revision)
    # [pruned] a cache that was cleared by hand holds links to files that are gone.
    if not isinstance(found, str) or not os.path.isfile(found):
        return None
    try:
        return snapshot_of(address, Path(found))
    except OddAnswer:
        return None


# ------------------------------------------------------------------------------ what is there


def _identity(address: HubAddress, snapshot: Snapshot, trust_remote_code: bool) -> ModelSource:
    return ModelSource(
        id=address.model,
        origin="hub",
        location=address.repo,
        library="transformers",
        subfolder=address.subfolder,
        revision=snapshot.commit,
        trust_remote_code=trust_remote_code,
    )


@dataclass(frozen=True, kw_only=True)
class HubFiles:
    """The files of one commit on the hub, fetched where the cache does not have them."""

    pinned: HubAddress
    """With a commit as its revision, so that all files are of one commit."""
    listed: Sequence[str]
    snapshot: Snapshot
    identity: ModelSource

    @property
    def typed(self) -> str:
        return self.pinned.text

    def names(self) -> Sequence[str]:
        return self.listed

    def where(self, name: str) -> str:
        return f"{self.typed}: {name}"

    def read(self, name: str) -> str | None:
        return read_config_text(download(self.pinned, name)) if name in self.listed else None

    def weights(self, component: str = "") -> StoredWeights:
        if not component:
            return remote_weights(self.pinned, self.listed)
        prefix = f"{component}/"
        inside = [name.removeprefix(prefix) for name in self.listed if name.startswith(prefix)]
        below = replace(self.pinned, subfolder=self.pinned.path(component))
        return remote_weights(below, inside)

    def code_folder(self) -> str:
        for name in self.listed:
            if name.endswith(".py"):
                download(self.pinned, name)
        return str(self.snapshot.folder)


class CachedFiles(FolderFiles):
    """The files of a snapshot in the cache, where the hub cannot be asked."""

    def where(self, name: str) -> str:
        return f"{self.typed}: {name}"

    def weights(self, component: str = "") -> StoredWeights:
        try:
            return read_folder_weights(self.folder / component)
        except IncompleteWeights:
            return StoredWeights()


# ---------------------------------------------------------------------------------- resolving


def resolve_hub(address: HubAddress, *, trust_remote_code: bool) -> ModelSource:
    """The model at an address of the hub, or its cached snapshot.

    Raises
    ------
    InputError
        When neither the hub nor the cache has it, or what they have cannot be used.
    """
    try:
        with _quietly():
            return _from_hub(address, trust_remote_code)
    except InputError:
        raise
    except Exception as error:
        problem = hub_problem(error, address.repo, address.revision)
        if problem is None:
            raise
        snapshot = cached_snapshot(address) or cached_snapshot(address, PIPELINE_FILE)
        if snapshot is None:
            raise InputError(
                f"{_what_was_asked(address)}{problem.reason}; {problem.remedy}"
                f"{did_you_mean(address.text)}"
            ) from error
    return _from_cache(address, snapshot, problem.reason, trust_remote_code)


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


def _from_hub(address: HubAddress, trust_remote_code: bool) -> ModelSource:
    from huggingface_hub import HfApi, constants

    info = HfApi().model_info(
        address.repo, revision=address.revision, timeout=constants.HF_HUB_ETAG_TIMEOUT
    )
    where = f"the list of files of {address.repo}"
    listed = (file.rfilename for file in info.siblings or ())
    all_names = [require_inside(name, where) for name in listed if isinstance(name, str)]
    prefix = address.path("")
    names = [name.removeprefix(prefix) for name in all_names if name.startswith(prefix)]
    first = next((name for name in (CONFIG_FILE, PIPELINE_FILE) if name in names), None)
    if first is None:
        raise without_config(
            address.text, names, lambda name: read_config_text(download(address, name))
        )
    # Asked for by the user's revision and not by the commit: this is how huggingface_hub learns
    # which commit a branch is at, and a later run finds the snapshot offline.
    snapshot = snapshot_of(address, download(address, first))
    return source_of_files(
        HubFiles(
            pinned=replace(address, revision=snapshot.commit),
            listed=names,
            snapshot=snapshot,
            identity=_identity(address, snapshot, trust_remote_code),
        )
    )


def _from_cache(
    address: HubAddress, snapshot: Snapshot, reason: str, trust_remote_code: bool
) -> ModelSource:
    identity = _identity(address, snapshot, trust_remote_code)
    files = CachedFiles(typed=address.text, folder=snapshot.folder, identity=identity)
    source = source_of_files(files)
    used = f"the cached snapshot {snapshot.commit[:12]} is used"
    if source.components:
        return replace(source, notes=(*source.notes, f"{used}: {reason}"))
    lacking = "" if source.stored is not None else ", which lacks weights"
    return replace(source, notes=(f"{used}{lacking}: {reason}",))


# ------------------------------------------------------------------------------------ headers


def remote_weights(pinned: HubAddress, names: Sequence[str]) -> StoredWeights:
    """Headers of the weights of a model on the hub.

    Parameters
    ----------
    pinned : HubAddress
        With a commit as its revision, so that all files are of the same one.
    names : sequence of str
        The files of the model.

    Raises
    ------
    InputError
        When a file is no safetensors file, or its index is broken.
    """
    main = main_weight_file(names)
    if main is None:
        return StoredWeights(notes=no_weights_notes(names))
    if not main.endswith(INDEX_SUFFIX):
        return StoredWeights(tensors=_remote_header(pinned, main))
    index = parse_shard_index(read_config_text(download(pinned, main)), f"{pinned.text}: {main}")
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
    if isinstance(cached, str) and os.path.isfile(cached):
        return read_header(Path(cached))
    where = f"{pinned.text}: {name}"
    try:
        header = HfApi().parse_safetensors_file_metadata(
            pinned.repo, path, revision=pinned.revision
        )
    except SafetensorsParsingError as error:
        raise InputError(f"{where} on the hub is not a safetensors file") from error
    return {
        key: stored_tensor(key, tensor.dtype, tensor.shape, where)
        for key, tensor in header.tensors.items()
    }
