"""The order in which MODEL is read; see the package for the words."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike, fspath
from typing import Any

from devplan.catalog import models as catalogue
from devplan.core import InputError, NamedInFile
from devplan.models import from_catalog
from devplan.models.factory import is_factory, resolve_factory
from devplan.models.folder import is_path, resolve_folder
from devplan.models.hub import resolve_hub
from devplan.models.hub_files import parse_address
from devplan.models.named import meant_model
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
