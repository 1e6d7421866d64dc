# What other subpackages may import from here; each name is loaded when it is first asked for.
from .attached import (
    attach_diagnosis as attach_diagnosis,
)
from .attached import (
    detach_diagnosis as detach_diagnosis,
)
from .document import (
    SCHEMA_VERSION as SCHEMA_VERSION,
)
from .document import (
    JsonFormatter as JsonFormatter,
)
from .document import (
    report_document as report_document,
)
from .failure_report import (
    FailureReport as FailureReport,
)
from .from_exception import (
    report_of as report_of,
)
from .from_text import (
    Explanation as Explanation,
)
from .from_text import (
    explain_text as explain_text,
)
from .placed import (
    part_for as part_for,
)
from .watching import (
    Diagnosis as Diagnosis,
)
from .watching import (
    diagnose as diagnose,
)
from .wording import (
    report_lines as report_lines,
)
