# What other subpackages may import from here; each name is loaded when it is first asked for.
from .applying import (
    apply as apply,
)
from .auditing import (
    Audit as Audit,
)
from .auditing import (
    audit as audit,
)
from .dispatching import (
    to_main as to_main,
)
from .loading import (
    load as load,
)
from .target import (
    device_map as device_map,
)
