# What other subpackages may import from here; each name is loaded when it is first asked for.
from .foreign import (
    CurrentFolderVisible as CurrentFolderVisible,
)
from .foreign import (
    run_foreign as run_foreign,
)
from .foreign import (
    shielded as shielded,
)
from .holding import (
    exclusive as exclusive,
)
from .holding import (
    exclusively as exclusively,
)
from .holding import (
    patched as patched,
)
from .holding import (
    patched_here as patched_here,
)
from .holding import (
    when_interrupted as when_interrupted,
)
from .limits import (
    Insistence as Insistence,
)
from .limits import (
    OutOfTime as OutOfTime,
)
from .limits import (
    TimeIsUp as TimeIsUp,
)
from .limits import (
    in_time as in_time,
)
from .limits import (
    time_limit as time_limit,
)
from .limits import (
    within as within,
)
from .state import (
    set_environment as set_environment,
)
