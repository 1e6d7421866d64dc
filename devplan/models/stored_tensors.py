"""Stored tensors: dtype, shape and bytes from the headers of safetensors files, never the data.

A checkpoint is one file, or an index and its shards.  The names are those that transformers and
diffusers load; other safetensors files beside them are not part of the model.

The safetensors library reads the headers: it maps the file, checks that the header covers the whole
file (so a truncated download is found) and gives 40,000 tensors in 0.1 s, against 0.2 to 0.3 s for
`json` in Python on the same machine; a file of 50 GiB costs no more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devplan.core import STORED_DTYPES, InputError
from devplan.models.config import parse_object, read_config_text, require_inside
from devplan.models.source import StoredTensor

# In the order in which the loaders of transformers and diffusers look for them.
WHOLE_FILES = ("model.safetensors", "diffusion_pytorch_model.safetensors")
INDEX_SUFFIX = ".index.json"
MOST_TENSORS = 300_000
"""Of a checkpoint; the most that are known, packed experts one by one, are 210,000."""
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
# First line of a file that git left as a pointer: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
LFS_POINTER = b"version https://git-lfs.github.com/spec/"


class IncompleteWeights(InputError):
    """Some shards are there and some are not."""


@dataclass(frozen=True, kw_only=True)
class StoredWeights:
    """What the headers say, and what the user should know about them."""

    tensors: Mapping[str, StoredTensor] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """The index of a sharded checkpoint."""

    shards: tuple[str, ...]
    shard_of: Mapping[str, str]
    """Name of a tensor -> its shard."""
    metadata: Mapping[str, Any]


def main_weight_file(names: Collection[str]) -> str | None:
    """The file among `names` that a loader would open first: a whole file or an index."""
    candidates = (c for whole in WHOLE_FILES for c in (whole, whole + INDEX_SUFFIX))
    return next((name for name in candidates if name in names), None)


def read_folder_weights(folder: Path) -> StoredWeights:
    """Headers of the safetensors files in a folder.

    Returns
    -------
    StoredWeights
        Without tensors where the folder holds none, or only an index: a note says so.

    Raises
    ------
    InputError
        For a shard that is truncated, missing (`IncompleteWeights`) or no safetensors file.
    """
    names = [entry.name for entry in folder.iterdir()]
    main = main_weight_file(names)
    if main is None:
        return StoredWeights(notes=no_weights_notes(names))
    if not main.endswith(INDEX_SUFFIX):
        shards, metadata = (main,), {}
    else:
        index = parse_shard_index(read_config_text(folder / main), str(folder / main))
        shards, metadata = index.shards, index.metadata
    missing = [shard for shard in shards if not _is_there(folder / shard)]
    if len(missing) == len(shards):
        note = f"{folder} holds no weights beside {main}: sizes are computed from the config"
        return StoredWeights(metadata=metadata, notes=(note,))
    if missing:
        raise IncompleteWeights(
            f"{missing[0]} is missing from {folder}: {len(missing)} of the {len(shards)} shards "
            f"that {main} names are not there; download them, or remove all weights to plan from "
            "the config alone"
        )
    tensors = merge(read_header(folder / shard) for shard in shards)
    return StoredWeights(tensors=tensors, metadata=metadata)


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Every tensor that the header of one safetensors file describes, by name.

    Raises
    ------
    InputError
        When the file is truncated or no safetensors file.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            names = file.keys()
            _refuse_too_many(len(names), path)
            slices = ((name, file.get_slice(name)) for name in names)
            return {
                name: stored_tensor(name, part.get_dtype(), part.get_shape(), str(path))
                for name, part in slices
            }
    except InputError:
        raise
    except Exception as error:  # SafetensorError, OSError, and what its bindings raise besides
        detail = str(error).removeprefix("Error while deserializing header: ")[:200]
        raise InputError(
            f"{path} ({_size(path)}) is truncated or not a safetensors file ({detail}); "
            "download it again"
        ) from error


def _size(path: Path) -> str:
    try:
        return f"{path.stat().st_size} bytes"
    except OSError as error:
        return str(error.strerror)


def _refuse_too_many(tensors: int, where: Path | str) -> None:
    if tensors > MOST_TENSORS:
        raise InputError(
            f"{where} has {tensors:,} tensors, and devplan plans up to {MOST_TENSORS:,}; give the "
            "folder of the model itself"
        )


def stored_tensor(name: str, dtype: str, shape: Iterable[int], where: str) -> StoredTensor:
    """A tensor whose dtype is one that devplan knows the size of."""
    if dtype not in STORED_DTYPES:
        raise InputError(
            f"{where}: tensor {name} has dtype {dtype!r}, which this version of devplan does not "
            f"know (it knows {', '.join(STORED_DTYPES)})"
        )
    return StoredTensor(name=name, dtype=dtype, shape=tuple(shape))


def parse_shard_index(text: str, where: str) -> ShardIndex:
    """Shards (each once, in the order of their names) and metadata of an index file."""
    index = parse_object(text, where)
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(s, str) for s in weight_map.values()):
        raise InputError(
            f'{where} has no "weight_map" from tensor names to file names; download it again'
        )
    metadata = index.get("metadata")
    return ShardIndex(
        shards=tuple(require_inside(name, where) for name in sorted(set(weight_map.values()))),
        shard_of=weight_map,
        metadata=metadata if isinstance(metadata, dict) else {},
    )


def merge(headers: Iterable[Mapping[str, StoredTensor]]) -> dict[str, StoredTensor]:
    """The tensors of several files as one mapping."""
    tensors: dict[str, StoredTensor] = {}
    for header in headers:
        tensors.update(header)
        _refuse_too_many(len(tensors), "the checkpoint")
    return tensors


def no_weights_notes(names: Iterable[str]) -> tuple[str, ...]:
    """What to say of files that have no safetensors weights among them."""
    names = sorted(names)
    pickles = [name for name in names if name.endswith(PICKLE_SUFFIXES)]
    if pickles:
        return (
            f"weights are pickles ({_some(pickles)}), which devplan never opens: sizes are "
            "computed from the config",
        )
    others = [name for name in names if name.endswith(".safetensors")]
    if others:
        return (
            f"{_some(others)} is not what the loaders look for (model.safetensors or its index): "
            "sizes are computed from the config",
        )
    return ()


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _is_there(path: Path) -> bool:
    """Whether the file is there, not merely the pointer that git leaves without LFS."""
    try:
        if not path.is_file():
            return False
    except OSError:  # a name that no file can have
        return False
    with path.open("rb") as file:
        return not file.read(len(LFS_POINTER)).startswith(LFS_POINTER)
