# What other subpackages may import from here; each name is loaded when it is first asked for.
from .comparison import (
    Comparison as Comparison,
)
from .comparison import (
    Contender as Contender,
)
from .comparison import (
    compare as compare,
)
from .description import (
    ModelSummary as ModelSummary,
)
from .description import (
    summary_of as summary_of,
)
from .evaluation import (
    CopyTotals as CopyTotals,
)
from .evaluation import (
    Evaluation as Evaluation,
)
from .evaluation import (
    peak_share as peak_share,
)
from .fit_rows import (
    FitResult as FitResult,
)
from .fit_rows import (
    Row as Row,
)
from .fitting import (
    fit as fit,
)
from .graph_build import (
    module_graph as module_graph,
)
from .graph_writing import (
    contract_layers as contract_layers,
)
from .graph_writing import (
    graph_text as graph_text,
)
from .graph_writing import (
    known_graph_format as known_graph_format,
)
from .map_diff import (
    Change as Change,
)
from .map_diff import (
    MapDiff as MapDiff,
)
from .map_diff import (
    diff as diff,
)
from .plan_runner import (
    VerifiedPlan as VerifiedPlan,
)
from .profiled_model import (
    ProfiledModel as ProfiledModel,
)
from .suggesting import (
    Suggestion as Suggestion,
)
from .suggesting import (
    suggest as suggest,
)
