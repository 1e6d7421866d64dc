"""The catalogue of models: what a published model is, without asking the network.

An entry is one YAML file in ``entries/``, named after the id with ``--`` for ``/``.  It holds
facts in devplan's own form and no copy of a published ``config.json``:

* **library** says how the skeleton is built: ``transformers`` and ``diffusers`` instantiate the
  class from the config; ``tensors`` has no class in any library (remote code), so the entry lists
  the tensors of the checkpoint instead (`devplan.catalog.models`); of ``code`` nothing is public
  but what kind of remote code it is and how large: the user has to supply the rest.
* **config** holds the hyperparameters.  Those that bear on size (widths, layers, heads, experts,
  vocabulary, biases, ties, windows, positions) and the ids of placeholder tokens are always
  written out, because the defaults of a class change between releases of transformers; all
  others only where they differ from the default of transformers 5.23.  Names are those that
  releases from 4.45 on read: ``rope_theta`` and ``rope_scaling``, flat Qwen2-VL configs.
* **parameters** holds the published total and what lies between it and the class, as numbers:
  ``count of the class + sum(adjustments) == published``.  Checkpoints count router biases, fp8
  scales and prediction layers that the class does not hold as parameters.  ``verified: rounded``
  says that only a rounded total was published; it is compared within the rounding.
  ``verified: unverified`` says that there is nothing to compare it with (library ``code``).
* **checkpoint_bytes** are those of the published files.  What they hold beyond the tensors that
  the class loads stands in ``checkpoint_beyond``, reason by reason, so that a test can add up
  both; ``checkpoint_is: files`` says that the headers of the files are counted too.  Where no
  total was published of a quantized checkpoint, ``computed_bytes`` is devplan's own.
* **dtype** is that of the stored tensors which are not quantized.
* **components** makes an entry a diffusers pipeline: each is the id of another entry, or library,
  class and config of what holds no weights.  ``repository`` is where the files are.
* **sources** says where each came from.

Which class a checkpoint needs may differ from what the Hub's own config says where that is
remote code; ``note`` says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from devplan.core import dtype_bytes

ENTRIES = Path(__file__).parent / "entries"
ALIASES = Path(__file__).parent / "aliases.yaml"
LIBRARIES = ("transformers", "diffusers", "tensors", "code")


@dataclass(frozen=True, kw_only=True)
class CatalogModel:
    """One published model, a diffusers pipeline, or a component of one."""

    id: str
    """Hub id; a component has its folder behind it: ``Qwen/Qwen-Image/transformer``."""
    library: str
    """``transformers``, ``diffusers``, ``tensors`` or ``code``."""
    class_name: str
    model_type: str | None
    """The model type of transformers that the config is built with; None for diffusers."""
    config: Mapping[str, Any]
    """What a ``config.json`` would hold, with ``model_type``, ``architectures``, ``torch_dtype``
    (the one spelling that every supported transformers reads) and ``quantization_config``; for
    diffusers with ``_class_name``."""
    dtype: str
    published_parameters: int | None
    adjustments: Mapping[str, int] = field(default_factory=dict)
    """What the published total holds beyond the parameters of the class: reason -> number."""
    verified: str
    """``exact``, ``rounded`` where only a rounded total was published, or ``unverified``."""
    rounded_to: int = 1
    """The unit that the published total is rounded to; 1: exact."""
    checkpoint_bytes: int | None = None
    """Of the published checkpoint."""
    checkpoint_beyond: Mapping[str, int] = field(default_factory=dict)
    """What it holds beyond the tensors of the class: reason -> bytes."""
    counts_headers: bool = False
    """Whether `checkpoint_bytes` are those of whole files, with their headers."""
    computed_bytes: int | None = None
    """Of a quantized checkpoint whose bytes nobody published; a test computes them."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """``config``, ``parameters``, ``checkpoint_bytes`` -> where it was found."""
    components: Mapping[str, str | Mapping[str, Any]] = field(default_factory=dict)
    """Of a pipeline: component -> id of its own entry, or library, class and config of what is no
    model (scheduler, tokenizer)."""
    repository: str | None = None
    """Where the files of a pipeline are, if not under its id."""
    tensors: TensorSummary | None = None
    """For library ``tensors``: what the checkpoint holds."""
    note: str = ""

    @property
    def quantization_config(self) -> Mapping[str, Any] | None:
        """How the published checkpoint is quantized, if it is."""
        return self.config.get("quantization_config")

    @property
    def stored_bytes(self) -> int | None:
        """Of the checkpoint: as published, as computed, or by parameters and dtype; None where
        nobody knows."""
        if self.checkpoint_bytes or self.computed_bytes:
            return self.checkpoint_bytes or self.computed_bytes
        if self.components:
            parts = [load_entry(part) for part in self.components.values() if isinstance(part, str)]
            known = [part.stored_bytes for part in parts]
            return None if None in known else sum(known)
        if self.quantization_config is not None or self.published_parameters is None:
            return None
        return self.published_parameters * dtype_bytes(self.dtype)


def model_ids() -> tuple[str, ...]:
    """Every id of the catalogue, sorted; lists the folder and reads no file."""
    return tuple(sorted(path.stem.replace("--", "/") for path in ENTRIES.glob("*.yaml")))


def find_catalog_model(name: str) -> CatalogModel | None:
    """The entry of a name, or None.

    Parameters
    ----------
    name
        An id, or what follows the organisation in it (``Qwen3-8B``) where that names one entry
        only, or another name that people have for it; upper and lower case are the same.
    """
    wanted = name.strip().lower()
    wanted = _aliases().get(wanted, wanted)
    matches = [known for known in model_ids() if known.lower() == wanted]
    matches = matches or [
        known for known in model_ids() if known.lower().partition("/")[2] == wanted
    ]
    return load_entry(matches[0]) if len(matches) == 1 else None


@cache
def _aliases() -> dict[str, str]:
    """Other name -> id, both in lower case."""
    names = yaml.safe_load(ALIASES.read_text(encoding="utf-8"))
    return {other.lower(): id.lower() for id, others in names.items() for other in others}


def load_models() -> tuple[CatalogModel, ...]:
    """Every entry, in the order of `model_ids`."""
    return tuple(load_entry(name) for name in model_ids())


def load_entry(name: str) -> CatalogModel:
    """The entry of an exact id, read anew: its mappings are the caller's own."""
    path = ENTRIES / f"{name.replace('/', '--')}.yaml"
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    parameters = raw["parameters"]
    return CatalogModel(
        id=raw["id"],
        library=raw["library"],
        class_name=raw["class"],
        model_type=raw.get("model_type"),
        config=_config(raw),
        dtype=raw["dtype"],
        published_parameters=parameters["published"],
        adjustments=parameters.get("adjustments", {}),
        verified=parameters["verified"],
        rounded_to=parameters.get("rounded_to", 1),
        checkpoint_bytes=raw.get("checkpoint_bytes"),
        checkpoint_beyond=raw.get("checkpoint_beyond", {}),
        counts_headers=raw.get("checkpoint_is") == "files",
        computed_bytes=raw.get("computed_bytes"),
        sources=raw["sources"],
        components=raw.get("components", {}),
        repository=raw.get("repository"),
        tensors=TensorSummary.from_entry(raw) if raw["library"] == "tensors" else None,
        note=raw.get("note", ""),
    )


def _config(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters of an entry with what a published config says around them."""
    if raw["library"] == "diffusers":
        return {"_class_name": raw["class"], **raw["config"]}
    head = {
        "architectures": [raw["class"]],
        "model_type": raw["model_type"],
        "torch_dtype": raw["dtype"],
    }
    quantization = raw.get("quantization_config")
    tail = {"quantization_config": quantization} if quantization else {}
    return {**head, **raw["config"], **tail}


# Tensors of a checkpoint, written short. A model with remote code has no class to instantiate,
# but the names and shapes in its checkpoint are enough to size and split it. A pattern describes
# many tensors: in ``llm.model.layers.{0..35}.mlp.up_proj.weight`` the braces hold a range of
# numbers, both ends included. Tensor names do not tell which modules are repeated layers, so the
# entry lists them: ``llm.model.layers.*`` -> the class of each, which must not be split.

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass(frozen=True, kw_only=True)
class TensorSummary:
    """The tensors of one checkpoint, all of one dtype."""

    dtype: str
    shapes: Mapping[str, tuple[int, ...]]
    """Pattern of names -> shape, in the order of the model."""
    layers: Mapping[str, str]
    """Pattern of module names, ``*`` for one number -> class name; never split."""
    buffers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Float32 buffers that the code makes and no checkpoint stores: name -> shape."""

    @classmethod
    def from_entry(cls, raw: Mapping[str, Any]) -> TensorSummary:
        """From the ``tensors``, ``layers`` and ``buffers`` of a catalogue entry."""
        shapes = {pattern: tuple(shape) for pattern, shape in raw["tensors"].items()}
        buffers = {name: tuple(shape) for name, shape in raw.get("buffers", {}).items()}
        return cls(dtype=raw["dtype"], shapes=shapes, layers=raw["layers"], buffers=buffers)

    def expand(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Every tensor by name with its shape; patterns over one range stay together by layer.

        Consecutive patterns that share all text up to their range are one stack of layers:
        layer 0 with all its tensors comes before layer 1, as in the model.
        """
        for stack in _stacks(self.shapes):
            bounds = _RANGE.search(stack[0])
            numbers = range(int(bounds[1]), int(bounds[2]) + 1) if bounds else (None,)
            for number in numbers:
                for pattern in stack:
                    yield _RANGE.sub(str(number), pattern), self.shapes[pattern]

    def layer_class(self, module: str) -> str | None:
        """Class of a module that is a repeated layer, None for all others."""
        for pattern, class_name in self.layers.items():
            if fnmatchcase(module, pattern) and module.count(".") == pattern.count("."):
                return class_name
        return None


def _stacks(patterns: Mapping[str, Any]) -> list[list[str]]:
    """Patterns in order, those of one stack of layers together."""
    stacks: list[list[str]] = []
    previous = None
    for pattern in patterns:
        bounds = _RANGE.search(pattern)
        stem = pattern[: bounds.end()] if bounds else None
        if stem is not None and stem == previous:
            stacks[-1].append(pattern)
        else:
            stacks.append([pattern])
        previous = stem
    return stacks
