# What other subpackages may import from here; each name is loaded when it is first asked for.
from .components import (
    plan_pipeline as plan_pipeline,
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
from .planner import (
    plan_most_sequences as plan_most_sequences,
)
from .planner import (
    plan_most_tokens as plan_most_tokens,
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
