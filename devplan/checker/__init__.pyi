# What other subpackages may import from here; each name is loaded when it is first asked for.
from .accepted import (
    BASELINE_VERSION as BASELINE_VERSION,
)
from .accepted import (
    Baseline as Baseline,
)
from .accepted import (
    apply_baseline as apply_baseline,
)
from .accepted import (
    baseline_text as baseline_text,
)
from .accepted import (
    checked_ignores as checked_ignores,
)
from .accepted import (
    fingerprint as fingerprint,
)
from .accepted import (
    ignore_codes as ignore_codes,
)
from .accepted import (
    parse_ignores as parse_ignores,
)
from .accepted import (
    read_baseline as read_baseline,
)
from .baselines import (
    CPU_TOO as CPU_TOO,
)
from .baselines import (
    STRATEGIES as STRATEGIES,
)
from .baselines import (
    accelerate_by_hand as accelerate_by_hand,
)
from .baselines import (
    from_pretrained_strategy as from_pretrained_strategy,
)
from .baselines import (
    inferred_map as inferred_map,
)
from .checking import (
    check as check,
)
from .from_model import (
    unwrapped as unwrapped,
)
from .locking import (
    lock_file as lock_file,
)
from .locking import (
    reasons_against as reasons_against,
)
from .matrix import (
    FEW_TOKENS as FEW_TOKENS,
)
from .matrix import (
    workload_calls as workload_calls,
)
from .preparation import (
    Built as Built,
)
from .preparation import (
    context_of as context_of,
)
from .preparation import (
    prepare as prepare,
)
from .preparation import (
    refuse_other_model as refuse_other_model,
)
from .results import (
    requiring_runs as requiring_runs,
)
from .results import (
    result_of as result_of,
)
from .results import (
    strictly as strictly,
)
from .run_options import (
    CHECK_ARGUMENTS as CHECK_ARGUMENTS,
)
from .run_options import (
    PLANNED as PLANNED,
)
from .run_options import (
    USUAL as USUAL,
)
from .run_options import (
    RunOptions as RunOptions,
)
from .run_options import (
    checked_run as checked_run,
)
from .running import (
    run_all as run_all,
)
from .running import (
    run_prepared as run_prepared,
)
from .showing import (
    diff_lines as diff_lines,
)
from .showing import (
    entry_place as entry_place,
)
from .showing import (
    source_lines as source_lines,
)
from .showing import (
    tensor_lines as tensor_lines,
)
from .structure import (
    structure_as_it_lies as structure_as_it_lies,
)
from .structure import (
    structure_of as structure_of,
)
