"""A diffusers pipeline as one module: its models are the children, running it is its own code.

The pipeline's class is assembled anew for each run from the models and from the small things around
them: a scheduler and a guider of the real classes, and tokenizers.  These need files that a plan
does without, so a tokenizer of bytes stands in for each: token ids are made up, sequences are as
long as the pipeline's own code pads or cuts them.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

from torch import nn

from devplan.core import COMPUTE_DTYPES, InputError, nearest, stored_float
from devplan.models.boundary import of_the_library
from devplan.models.files import named_components
from devplan.models.quiet import quiet_diffusers
from devplan.models.source import Component, ModelSource, Skeleton

MakesPart = Callable[[], Any]

_STANDS_IN = "Tokenizer"
"""What a class name holds whose objects turn text into ids."""
_INCOMPLETE = "complete model_index.json and the folders that it names, or download them again"
_LONGEST_PROMPT_TOKENS = 512
"""Of a tokenizer that says nothing of its length: what T5's says in most pipelines."""


class PipelineModule(nn.Module):
    """The models of a pipeline under its names for them; running it runs the pipeline.

    Parameters
    ----------
    pipeline_class
        A class of diffusers.
    models
        Component -> model, in the order in which they run.
    others
        Argument of the class -> what makes it anew: schedulers, tokenizers, plain values.
    """

    def __init__(
        self,
        pipeline_class: type,
        models: Mapping[str, nn.Module],
        others: Mapping[str, MakesPart],
    ) -> None:
        super().__init__()
        for name, model in models.items():
            self.add_module(name, model)
        self.pipeline_class = pipeline_class
        self.others = dict(others)

    def assemble(self) -> Any:
        """The pipeline, with a scheduler that has not run yet."""
        made = {name: make() for name, make in self.others.items()}
        name = self.pipeline_class.__name__
        with of_the_library(f"{name} cannot be put together from its components", _INCOMPLETE):
            pipeline = self.pipeline_class(**self._modules, **made)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def forward(self, *, tiling: bool = False, **arguments: Any) -> Any:
        """Run the pipeline.

        Parameters
        ----------
        tiling
            Whether its autoencoders work in tiles.
        arguments
            As for the pipeline's own ``__call__``.
        """
        if tiling:
            for model in self._modules.values():
                if hasattr(model, "enable_tiling"):
                    model.enable_tiling()
        return self.assemble()(**arguments)

    @property
    def accepted(self) -> Mapping[str, inspect.Parameter]:
        """Parameters of the pipeline's ``__call__``."""
        return inspect.signature(self.pipeline_class.__call__).parameters

    @property
    def home(self) -> str | None:
        """The component whose device is the pipeline's own, where it makes its latents: the first
        that its class registers (``DiffusionPipeline._execution_device``)."""
        with quiet_diffusers():
            components = self.assemble().components
        return next(
            (name for name, part in components.items() if isinstance(part, nn.Module)), None
        )


def build_pipeline(source: ModelSource, build_one: Callable[[ModelSource], Skeleton]) -> Skeleton:
    """The skeleton of a pipeline.

    Parameters
    ----------
    source
        With its components.
    build_one
        Builds the skeleton of one model.

    Raises
    ------
    InputError
        When the installed diffusers lacks the pipeline's class, or a component cannot be built.
    """
    pipeline_class = _pipeline_class(source)
    built: dict[str, Skeleton] = {}
    parts: dict[str, Component] = {}
    others: dict[str, MakesPart] = _plain_values(source, pipeline_class)
    # [index] a component's own config.json says its library once more, and would hide another one.
    stated = {name: library for name, library, _ in named_components(source.config or {})}
    for name, part in source.components.items():
        kind = component_class(part.id, stated.get(name, part.library), part.class_name)
        if issubclass(kind, nn.Module):
            # [same files] two components of one entry are two models: each has its own weights.
            part = replace(part, id=f"{source.id.rstrip('/')}/{name}")
            if not part.config and part.origin != "catalogue":
                raise InputError(
                    f"{part.id} has no config.json, and the pipeline's model_index.json names it "
                    f"a {part.class_name}; download the folder again"
                )
            built[name] = build_one(part)
            parts[name] = Component(skeleton=built[name], source=part)
        else:
            others[name] = partial(_small_part, kind, part)
    if not built:
        raise InputError(
            f"{source.id}: its model_index.json names no model, so there is nothing to place; "
            "download the folder again"
        )
    order = _running_order(pipeline_class, built)
    models = {name: built[name].model for name in order}
    module = PipelineModule(pipeline_class, models, others)
    largest = max(built.values(), key=lambda one: _num_parameters(one.model))
    return Skeleton(
        model=module.eval(),
        config=SimpleNamespace(**{name: one.config for name, one in built.items()}),
        class_name=pipeline_class.__name__,
        dtype=largest.dtype,
        no_split=frozenset(name for one in built.values() for name in one.no_split),
        max_tokens=_prompt_tokens(module, source),
        notes=tuple(f"{name}: {note}" for name, one in built.items() for note in one.notes),
        components={name: parts[name] for name in order},
        executable=all(one.executable for one in built.values()),
    )


def pipeline_dtype(source: ModelSource) -> str | None:
    """The one dtype that a pipeline is loaded in where nobody asks for another: what it states, or
    what most bytes of its checkpoints are in; None: float32, as for every model."""
    if source.dtype is not None:
        return source.dtype
    sizes: dict[str, int] = {}
    for part in source.components.values():
        for tensor in (part.stored or {}).values():
            name = stored_float(tensor.dtype)
            if name in COMPUTE_DTYPES:
                sizes[name] = sizes.get(name, 0) + tensor.bytes
    stated = (part.dtype for part in source.components.values() if part.dtype)
    return max(sizes, key=sizes.__getitem__) if sizes else next(stated, None)


def _pipeline_class(source: ModelSource) -> type:
    try:
        with quiet_diffusers():
            import diffusers

            found = getattr(diffusers, source.class_name or "", None)
    except ImportError as error:
        raise InputError(
            f"{source.id} is a diffusers pipeline ({source.class_name}) and diffusers is not "
            "installed; run pip install '.[diffusers]' in devplan's checkout"
        ) from error
    base = diffusers.DiffusionPipeline
    if isinstance(found, type) and issubclass(found, base) and found is not base:
        return found
    known = [name for name in dir(diffusers) if name.endswith("Pipeline")]
    raise InputError(
        f"{source.id} needs {source.class_name}, which is not a pipeline of diffusers "
        f"{diffusers.__version__}; upgrade diffusers, or correct the class in its model_index.json"
        f"{nearest(str(source.class_name), known)}"
    )


def _small_part(kind: type, part: ModelSource) -> Any:
    """A component without weights, made of its configuration; a stand-in for a tokenizer."""
    if _STANDS_IN in kind.__name__:
        return _tokenizer((part.config or {}).get("model_max_length"))
    content = {key: value for key, value in (part.config or {}).items() if key[:1] != "_"}
    make = getattr(kind, "from_config", None) or getattr(kind, "from_dict", None)
    said = f"{part.id}: {kind.__name__} cannot be made from its configuration"
    with of_the_library(said, "correct it, or download the folder again"):
        return make(content) if make else kind(**content)


def _tokenizer(max_length: Any) -> Any:
    from transformers import ByT5Tokenizer

    known = isinstance(max_length, int) and 0 < max_length < 2**20  # transformers writes 10**30
    tokenizer = ByT5Tokenizer(model_max_length=max_length if known else _LONGEST_PROMPT_TOKENS)
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    return tokenizer


def _plain_values(source: ModelSource, pipeline_class: type) -> dict[str, MakesPart]:
    """Arguments of the class that its index gives or leaves out, and that are no components."""
    accepted = inspect.signature(pipeline_class.__init__).parameters
    given = {
        name: value
        for name, value in (source.config or {}).items()
        if name in accepted and name not in source.components
    }
    # [absent] the index writes ``[null, null]`` for a component that this pipeline does without.
    return {
        name: partial(_same, None if isinstance(value, list | tuple) else value)
        for name, value in given.items()
    }


def _same(value: Any) -> Any:
    return value


def _running_order(pipeline_class: type, names: Mapping[str, Any]) -> list[str]:
    """Components in the order that the class gives for offloading; one that it leaves out
    (a second text encoder) behind the one whose name it begins with."""
    stated = (getattr(pipeline_class, "model_cpu_offload_seq", None) or "").split("->")

    def place(name: str) -> tuple[int, str]:
        around = [i for i, known in enumerate(stated) if known and name.startswith(known)]
        return (max(around) if around else len(stated), name)

    return sorted(names, key=place)


def _prompt_tokens(module: PipelineModule, source: ModelSource) -> int | None:
    """Tokens to which the pipeline cuts or pads a prompt, by its ``__call__`` or its own word."""
    stated = module.accepted.get("max_sequence_length")
    if stated is not None and isinstance(stated.default, int):
        return stated.default
    with quiet_diffusers():
        own = getattr(module.assemble(), "tokenizer_max_length", None)
    return own if isinstance(own, int) else None


def _num_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# A ``model_index.json`` may name the models, schedulers, guiders, tokenizers and processors of
# the installed transformers and diffusers, and those that a package of ``diffusers.pipelines``
# defines. No other class is imported, looked up or instantiated.

LIBRARIES = ("transformers", "diffusers")

# What `DiffusionPipeline.from_pretrained` loads itself (`LOADABLE_CLASSES`, diffusers 0.42), less
# whole pipelines, ONNX and training; each as (module, name), since releases lack some.
_KINDS = (
    ("transformers", "PreTrainedModel"),
    ("transformers", "PreTrainedTokenizerBase"),
    ("transformers", "FeatureExtractionMixin"),
    ("transformers", "ProcessorMixin"),
    ("transformers.image_processing_utils", "BaseImageProcessor"),
    ("transformers.image_processing_base", "ImageProcessingMixin"),
    ("diffusers", "ModelMixin"),
    ("diffusers", "SchedulerMixin"),
    ("diffusers.guiders.guider_utils", "BaseGuidance"),
)


def component_class(id: str, library: str, class_name: str | None) -> type:
    """The class of a component.

    Parameters
    ----------
    id
        Of the component, for people.
    library
        ``transformers``, ``diffusers``, or a package of ``diffusers.pipelines``.
    class_name
        Of a model, scheduler, guider, tokenizer or processor in it.

    Raises
    ------
    InputError
        When it is not here, or is anything else.
    """
    if library not in LIBRARIES and library not in _pipeline_packages():
        raise InputError(
            f"{id} is a {class_name} of {library}, which is not here; a model_index.json names "
            "classes of transformers and diffusers: upgrade them, or correct the name"
        )
    found = _named(library, class_name or "")
    if found is None:
        raise InputError(
            f"{id} is a {class_name} of {library}, which is not here; upgrade transformers or "
            "diffusers, or correct the class in the pipeline's model_index.json"
        )
    is_own = found.__module__.partition(".")[0] in LIBRARIES
    if not is_own or not issubclass(found, _kinds()) or found in _kinds():
        raise InputError(
            f"{id} is a {class_name} of {library}, which is not a model, scheduler, tokenizer or "
            "processor; correct the class in the pipeline's model_index.json"
        )
    return found


def _named(library: str, class_name: str) -> type | None:
    if not class_name.isidentifier() or class_name.startswith("_"):
        return None
    module = library if library in LIBRARIES else f"diffusers.pipelines.{library}"
    with contextlib.suppress(ImportError, RuntimeError), quiet_diffusers():
        found = getattr(importlib.import_module(module), class_name, None)
        return found if isinstance(found, type) else None
    return None


@cache
def _pipeline_packages() -> frozenset[str]:
    """The packages of ``diffusers.pipelines``, read off its folder: none of them is imported."""
    try:
        with quiet_diffusers():
            from diffusers import pipelines
    except ImportError:
        return frozenset()
    found = pkgutil.iter_modules(pipelines.__path__)
    return frozenset(each.name for each in found if each.ispkg and not each.name.startswith("_"))


@cache
def _kinds() -> tuple[type, ...]:
    found = []
    for module, name in _KINDS:
        with contextlib.suppress(ImportError), quiet_diffusers():
            kind = getattr(importlib.import_module(module), name, None)
            found += [kind] if isinstance(kind, type) else []
    return tuple(found)
