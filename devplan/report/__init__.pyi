# What other subpackages may import from here; each name is loaded when it is first asked for.
from .catalog import (
    gpus_json as gpus_json,
)
from .catalog import (
    gpus_text as gpus_text,
)
from .catalog import (
    model_json as model_json,
)
from .catalog import (
    model_text as model_text,
)
from .catalog import (
    models_json as models_json,
)
from .catalog import (
    models_text as models_text,
)
from .compare import (
    compare_json as compare_json,
)
from .compare import (
    compare_text as compare_text,
)
from .diff import (
    diff_json as diff_json,
)
from .diff import (
    diff_text as diff_text,
)
from .environment import (
    difference_lines as difference_lines,
)
from .environment import (
    doctor_json as doctor_json,
)
from .environment import (
    doctor_text as doctor_text,
)
from .explanation import (
    explained_json as explained_json,
)
from .explanation import (
    explained_text as explained_text,
)
from .explanation import (
    rule_text as rule_text,
)
from .explanation import (
    rules_text as rules_text,
)
from .findings import (
    check_report as check_report,
)
from .findings import (
    known_format as known_format,
)
from .fit import (
    fit_json as fit_json,
)
from .fit import (
    fit_text as fit_text,
)
from .suggestion import (
    infeasible_json as infeasible_json,
)
from .suggestion import (
    infeasible_text as infeasible_text,
)
from .suggestion import (
    plan_json as plan_json,
)
from .suggestion import (
    plan_text as plan_text,
)
from .sums import (
    does_not_run as does_not_run,
)
from .sums import (
    sums_text as sums_text,
)
from .terminal import (
    SEQUENCES as SEQUENCES,
)
from .terminal import (
    Terminal as Terminal,
)
from .terminal import (
    known_table_format as known_table_format,
)
from .terminal import (
    terminal_of as terminal_of,
)
