# What other subpackages may import from here; each name is loaded when it is first asked for.
from .app import (
    main as main,
)
