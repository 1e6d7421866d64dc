"""The default name of a map file: ``maps/<model>__<machine>__<workload>.yaml``.

It is lower case, safe on every file system, and equal for equal input.  Reserve, pins and objective
are not part of it; `devplan.mapfile.write` replaces a different map only with ``--force``.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from devplan.core import Workload, quantize_label

FOLDER = "maps"

# File systems end at 255 bytes for a name (POSIX NAME_MAX on Linux, macOS and NTFS): three parts
# of 80 and their separators stay below.
_LONGEST_PART = 80


def default_path(
    model_id: str,
    machine_label: str,
    workload: Workload,
    *,
    packed: bool = False,
    quantize: str | None = None,
) -> Path:
    """The path of a map where none is given.

    `packed` and `quantize` are those of the map's model.

    >>> default_path("Qwen/Qwen2.5-VL-7B-Instruct", "24+12gib", Workload(context=4096)).as_posix()
    'maps/qwen2.5-vl-7b-instruct__24+12gib__b1-c4096.yaml'
    """
    label = f"{model_label(model_id)}-packed" if packed else model_label(model_id)
    if quantize is not None:
        label = f"{label}-{quantize_label(quantize)}"
    parts = (label, machine_label, workload_label(workload))
    return Path(FOLDER) / f"{'__'.join(_file_safe(part) for part in parts)}.yaml"


def model_label(model_id: str) -> str:
    """The model without its owner: a subfolder of a hub repository is joined by ``-``."""
    components = [part for part in re.split(r"[/\\]", model_id) if part]
    is_local = model_id.startswith(("/", ".", "~")) or "\\" in model_id
    if not components or is_local:
        return components[-1] if components else ""
    return "-".join(components[1:] or components)


def workload_label(workload: Workload) -> str:
    """``b1-c32768``, and the dtypes and images where they are given."""
    text = f"b{workload.batch}-c{workload.tokens}"
    if workload.dtype:
        text += f"-{workload.dtype}"
    if workload.kv_dtype:
        text += f"-kv-{workload.kv_dtype}"
    if workload.images is not None:
        text += f"-i{workload.images}"
    if workload.image_size is not None:
        text += "-{}x{}".format(*workload.image_size)
    if workload.frames is not None:
        text += f"-f{workload.frames}"
    text += "-tiled" if workload.tiling else ""
    return text


def _file_safe(text: str) -> str:
    safe = re.sub(r"[^a-z0-9._+-]+", "-", text.lower()).strip("-.") or "unnamed"
    if len(safe) <= _LONGEST_PART:
        return safe
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{safe[: _LONGEST_PART - 9]}-{digest}"
