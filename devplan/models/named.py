"""A model that a file names (a map, the settings): data, which never makes code run.

A relative path is looked up in the current folder first, then beside the file, then one folder
above it, since ``maps/`` is where `devplan suggest` writes maps.
"""

from __future__ import annotations

import os

from devplan.core import InputError, NamedInFile
from devplan.models.factory import is_factory
from devplan.models.folder import is_path


def meant_model(named: NamedInFile) -> str:
    """The folder, hub id or catalogue name that is meant, as a person could type it.

    Raises
    ------
    InputError
        When the file names a factory, which would run code, or a folder that is nowhere.
    """
    text = model_path(named)
    refuse_named_code(named)
    if is_path(text) and not os.path.exists(os.path.expanduser(text)):
        raise InputError(
            f"{named.file} is for the folder {text}, which is not here{_beside(named)}; give "
            f"{named.typed_after} FOLDER"
        )
    return text


def refuse_named_code(named: NamedInFile) -> None:
    """Refuse a factory: its code runs only where a person typed its name.

    Raises
    ------
    InputError
        With what to type.
    """
    if is_path(model_path(named)) or not is_factory(named.text):
        return
    raise InputError(
        f"{named.file} names {named.text}, which is code, and a file cannot make code run; if you "
        f"trust it, type it yourself: {named.typed_after} {named.text}"
    )


def model_path(named: NamedInFile) -> str:
    """The path of a folder beside the file, where that is what a relative name means."""
    text = named.text
    if named.folder is None or text.startswith("~") or os.path.isabs(text) or os.path.exists(text):
        return text
    for parts in ((), (os.pardir,)):
        candidate = os.path.normpath(os.path.join(named.folder, *parts, text))
        if os.path.isdir(candidate):
            return candidate
    return text


def _beside(named: NamedInFile) -> str:
    is_relative = named.text.startswith(".") and named.folder is not None
    return f", nor in {named.folder} or the folder above it" if is_relative else ""
