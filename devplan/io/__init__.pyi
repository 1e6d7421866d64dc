# What other subpackages may import from here; each name is loaded when it is first asked for.
from .bounded import (
    BASELINE as BASELINE,
)
from .bounded import (
    CONFIG as CONFIG,
)
from .bounded import (
    INDEX as INDEX,
)
from .bounded import (
    LOG as LOG,
)
from .bounded import (
    MAP as MAP,
)
from .bounded import (
    SETTINGS as SETTINGS,
)
from .bounded import (
    bounded_bytes as bounded_bytes,
)
from .bounded import (
    read_bytes as read_bytes,
)
from .bounded import (
    read_text as read_text,
)
from .bounded import (
    text_of as text_of,
)
from .escaping import (
    LONGEST_IN_JSON as LONGEST_IN_JSON,
)
from .escaping import (
    LONGEST_PROSE as LONGEST_PROSE,
)
from .escaping import (
    in_quotes as in_quotes,
)
from .escaping import (
    json_text as json_text,
)
from .escaping import (
    needs_quotes as needs_quotes,
)
from .escaping import (
    printed as printed,
)
from .escaping import (
    prose as prose,
)
from .escaping import (
    python_text as python_text,
)
from .escaping import (
    shortened as shortened,
)
from .escaping import (
    shown as shown,
)
from .escaping import (
    visible as visible,
)
from .json_input import (
    parse_json as parse_json,
)
from .streams import (
    CannotWrite as CannotWrite,
)
from .streams import (
    err as err,
)
from .streams import (
    flush as flush,
)
from .streams import (
    out as out,
)
from .streams import (
    own_streams as own_streams,
)
from .streams import (
    users_code as users_code,
)
from .writing import (
    WriteOutcome as WriteOutcome,
)
from .writing import (
    is_stdout as is_stdout,
)
from .writing import (
    refuse_unwritable as refuse_unwritable,
)
from .writing import (
    write_text as write_text,
)
from .yaml_input import (
    compose as compose,
)
from .yaml_input import (
    construct as construct,
)
from .yaml_input import (
    load_yaml as load_yaml,
)
