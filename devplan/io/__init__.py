"""Text in and out: bounded reading of JSON and YAML, atomic writing, escaping, standard streams.

A file is data of whoever wrote it.  It is read where it is a regular file of bounded size in
UTF-8; JSON and YAML in it may be nested so deeply, hold so many values and numbers of so many
digits, and no more.  The bounds are stated in ``docs/limits.md``; each lets ten times the largest
file through that is known.  May import ``core``.
"""

# The stub has the same names for type checkers; reading it here would cost each command time.
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "bounded": [
            "BASELINE",
            "CONFIG",
            "INDEX",
            "LOG",
            "MAP",
            "SETTINGS",
            "bounded_bytes",
            "read_bytes",
            "read_text",
            "text_of",
        ],
        "escaping": [
            "LONGEST_IN_JSON",
            "LONGEST_PROSE",
            "in_quotes",
            "json_text",
            "needs_quotes",
            "printed",
            "prose",
            "python_text",
            "shortened",
            "shown",
            "visible",
        ],
        "json_input": [
            "parse_json",
        ],
        "streams": [
            "CannotWrite",
            "err",
            "flush",
            "out",
            "own_streams",
            "users_code",
        ],
        "writing": [
            "WriteOutcome",
            "is_stdout",
            "refuse_unwritable",
            "write_text",
        ],
        "yaml_input": [
            "compose",
            "construct",
            "load_yaml",
        ],
    },
)
