"""The dict alone, for those who load by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from devplan.core import DeviceMapFile


def device_map(
    map: str | Path | DeviceMapFile, *, devices: Mapping[str, Any] | None = None
) -> dict[str, int | str]:
    """The device map of a map file as ``from_pretrained(device_map=...)`` takes it.

    The file is checked like every map: unknown keys, wrong values and contradictions are refused
    with file and line, which ``yaml.safe_load`` would not do.

    Parameters
    ----------
    map
        A map file, or what ``devplan.mapfile.read_map`` gave.
    devices
        Card of the map -> device that stands in for it, as in `devplan.load`.

    Returns
    -------
    dict
        Module -> ``0`` for ``cuda:0``, or ``"cpu"``, ``"disk"``.

    Raises
    ------
    InputError
        When the file cannot be read or is no map; one line with file, line and remedy.

    Examples
    --------
    >>> AutoModel.from_pretrained(name, device_map=devplan.device_map("maps/x.yaml"))
    """
    from devplan.loader.target import target_of

    return target_of(map, devices).hf_device_map
