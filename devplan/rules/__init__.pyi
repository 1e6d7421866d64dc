# What other subpackages may import from here; each name is loaded when it is first asked for.
from .context import (
    CheckContext as CheckContext,
)
from .context import (
    Structure as Structure,
)
from .context import (
    TensorFact as TensorFact,
)
from .environment import (
    CARD_MISSING as CARD_MISSING,
)
from .environment import (
    OF_CARDS as OF_CARDS,
)
from .environment import (
    OFFLOAD_ROOM as OFFLOAD_ROOM,
)
from .environment import (
    compare_model as compare_model,
)
from .environment import (
    differences as differences,
)
from .environment import (
    errors as errors,
)
from .environment import (
    obstacles as obstacles,
)
from .fixes import (
    entries_that_meet as entries_that_meet,
)
from .fixes import (
    entry_behind as entry_behind,
)
from .fixes import (
    is_embedding_away as is_embedding_away,
)
from .fixes import (
    spelled_out as spelled_out,
)
from .loads import (
    device_loads as device_loads,
)
from .loads import (
    tensor_bytes as tensor_bytes,
)
from .mismatches import (
    odd_operands as odd_operands,
)
from .places import (
    counted as counted,
)
from .places import (
    listed as listed,
)
from .table import (
    FAMILIES as FAMILIES,
)
from .table import (
    RULES as RULES,
)
from .table import (
    Rule as Rule,
)
from .unknown_module import (
    Renames as Renames,
)
