"""Text to YAML nodes, which know their lines."""

from __future__ import annotations

import contextlib

import yaml

from devplan.errors import InputError


def compose(text: str, file: str) -> yaml.Node:
    """The one document of a text.

    Raises
    ------
    InputError
        When the text is no YAML, holds no document or several.
    """
    try:
        node = _composed(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join((error.problem or error.context or "cannot be read").split())
        raise InputError(f"{file}:{mark.line + 1 if mark else 1}: not YAML: {problem}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(
            f"{file}:{line}: the character U+{error.character:04X} may not stand in YAML"
        ) from None
    except RecursionError:
        raise InputError(f"{file}:1: nested too deeply to be a map file") from None
    if node is None:
        raise InputError(f"{file}:1: empty; `devplan suggest` writes map files")
    return node


def _composed(text: str) -> yaml.Node | None:
    """By libyaml's parser where PyYAML was built with it, which is ten times as fast.

    What it refuses is read again in Python, whose messages are the ones that people see.
    """
    if _Fast is not None:
        with contextlib.suppress(yaml.YAMLError):
            return yaml.compose(text, Loader=_Fast)
    return yaml.compose(text, Loader=yaml.SafeLoader)


def _fast_loader() -> type | None:
    if not yaml.__with_libyaml__:
        return None
    from yaml.composer import Composer
    from yaml.cyaml import CParser
    from yaml.resolver import Resolver

    class Fast(Composer, CParser, Resolver):
        """Events by libyaml, nodes in Python: there deep nesting ends in a RecursionError."""

        def __init__(self, stream: str) -> None:
            CParser.__init__(self, stream)
            Composer.__init__(self)
            Resolver.__init__(self)

    return Fast


_Fast = _fast_loader()
