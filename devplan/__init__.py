"""devplan: device maps for Hugging Face models that are split over several GPUs.

The public names, imported on first use: ``import devplan`` costs nothing.
"""

# [order] nothing may be imported before the path is clean, neither typing nor __future__.
from devplan.import_path import is_run_by_name, leave_out_current_folder

if is_run_by_name():
    leave_out_current_folder()

from importlib import import_module
from typing import Any

from devplan.version import VERSION as __version__

_HOME = {
    "CheckResult": "devplan.findings",
    "DeviceMapError": "devplan.errors",
    "InputError": "devplan.errors",
    "RunOptions": "devplan.checks.run_options",
    "WorkloadRequest": "devplan.workload",
    "apply": "devplan.loader.applying",
    "audit": "devplan.loader.auditing",
    "cache_transfers": "devplan.live",
    "check": "devplan.checking",
    "compare": "devplan.comparing",
    "device_map": "devplan.loader.adapter",
    "diagnose": "devplan.diagnosis",
    "diff": "devplan.comparing",
    "fit": "devplan.fitting",
    "load": "devplan.loader.loading",
    "needed_patch": "devplan.live",
    "parse_gpus": "devplan.machine",
    "patch_embeddings": "devplan.live",
    "read_map": "devplan.mapfile",
    "suggest": "devplan.suggesting",
    "to_main": "devplan.loader.inputs",
    "unpatch_embeddings": "devplan.live",
    "write_map": "devplan.mapfile",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'devplan' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
