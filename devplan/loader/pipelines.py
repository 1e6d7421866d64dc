"""A diffusers pipeline by a map: each of its models by its part of the map.

``DiffusionPipeline.from_pretrained(device_map=...)`` takes the name of a strategy and no mapping
(diffusers 0.42); ``from_pretrained`` of each model takes one.  So every model is loaded by its own
class with its part of the map, and is given the hooks that diffusers itself would give it
(``load_sub_model``): also where it lies whole on one card, since its inputs come from another.
The pipeline is then made of these models, and diffusers loads the rest, tokenizers and scheduler.

All files are on this machine first: what is looked at is what is loaded.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from devplan.core import CPU, DISK, InputError
from devplan.loader.arguments import dtype_argument, location, refuse_clashes
from devplan.loader.checkpoint_files import checkpoint_files
from devplan.loader.dispatching import bring_home, dispatch
from devplan.loader.parts import (
    Loaded,
    Part,
    Stored,
    model_and_info,
    models_of,
    part_of_content,
    part_of_target,
    warn_of_others,
)
from devplan.loader.target import Target
from devplan.models import (
    PIPELINE_FILE,
    component_class,
    named_components,
    parse_pipeline_index,
    quiet_diffusers,
    read_config_text,
)
from devplan.virtual import is_dispatched

log = logging.getLogger("devplan")


@dataclass(frozen=True, kw_only=True)
class PipelineLoader:
    """A `devplan.loader.parts.Kind`."""

    pipeline_class: type
    place: str
    revision: str | None
    """Branch, tag or commit on the hub."""
    given: Mapping[str, Any]
    """Further arguments of ``from_pretrained``."""
    trust_remote_code: bool

    @property
    def class_name(self) -> str:
        return self.pipeline_class.__name__

    @cached_property
    def folder(self) -> Path:
        """Where all of it is on this machine; fetched from the hub where it is not."""
        folder = Path(self.place).expanduser()
        if not folder.is_dir():
            folder = Path(
                self.pipeline_class.download(
                    self.place,
                    **hub_arguments(self.given),
                    **own_arguments(self.given),
                    revision=self.revision,
                    trust_remote_code=self.trust_remote_code,
                )
            )
        if not (folder / PIPELINE_FILE).is_file():
            raise InputError(
                f"{folder} is not a pipeline, as it has no {PIPELINE_FILE}; give the folder "
                "that holds"
                " it, or the id of the pipeline"
            )
        self._refuse_code(folder)
        return folder

    def _refuse_code(self, folder: Path) -> None:
        """Refuse an index whose classes are not the libraries', and code that lies where diffusers
        would run it: it loads all that the map does not place, and looks there first."""
        named = self._named(folder)
        for name, (library, kind) in named.items():
            if not self.trust_remote_code:
                component_class(f"{self.place}/{name}", library, kind)
        code = [folder / name / f"{library}.py" for name, (library, _) in named.items()]
        for path in (*code, folder / f"{None}.py"):
            if path.is_file() and not self.trust_remote_code:
                raise InputError(
                    f"{path} is code that comes with {self.place}; read it, and if you trust it "
                    "give trust_remote_code=True"
                )

    def _named(self, folder: Path) -> dict[str, tuple[str, str]]:
        """Component -> library and class, as the index has them."""
        path = folder / PIPELINE_FILE
        index = parse_pipeline_index(read_config_text(path), str(path))
        return {name: (library, kind) for name, library, kind in named_components(index)}

    def stored(self, target: Target) -> Stored:
        assert target.content is not None
        files = []
        for name, kind in self._classes(target).items():
            arguments = {**self._arguments(name, kind), "subfolder": name}
            found = checkpoint_files(str(self.folder), library_of(kind), arguments)
            if found is not None:
                files.append((found, part_of_content(target.content, name)))
        return Stored(folder=self.folder, files=tuple(files))

    def loaded(self, target: Target, offload_folder: Path | None) -> Loaded:
        parts = []
        for name, kind in self._classes(target).items():
            log.info("loading %s of %s", name, self.place)
            part = part_of_target(target, name)
            arguments = self._arguments(name, kind) | dtype_argument(
                part.content, library_of(kind), self.given
            )
            model = _read(kind, self.folder / name, part, arguments)
            below = str(offload_folder / name) if offload_folder is not None else None
            dispatch(model, part, offload_folder=below)
            parts.append(Part(name=name, model=model, target=part))
        models = {part.name: part.model for part in parts}
        pipeline = self._assembled(target, models)
        warn_of_others(set(models_of(pipeline)) - set(models), target)
        return Loaded(result=pipeline, parts=tuple(parts), checked_as=str(self.folder))

    def _assembled(self, target: Target, models: Mapping[str, nn.Module]) -> Any:
        pipeline = self.pipeline_class.from_pretrained(
            str(self.folder),
            **dtype_argument(target.content, "diffusers", self.given),
            **own_arguments(self.given),
            **models,
            trust_remote_code=self.trust_remote_code,
        )
        # Where it is from, and not where its files happen to lie.
        pipeline.register_to_config(_name_or_path=self.place)
        return pipeline

    def _classes(self, target: Target) -> dict[str, type]:
        """Component of the map -> class."""
        known = self._named(self.folder)
        names = target.content.model.components
        for name in names:
            if name not in known:
                raise InputError(
                    f"{target.name} places {name!r}, which the pipeline in {self.place} does not "
                    f"have; it has {', '.join(known)}"
                )
        return {name: component_class(f"{self.place}/{name}", *known[name]) for name in names}

    def _arguments(self, name: str, kind: type) -> dict[str, Any]:
        return component_arguments(self.given, self.folder / name, library_of(kind))


def pipeline_loader(
    target: Target, place: str | None, given: Mapping[str, Any], *, trust_remote_code: bool
) -> PipelineLoader:
    """The pipeline of a map.

    Raises
    ------
    InputError
        When the installed diffusers lacks the class, or an argument is none of a pipeline's or
        contradicts the map.
    """
    assert target.content is not None
    refuse_clashes(target, given)
    identity = target.content.model
    with quiet_diffusers():
        import diffusers

        found = getattr(diffusers, identity.class_name, None)
        base = diffusers.DiffusionPipeline
    if not (isinstance(found, type) and issubclass(found, base) and found is not base):
        raise InputError(
            f"{target.name}: diffusers {diffusers.__version__} has no pipeline "
            f"{identity.class_name}; upgrade diffusers"
        )
    refuse_unknown(given, found, identity.components)
    return PipelineLoader(
        pipeline_class=found,
        place=location(target, place)[0],
        revision=given.get("revision", identity.revision if place is None else None),
        given=given,
        trust_remote_code=trust_remote_code,
    )


def library_of(kind: type) -> str:
    """``transformers`` or ``diffusers``, whose class it is."""
    return kind.__module__.partition(".")[0]


def _read(kind: type, folder: Path, part: Target, arguments: Mapping[str, Any]) -> nn.Module:
    """A model as ``from_pretrained`` of its class gives it, its weights where the map says; one
    that goes to disk, or is offloaded whole, is read on the CPU first."""
    on_cpu_first = DISK in part.devices or part.devices <= {CPU}
    device_map = {"": CPU} if on_cpu_first else part.hf_device_map
    model, _ = model_and_info(
        kind.from_pretrained(str(folder), device_map=device_map, **arguments), str(folder)
    )
    if is_dispatched(model):
        bring_home(model, (CPU,))
    return model.eval()


# diffusers warns about an argument of a pipeline that it does not know and ignores it; an argument
# of one model (``attn_implementation``) is ignored silently.  Here each argument is used or
# refused.


_HUB = ("cache_dir", "force_download", "proxies", "local_files_only", "token")
"""Of the download."""
_FILES = ("variant", "use_safetensors")
"""Which of several files of a model; the pipeline's, and each model's."""
_BY_THE_MAP = ("dtype", "torch_dtype", "revision", "weights_only")
"""Handled apart from the others."""


def refuse_unknown(
    given: Mapping[str, Any], pipeline_class: type, components: Collection[str]
) -> None:
    """Refuse what the pipeline's class does not take, and models that the map places.

    Raises
    ------
    InputError
        At the first, in one line.
    """
    own = [*inspect.signature(pipeline_class.__init__).parameters][1:]
    known = {*_HUB, *_FILES, *_BY_THE_MAP, *own}
    for name, value in given.items():
        if name in components:
            raise InputError(
                f"{name}= is a model that the map places, and devplan.load loads it; to place a "
                "model of your own make the pipeline with it, and devplan.apply(pipeline, map)"
            )
        if name not in known and value is not None:
            others = ", ".join(n for n in own if n not in components)
            raise InputError(
                f"{name}= goes to no part of a {pipeline_class.__name__} that a map places; leave "
                f"it out: what can be given is {', '.join((*_HUB, *_FILES))}, {others}"
            )


def hub_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the download."""
    return {name: given[name] for name in _HUB if name in given}


def own_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the pipeline's own ``from_pretrained``, which finds the files on this machine."""
    taken = (*_HUB, *_BY_THE_MAP)
    return {name: value for name, value in given.items() if name not in taken}


def component_arguments(given: Mapping[str, Any], folder: Path, library: str) -> dict[str, Any]:
    """Those of one model.

    A variant is asked for where the model has files of it, as diffusers does
    (``_identify_model_variants``, 0.42): a pipeline in two variants may share a model.
    """
    found: dict[str, Any] = {"output_loading_info": True}
    if given.get("use_safetensors") is not None:
        found["use_safetensors"] = given["use_safetensors"]
    variant = given.get("variant")
    if variant is not None and _has_variant(folder, variant):
        found["variant"] = variant
    if library == "transformers":
        found["weights_only"] = True
    return found


def _has_variant(folder: Path, variant: str) -> bool:
    """``model.fp16.safetensors``, ``model.fp16-00001-of-00002.safetensors``, an index of them."""
    named = re.compile(rf"\.{re.escape(variant)}(-\d+-of-\d+)?\.(safetensors|bin|json)$")
    return any(named.search(path.name) for path in folder.glob("*"))
