"""The files of an attack: texts as they stand there, and generators for what is too large to write.

A file is a text, or a mapping with one of

* ``bytes`` (Latin-1 text with escapes), ``json``, ``copy`` (a seed folder), ``link``, ``fifo``,
  ``folder``, ``sparse`` (a size in bytes, all of it a hole);
* ``repeat`` with ``times``, ``before`` and ``after``;
* ``nest`` (what opens), ``close``, ``times``, ``before``, ``middle``, ``after``;
* ``header`` (JSON or text) with ``length`` and ``data``: a safetensors file;
* ``edit``: JSON that is merged into the file that is there, ``null`` removes a key.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SEEDS = Path(__file__).parent / "seeds"
_CODE = "import os, pathlib\npathlib.Path(os.environ['CANARY']).touch()\n"
PLANTED = ("conftest.py", "modeling_canary.py", "sitecustomize.py", "canary_here.py")
"""Files with code in every current folder: nothing but the user's word may run them."""


def make_world(root: Path) -> Path:
    """The folders of one attack, and the canaries in the current one."""
    for name in ("here", "home", "tmp/torchinductor", "cache"):
        (root / name).mkdir(parents=True)
    here = root / "here"
    for name in PLANTED:
        (here / name).write_text(_CODE + "def plant(*a, **k):\n    return None\n")
    return here


def make_files(here: Path, files: Mapping[str, Any]) -> None:
    """Write the files of an attack below its current folder."""
    for name, content in files.items():
        path = here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _make(path, content)


def _make(path: Path, content: Any) -> None:
    """Write one file; what a seed folder has in its place goes away."""
    if path.is_file() and "edit" not in content:
        path.unlink()
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8", errors="surrogatepass", newline="")
    elif "copy" in content:
        copy_seed(content["copy"], path)
    elif "link" in content:
        path.symlink_to(content["link"])
    elif "fifo" in content:
        os.mkfifo(path)
    elif "folder" in content:
        path.mkdir()
    elif "sparse" in content:
        with path.open("wb") as file:
            file.truncate(int(content["sparse"]))
    elif "edit" in content:
        _edit(path, content["edit"])
    else:
        path.write_bytes(content_bytes(content))


def content_bytes(content: Mapping[str, Any]) -> bytes:
    """What a generator makes."""
    if "bytes" in content:
        return content["bytes"].encode("latin-1")
    if "json" in content:
        return json.dumps(content["json"]).encode()
    if "header" in content:
        return safetensors_bytes(**content)
    before, after = content.get("before", ""), content.get("after", "")
    times = int(content["times"])
    if "repeat" in content:
        middle = content["repeat"] * times
    else:
        middle = content["nest"] * times + content.get("middle", "") + content["close"] * times
    return (before + middle + after).encode("utf-8", errors="surrogatepass")


def safetensors_bytes(header: Any, length: int | None = None, data: int = 0) -> bytes:
    """A safetensors file; `length` is what the first eight bytes say, where it is not the truth."""
    text = header.encode() if isinstance(header, str) else json.dumps(header).encode()
    stated = len(text) if length is None else int(length)
    return struct.pack("<Q", stated) + text + bytes(data)


def _edit(path: Path, change: Mapping[str, Any]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    for key, value in change.items():
        if value is None:
            content.pop(key, None)
        else:
            content[key] = value
    path.write_text(json.dumps(content), encoding="utf-8")


def copy_seed(name: str, target: Path) -> None:
    """A seed folder, with weights that fit where its ``tensors.json`` lists them."""
    shutil.copytree(SEEDS / name, target)
    for listing in sorted(target.rglob("tensors.json")):
        shards = json.loads(listing.read_text(encoding="utf-8"))
        listing.unlink()
        for file, tensors in shards.items():
            (listing.parent / file).write_bytes(weights_bytes(tensors))


def weights_bytes(tensors: Mapping[str, list[int]]) -> bytes:
    """A safetensors file of zeros in bfloat16."""
    header, offset = {}, 0
    for name, shape in tensors.items():
        size = 2
        for number in shape:
            size *= number
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    return safetensors_bytes(header, data=offset)
