"""Which files of a checkpoint ``from_pretrained`` will open, found the way it finds them.

safetensors before pickles, a whole file before an index (``_get_resolved_checkpoint_files`` in
``transformers/modeling_utils.py``, 5.23; ``ModelMixin.from_pretrained`` of diffusers, 0.42.1).
Files on the hub are fetched here into huggingface_hub's cache, where ``from_pretrained`` finds
them: they are looked at before anything is loaded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devplan.core import InputError
from devplan.io import parse_json
from devplan.models import CONFIG_FILE, parse_shard_index, read_config_text, require_inside

_SAFETENSORS = {
    "transformers": "model.safetensors",
    "diffusers": "diffusion_pytorch_model.safetensors",
}
_PICKLES = {"transformers": "pytorch_model.bin", "diffusers": "diffusion_pytorch_model.bin"}

# Checkpoints of these kinds are read by other code than that which is followed here.
_OTHER_KINDS = ("gguf_file", "state_dict")


@dataclass(frozen=True, kw_only=True)
class CheckpointFiles:
    """The files of a checkpoint on this machine."""

    folder: Path
    index: Path | None
    """The index of a sharded one."""
    shards: tuple[Path, ...]
    """In the order of their names; some may not be there."""
    tensors_of: Mapping[str, frozenset[str]]
    """Name of a shard -> the tensors that the index has in it."""
    are_pickles: bool
    stated_bytes: int | None = None
    """Of all tensors together, where the index says so."""


def checkpoint_files(
    location: str, library: str, arguments: Mapping[str, Any]
) -> CheckpointFiles | None:
    """The files that ``from_pretrained`` will open.

    Parameters
    ----------
    location
        A folder, or an id on the hub.
    library
        ``transformers`` or ``diffusers``.
    arguments
        Those of ``from_pretrained``: ``subfolder``, ``variant``, ``use_safetensors``, ``revision``
        and those of the hub count.

    Returns
    -------
    CheckpointFiles or None
        None for what devplan does not look into: GGUF, state dicts, adapters, and ids on the hub
        that cannot be reached, of which ``from_pretrained`` will say why.

    Raises
    ------
    InputError
        When a folder holds no weights, or its index cannot be read.
    """
    if any(arguments.get(kind) is not None for kind in _OTHER_KINDS):
        return None
    folder = Path(location).expanduser()
    if folder.is_dir():
        return _in_folder(folder / (arguments.get("subfolder") or ""), library, arguments)
    return _on_hub(location, library, arguments)


def _candidates(library: str, arguments: Mapping[str, Any]) -> list[str]:
    """Names of files in the order in which they are looked for."""
    allowed = arguments.get("use_safetensors")
    names = [] if allowed is False else [_SAFETENSORS[library]]
    if not allowed:
        names.append(_PICKLES[library])
    variant = arguments.get("variant")
    return [_with_variant(form, variant) for name in names for form in (name, _index_of(name))]


def _index_of(name: str) -> str:
    return f"{name}.index.json"


def _with_variant(name: str, variant: str | None) -> str:
    """``model.fp16.safetensors``, ``model.safetensors.index.fp16.json``."""
    stem, _, suffix = name.rpartition(".")
    return f"{stem}.{variant}.{suffix}" if variant else name


def _in_folder(folder: Path, library: str, arguments: Mapping[str, Any]) -> CheckpointFiles | None:
    if (folder / "adapter_config.json").is_file():
        return None
    names = [*_named_by_config(folder), *_candidates(library, arguments)]
    main = next((name for name in names if (folder / name).is_file()), None)
    if main is None:
        looked = " or ".join(name for name in names if not name.endswith(".json"))
        raise InputError(
            f"{folder} holds no weights that {library} would load ({looked}, whole or with an "
            f"index); download them, or give another folder{_variants_there(folder)}"
        )
    return _files(folder / main, lambda names: [folder / name for name in names])


def _named_by_config(folder: Path) -> list[str]:
    """The file that a config names itself (``transformers_weights``)."""
    try:
        config = parse_json(read_config_text(folder / CONFIG_FILE), CONFIG_FILE)
    except InputError:
        return []
    name = config.get("transformers_weights") if isinstance(config, dict) else None
    return [require_inside(name, str(folder / CONFIG_FILE))] if isinstance(name, str) else []


def _variants_there(folder: Path) -> str:
    found = sorted(path.name for path in folder.glob("*.safetensors"))
    return f"; it has {found[0]}" if found else ""


def _files(main: Path, locate: Callable[[Sequence[str]], list[Path]]) -> CheckpointFiles:
    """The files that a whole file or an index, which is on this machine, stands for."""
    are_pickles = main.name.split(".index.")[0].endswith(".bin")
    if ".index." not in main.name:
        return CheckpointFiles(
            folder=main.parent,
            index=None,
            shards=(main,),
            tensors_of={},
            are_pickles=are_pickles,
        )
    parsed = parse_shard_index(read_config_text(main), str(main))
    tensors: dict[str, set[str]] = {shard: set() for shard in parsed.shards}
    for tensor, shard in parsed.shard_of.items():
        tensors[shard].add(tensor)
    return CheckpointFiles(
        folder=main.parent,
        index=main,
        shards=tuple(locate(parsed.shards)),
        tensors_of={shard: frozenset(names) for shard, names in tensors.items()},
        are_pickles=are_pickles,
        stated_bytes=_whole_number(parsed.metadata.get("total_size")),
    )


def _whole_number(value: Any) -> int | None:
    """JSON writers have left ``1234.0`` there."""
    return int(value) if isinstance(value, int | float) else None


# --------------------------------------------------------------------------------- on the hub

# As many as huggingface_hub's own snapshot_download has in flight (2.4).
_NUM_DOWNLOADS = 8

_HUB_ARGUMENTS = ("revision", "cache_dir", "token", "local_files_only")


def _on_hub(location: str, library: str, arguments: Mapping[str, Any]) -> CheckpointFiles | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError

    told = {k: arguments[k] for k in _HUB_ARGUMENTS if arguments.get(k) is not None}
    subfolder = arguments.get("subfolder")

    def fetch(name: str) -> Path:
        return Path(hf_hub_download(location, name, subfolder=subfolder, **told))

    def fetch_all(names: Sequence[str]) -> list[Path]:
        with ThreadPoolExecutor(max_workers=_NUM_DOWNLOADS) as pool:
            return list(pool.map(fetch, names))

    with contextlib.suppress(HfHubHTTPError, HFValidationError, OSError):
        fetch(CONFIG_FILE)
    for main in _candidates(library, arguments):
        try:
            return _files(fetch(main), fetch_all)
        except EntryNotFoundError:
            continue
        except (HfHubHTTPError, HFValidationError, OSError):
            return None
    return None
