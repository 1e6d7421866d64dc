# What other subpackages may import from here; each name is loaded when it is first asked for.
from .adapter import (
    device_map as device_map,
)
from .applying import (
    apply as apply,
)
from .auditing import (
    audit as audit,
)
from .inputs import (
    to_main as to_main,
)
from .loading import (
    load as load,
)
