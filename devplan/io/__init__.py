"""Text in and out: bounded reading of JSON and YAML, atomic writing, escaping, standard streams.

A file is data of whoever wrote it.  It is read where it is a regular file of bounded size in
UTF-8; JSON and YAML in it may be nested so deeply, hold so many values and numbers of so many
digits, and no more.  The bounds are stated in ``docs/limits.md``; each lets ten times the largest
file through that is known.  May import ``core``.
"""

from devplan.io.bounded import (
    BASELINE,
    CONFIG,
    INDEX,
    LOG,
    MAP,
    SETTINGS,
    bounded_bytes,
    read_bytes,
    read_text,
    text_of,
)
from devplan.io.escaping import (
    LONGEST_IN_JSON,
    LONGEST_PROSE,
    in_quotes,
    json_text,
    needs_quotes,
    printed,
    prose,
    python_text,
    shortened,
    shown,
    visible,
)
from devplan.io.json_input import (
    parse_json,
)
from devplan.io.streams import (
    CannotWrite,
    err,
    flush,
    out,
    own_streams,
    users_code,
)
from devplan.io.writing import (
    WriteOutcome,
    is_stdout,
    refuse_unwritable,
    write_text,
)
from devplan.io.yaml_input import (
    compose,
    construct,
    load_yaml,
)

__all__ = [
    "BASELINE",
    "CONFIG",
    "INDEX",
    "LOG",
    "LONGEST_IN_JSON",
    "LONGEST_PROSE",
    "MAP",
    "SETTINGS",
    "CannotWrite",
    "WriteOutcome",
    "bounded_bytes",
    "compose",
    "construct",
    "err",
    "flush",
    "in_quotes",
    "is_stdout",
    "json_text",
    "load_yaml",
    "needs_quotes",
    "out",
    "own_streams",
    "parse_json",
    "printed",
    "prose",
    "python_text",
    "read_bytes",
    "read_text",
    "refuse_unwritable",
    "shortened",
    "shown",
    "text_of",
    "users_code",
    "visible",
    "write_text",
]
