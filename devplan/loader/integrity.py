"""A checkpoint looked at before anything of it is loaded: each damage gets one line.

Only headers are read.  What is refused:

* shards that the index names and that are not there;
* a file that is shorter than its header says, or no safetensors file;
* tensors that the index has in a shard which does not hold them;
* shards of two checkpoints: in different dtypes, and not of the size that the index states;
* weights that are packed (integers, 8-bit floats) for a map of unquantized ones, or the reverse;
* pickles that would run code.

Floats of another width than the map's are no damage: they are converted while they are loaded,
which is said in the log.
"""

from __future__ import annotations

import logging
import pickle
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from devplan.core import DeviceMapFile, InputError, one_line, stored_float
from devplan.loader.checkpoint_files import CheckpointFiles
from devplan.mapfile import load_dtype
from devplan.models import (
    CONFIG_FILE,
    StoredTensor,
    names_code,
    parse_object,
    read_config_text,
    read_header,
)

log = logging.getLogger("devplan")


def check_integrity(
    files: CheckpointFiles, content: DeviceMapFile, *, quantizes: bool = False
) -> None:
    """Refuse a damaged checkpoint, or one that is not of the map's kind.

    Parameters
    ----------
    files
        What ``from_pretrained`` will open.
    content
        The map.
    quantizes
        Whether ``from_pretrained`` is told to quantize what is stored in floats.

    Raises
    ------
    InputError
        One line: what is wrong with which file, and what to do.
    """
    _refuse_missing(files)
    if files.are_pickles:
        refuse_pickled_code(files.shards)
        return
    headers = {path: read_header(path) for path in files.shards}
    for path, header in headers.items():
        _refuse_absent_tensors(files, path, header)
    _refuse_mixed(files, headers)
    if not quantizes:
        _refuse_unquantized(files.folder, content)
    _compare_dtype(files.folder, headers, content)


def refuse_fetched_code(folder: Path) -> None:
    """Refuse a configuration that has ``from_pretrained`` fetch an attention from a repository.

    Raises
    ------
    InputError
        With the entry, and how to choose another.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        return
    for key, value in _entries(parse_object(read_config_text(path), str(path))):
        if key != "auto_map" and names_code(key, value):
            raise InputError(
                f"{path} has {key}: {value!r}, which is code of another repository; remove it, or, "
                "if you trust it, give trust_remote_code=True"
            )


def _entries(config: Any) -> Iterator[tuple[str, Any]]:
    """Every entry of a configuration, at any depth."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield str(key), value
            yield from _entries(value)


def _refuse_missing(files: CheckpointFiles) -> None:
    missing = [path.name for path in files.shards if not path.is_file()]
    if not missing:
        return
    named = f" that {files.index.name} names" if files.index else ""
    raise InputError(
        f"{files.folder / missing[0]} is missing: {len(missing)} of the {len(files.shards)} shards"
        f"{named} are not there; download them again"
    )


def _refuse_absent_tensors(
    files: CheckpointFiles, path: Path, header: Mapping[str, StoredTensor]
) -> None:
    absent = sorted(files.tensors_of.get(path.name, frozenset()) - header.keys())
    if absent:
        raise InputError(
            f"{path} lacks {len(absent)} tensors that {files.index.name} has in it, such as "
            f"{absent[0]}; the index is of another checkpoint: download both again"
        )


def _refuse_mixed(
    files: CheckpointFiles, headers: Mapping[Path, Mapping[str, StoredTensor]]
) -> None:
    """Refuse a shard in another dtype than its siblings, where the index counts other bytes.

    Shards may differ rightly: a tower in float32 beside a text model in bfloat16.  Then the bytes
    of all tensors are those that the index states.
    """
    by_dtype: dict[str, list[Path]] = {}
    for path, header in headers.items():
        dtype = main_dtype(header.values())
        if stored_float(dtype or ""):
            by_dtype.setdefault(dtype, []).append(path)
    num_bytes = sum(tensor.bytes for header in headers.values() for tensor in header.values())
    if len(by_dtype) < 2 or files.stated_bytes == num_bytes:
        return
    *_, usual = sorted(by_dtype, key=lambda dtype: len(by_dtype[dtype]))
    odd = next(dtype for dtype in by_dtype if dtype != usual)
    counted = ""
    if files.stated_bytes is not None:
        counted = (
            f", and the tensors are {num_bytes} bytes, not the {files.stated_bytes} of the index"
        )
    raise InputError(
        f"{by_dtype[odd][0]} is in {stored_float(odd)} and {by_dtype[usual][0].name} in "
        f"{stored_float(usual)}{counted}: they are of two checkpoints; download them again"
    )


def main_dtype(tensors: Iterable[StoredTensor]) -> str | None:
    """The dtype of most bytes, as safetensors calls it; None of nothing."""
    num_bytes: Counter[str] = Counter()
    for tensor in tensors:
        num_bytes[tensor.dtype] += tensor.bytes
    return max(num_bytes, key=num_bytes.__getitem__) if num_bytes else None


def _refuse_unquantized(folder: Path, content: DeviceMapFile) -> None:
    """A quantized checkpoint says so in its configuration; else it is loaded as it is stored."""
    path, wanted = folder / CONFIG_FILE, content.model.quantization
    if wanted is None or not path.is_file():
        return
    config = parse_object(read_config_text(path), str(path))
    texts = (config, config.get("text_config") or {})
    if not any(part.get("quantization_config") for part in texts):
        raise InputError(
            f"{folder} is not quantized, the map is of {wanted}: it is another checkpoint; load "
            "the one that the map was made for, or give quantization_config=, or plan again: "
            f"devplan suggest {folder}"
        )


def _compare_dtype(
    folder: Path, headers: Mapping[Path, Mapping[str, StoredTensor]], content: DeviceMapFile
) -> None:
    stored = main_dtype(tensor for header in headers.values() for tensor in header.values())
    if stored is None:
        return
    is_packed, quantized = stored_float(stored) is None, content.model.quantization
    if is_packed and quantized is None:
        raise InputError(
            f"{folder} stores most weights as {stored}, the map is of unquantized "
            f"{content.model.dtype}: it is another checkpoint; plan again: devplan suggest {folder}"
        )
    wanted = load_dtype(content)
    if quantized is None and wanted != "auto" and stored_float(stored) != wanted:
        log.info("%s is stored in %s and converted to %s", folder, stored_float(stored), wanted)


# Pickles (``.bin``) are read with ``weights_only=True`` or not at all: a pickle may name any
# function to be called when it is opened, and ``weights_only`` lets only tensors and plain
# containers through.  Each file is opened once on the meta device before anything is loaded, so no
# tensor is read and a pickle that would fail later is refused now.


def refuse_pickled_code(files: Iterable[Path]) -> None:
    """Refuse pickles that name more than tensors, and files that cannot be opened.

    Raises
    ------
    InputError
        One line with the file and what it names.
    """
    for path in files:
        try:
            _open_without_data(path)
        except pickle.UnpicklingError as error:
            raise InputError(
                f"{path} would run code when it is opened{_named(path)}; devplan loads pickles "
                "only with weights_only: convert it to safetensors where you trust it"
            ) from error
        except (RuntimeError, EOFError, OSError, ValueError) as error:
            detail = one_line(error, 120)
            raise InputError(
                f"{path} ({path.stat().st_size} bytes) is truncated or no PyTorch checkpoint "
                f"({detail}); download it again"
            ) from error


def _open_without_data(path: Path) -> None:
    more = {"mmap": True} if zipfile.is_zipfile(path) else {}
    torch.load(path, map_location="meta", weights_only=True, **more)


def _named(path: Path) -> str:
    """What the pickle names beside tensors, where torch can tell (2.6 and later)."""
    tell = getattr(torch.serialization, "get_unsafe_globals_in_checkpoint", None)
    try:
        names = tell(path) if tell is not None else []
    except Exception:  # a file of any bytes
        names = []
    return f": it names {', '.join(names[:3])}" if names else ""
