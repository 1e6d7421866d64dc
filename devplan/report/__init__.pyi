# What other subpackages may import from here; each name is loaded when it is first asked for.
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
    doctor_text as doctor_text,
)
from .environment_json import (
    doctor_json as doctor_json,
)
from .explanation import (
    explained_json as explained_json,
)
from .explanation import (
    explained_text as explained_text,
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
from .gpus import (
    gpus_json as gpus_json,
)
from .gpus import (
    gpus_text as gpus_text,
)
from .json import (
    infeasible_json as infeasible_json,
)
from .json import (
    plan_json as plan_json,
)
from .models import (
    model_json as model_json,
)
from .models import (
    model_text as model_text,
)
from .models import (
    models_json as models_json,
)
from .models import (
    models_text as models_text,
)
from .rules import (
    rule_text as rule_text,
)
from .rules import (
    rules_text as rules_text,
)
from .sums import (
    does_not_run as does_not_run,
)
from .sums import (
    sums_text as sums_text,
)
from .tables import (
    known_table_format as known_table_format,
)
from .terminal import (
    SEQUENCES as SEQUENCES,
)
from .terminal import (
    Terminal as Terminal,
)
from .terminal import (
    terminal_of as terminal_of,
)
from .text import (
    infeasible_text as infeasible_text,
)
from .text import (
    plan_text as plan_text,
)
