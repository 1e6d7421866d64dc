# The public names; each is loaded when it is first asked for.
from .checker import RunOptions as RunOptions
from .checker import check as check
from .core import CheckResult as CheckResult
from .core import DeviceMapError as DeviceMapError
from .core import InputError as InputError
from .core import Workload as Workload
from .diagnosis import JsonFormatter as JsonFormatter
from .diagnosis import attach_diagnosis as attach_diagnosis
from .diagnosis import detach_diagnosis as detach_diagnosis
from .diagnosis import diagnose as diagnose
from .diagnosis import report_of as report_of
from .loader import apply as apply
from .loader import audit as audit
from .loader import device_map as device_map
from .loader import load as load
from .loader import to_main as to_main
from .machine import parse_gpus as parse_gpus
from .mapfile import read_map as read_map
from .mapfile import write_map as write_map
from .runtime import cache_transfers as cache_transfers
from .runtime import needed_patch as needed_patch
from .runtime import patch_embeddings as patch_embeddings
from .runtime import unpatch_embeddings as unpatch_embeddings
from .workflows import compare as compare
from .workflows import diff as diff
from .workflows import fit as fit
from .workflows import suggest as suggest

__version__: str
