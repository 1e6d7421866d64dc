"""Headers of safetensors files on the hub: the first bytes of each file, never the data."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from devplan.core import InputError
from devplan.models.config import read_config_text
from devplan.models.hub_files import HubAddress, download
from devplan.models.source import StoredTensor
from devplan.models.stored_tensors import (
    INDEX_SUFFIX,
    StoredWeights,
    main_weight_file,
    merge,
    no_weights_notes,
    parse_shard_index,
    read_header,
    stored_tensor,
)

# Header requests in flight; deepseek-ai/DeepSeek-V3, among the largest, has 163 shards.
_NUM_REQUESTS = 8


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
        raise InputError(f"{where} on the hub is no safetensors file") from error
    return {
        key: stored_tensor(key, tensor.dtype, tensor.shape, where)
        for key, tensor in header.tensors.items()
    }
