# What other subpackages may import from here; each name is loaded when it is first asked for.
from .bisection import (
    MAX_TOKENS as MAX_TOKENS,
)
from .bisection import (
    largest as largest,
)
from .capacity import (
    LARGEST_BATCH as LARGEST_BATCH,
)
from .capacity import (
    fewest_cards as fewest_cards,
)
from .capacity import (
    plan_most_sequences as plan_most_sequences,
)
from .capacity import (
    plan_most_tokens as plan_most_tokens,
)
from .pipeline import (
    plan_pipeline as plan_pipeline,
)
from .planner import (
    plan as plan,
)
from .traffic import (
    with_recorded_traffic as with_recorded_traffic,
)
from .traffic import (
    without_uncounted as without_uncounted,
)
