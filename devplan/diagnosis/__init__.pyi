# What other subpackages may import from here; each name is loaded when it is first asked for.
from .attached import (
    attach as attach,
)
from .document import (
    SCHEMA_VERSION as SCHEMA_VERSION,
)
from .document import (
    story_document as story_document,
)
from .explained import (
    story_lines as story_lines,
)
from .explaining import (
    Explanation as Explanation,
)
from .explaining import (
    explain_text as explain_text,
)
from .failure_report import (
    FailureReport as FailureReport,
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
