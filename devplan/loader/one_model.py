"""One model of transformers or diffusers, by its class's own ``from_pretrained``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devplan.loader.arguments import (
    Loadable,
    from_pretrained_arguments,
    loadable,
    location,
    refuse_clashes,
)
from devplan.loader.checkpoint_files import checkpoint_files
from devplan.loader.dispatching import settle
from devplan.loader.parts import Loaded, Part, Stored, model_and_info
from devplan.loader.target import Target


@dataclass(frozen=True, kw_only=True)
class ModelLoader:
    """A `devplan.loader.parts.Kind`."""

    found: Loadable
    place: str
    asked_place: str | None
    """The place that the caller named; None: the map's own."""
    given: Mapping[str, Any]
    """Further arguments of ``from_pretrained``."""

    @property
    def class_name(self) -> str:
        return self.found.model_class.__name__

    def stored(self, target: Target) -> Stored | None:
        files = checkpoint_files(self.place, self.found.library, self._arguments(target))
        if files is None:
            return None
        assert target.content is not None
        return Stored(
            folder=files.folder,
            files=((files, target.content),),
            quantizes=self._arguments(target).get("quantization_config") is not None,
        )

    def loaded(self, target: Target, offload_folder: Path | None) -> Loaded:
        arguments = self._arguments(target)
        if offload_folder is not None:
            arguments["offload_folder"] = str(offload_folder)
        found = self.found.model_class.from_pretrained(self.place, **arguments)
        model, info = model_and_info(found, self.place)
        settle(model, target, offload_buffers=bool(arguments.get("offload_buffers")))
        return Loaded(
            result=(model, info) if self.given.get("output_loading_info") else model,
            parts=(Part(name="", model=model, target=target),),
            checked_as=model,
        )

    def _arguments(self, target: Target) -> dict[str, Any]:
        return from_pretrained_arguments(target, self.found, self.asked_place, self.given)


def model_loader(
    target: Target, place: str | None, given: Mapping[str, Any], *, trust_remote_code: bool
) -> ModelLoader:
    """The model of a map.

    Raises
    ------
    InputError
        When the map names no class that is here, or an argument contradicts the map.
    """
    found = loadable(target, trust_remote_code=trust_remote_code)
    refuse_clashes(target, given)
    trusted = {"trust_remote_code": True} if trust_remote_code else {}
    return ModelLoader(
        found=found,
        place=location(target, place)[0],
        asked_place=place,
        given={**given, **trusted},
    )
