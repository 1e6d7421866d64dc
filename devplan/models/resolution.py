"""The order in which MODEL is read; see the package for the words."""

from __future__ import annotations

import os
from dataclasses import replace
from os import PathLike, fspath
from typing import Any

from devplan.catalog import models as catalogue
from devplan.core import InputError, NamedInFile
from devplan.models import from_catalog
from devplan.models.factory import is_factory, resolve_factory
from devplan.models.folder import is_path, resolve_folder
from devplan.models.hub import parse_address, resolve_hub
from devplan.models.source import ModelSource


def resolve(
    model: str | PathLike[str] | NamedInFile,
    *,
    trust_remote_code: bool = False,
    revision: str | None = None,
) -> ModelSource:
    """What MODEL means.

    Parameters
    ----------
    model : str, path or NamedInFile
        Folder, ``package.module:callable``, name of the catalogue, or hub id.  A name that stands
        in a file never means a callable: no code runs because a file says so.
    trust_remote_code : bool
        Whether code that comes with the model may be fetched and run.
    revision : str, optional
        Branch, tag or commit on the hub.

    Raises
    ------
    InputError
        When it means nothing, or what it means cannot be used: one line with the remedy.
    UserCodeError
        When the module of a factory cannot be imported.
    """
    named = model if isinstance(model, NamedInFile) else None
    model = fspath(model) if named is None else meant_model(named)
    if is_path(model):
        _require_no_revision(model, "a folder", revision)
        return resolve_folder(model, trust_remote_code=trust_remote_code)
    if is_factory(model) and named is None:
        _require_no_revision(model, "a factory", revision)
        return resolve_factory(model)
    entry = catalogue.find_catalog_model(model) if revision is None else None
    if entry is not None and not (trust_remote_code and from_catalog.needs_own_code(entry)):
        return from_catalog.resolve_catalogue(entry)
    if entry is not None:
        return _with_own_code(entry)
    if "/" not in model:
        raise _unknown(model)
    return resolve_hub(parse_address(model, revision), trust_remote_code=trust_remote_code)


def _with_own_code(entry: Any) -> ModelSource:
    """The model on the hub with its code, or what the catalogue knows where that cannot be had."""
    address = parse_address(entry.id, None)
    try:
        return resolve_hub(address, trust_remote_code=True)
    except InputError as error:
        known = from_catalog.resolve_catalogue(entry)
        note = f"its own code cannot be had, so the catalogue's tensors are taken: {error}"
        return replace(known, notes=(*known.notes, note))


def _require_no_revision(model: str, what: str, revision: str | None) -> None:
    if revision is not None:
        raise InputError(
            f"revision {revision!r} applies to a hub id, and {model} is {what}; leave it out"
        )


def _unknown(model: str) -> InputError:
    return InputError(
        f"unknown model {model!r}: no folder of that name, and not among the "
        f"{len(catalogue.model_ids())} names of the catalogue; "
        "a model of the hub is written org/name"
        f"{from_catalog.did_you_mean(model) or '; `devplan models` lists the names'}"
    )


# A model that a file names (a map, the settings) is data, which never makes code run. A relative
# path is looked up in the current folder first, then beside the file, then one folder above it,
# since `devplan suggest` writes maps to ``maps/``.


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
