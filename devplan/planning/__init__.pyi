# What other subpackages may import from here; each name is loaded when it is first asked for.
from .instance import (
    PlanRequest as PlanRequest,
)
from .planner import (
    LARGEST_BATCH as LARGEST_BATCH,
)
from .planner import (
    fewest_cards as fewest_cards,
)
from .planner import (
    plan as plan,
)
from .search import (
    MAX_TOKENS as MAX_TOKENS,
)
from .search import (
    largest as largest,
)
from .speed import (
    with_recorded_traffic as with_recorded_traffic,
)
from .speed import (
    without_uncounted as without_uncounted,
)
