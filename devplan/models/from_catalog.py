"""A name of the built-in catalogue: facts in devplan's own form, no network and no libraries."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from devplan.catalog import models as catalogue
from devplan.core import InputError, nearest
from devplan.models.config import config_hash
from devplan.models.files import pipeline_source
from devplan.models.source import ModelSource


def needs_own_code(entry: Any) -> bool:
    """Whether the class of an entry is code that comes with the model."""
    return entry.library in ("tensors", "code")


def resolve_catalogue(entry: Any) -> ModelSource:
    """The source of a catalogue entry; a component is named ``org/name/subfolder``.

    Raises
    ------
    InputError
        When nothing but totals is known of it: with what is, and what the user has to supply.
    """
    if entry.library == "code":
        raise _to_be_supplied(entry)
    org, name, *below = entry.id.split("/")
    if entry.components:
        return _pipeline(entry)
    return ModelSource(
        id=entry.id,
        origin="catalogue",
        location=f"{org}/{name}",
        library=entry.library,
        class_name=entry.class_name,
        config=entry.config,
        dtype=entry.dtype,
        subfolder="/".join(below) or None,
        config_hash=config_hash(entry.config),
        catalogue_model=entry,
    )


def _pipeline(entry: Any) -> ModelSource:
    """The source of a pipeline, whose components are entries of their own or small things."""
    components = {
        name: replace(resolve_catalogue(catalogue.load_entry(said)), subfolder=name)
        if isinstance(said, str)
        else ModelSource(
            id=f"{entry.id}/{name}",
            origin="catalogue",
            location=None,
            library=said["library"],
            class_name=said["class"],
            config=said.get("config", {}),
        )
        for name, said in entry.components.items()
    }
    return pipeline_source(
        ModelSource(
            id=entry.id,
            origin="catalogue",
            location=entry.repository or entry.id,
            library=entry.library,
            class_name=entry.class_name,
            config=entry.config,
            dtype=entry.dtype,
            catalogue_model=entry,
        ),
        components,
    )


def _to_be_supplied(entry: Any) -> InputError:
    size = f"{entry.checkpoint_bytes / 10**9:.1f} GB of {entry.dtype}"
    return InputError(
        f"{entry.id}: known are its class {entry.class_name} (type {entry.model_type}, the model's "
        f"own code), {size} and about {entry.published_parameters / 10**9:.1f}B parameters, but "
        "none of its layers; give the folder of the checkpoint (config.json and safetensors files "
        "make a plan; its *.py files with --trust-remote-code make a proof)"
    )


def did_you_mean(model: str) -> str:
    """``; did you mean a, b or c?`` for the nearest names, compared with and without the org."""
    return nearest(model, catalogue.model_ids(), spelled=_spellings)


def _spellings(name: str) -> tuple[str, str]:
    return name.lower(), name.lower().partition("/")[2]
