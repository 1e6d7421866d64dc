"""The Python that loads a model with its map.

The map goes to ``from_pretrained`` by plain YAML: whoever loads the model needs no devplan.

What differs: transformers renamed ``torch_dtype`` to ``dtype`` in 4.56 (4.45 to 4.55 know only
the old name); diffusers takes a ``torch.dtype`` and no text (``ModelMixin.from_pretrained``,
0.42.1); entries on ``disk`` need a folder that the weights are written to; a model from a factory
has no ``from_pretrained`` and goes through accelerate; a pipeline is loaded by devplan, as
``DiffusionPipeline.from_pretrained`` takes the name of a strategy and no mapping (0.42.1).
"""

from __future__ import annotations

import keyword
import re
from pathlib import PurePath

from devplan.core import COMPUTE_DTYPES, DISK, DeviceMapFile, parse_whole, quantize_config
from devplan.io import python_text, visible

_DTYPE_KEYWORD_SINCE = (4, 56)

_FACTORY = re.compile(r"([\w.]+):(\w+)((?:\.\w+)*)")


def _factory(model_id: str) -> re.Match[str] | None:
    """The parts of a ``package.module:callable`` whose names are valid in Python."""
    parts = re.split(r"[.:]", model_id)
    is_python = all(map(_is_name, parts))
    return _FACTORY.fullmatch(model_id) if is_python else None


def load_heading(map_file: DeviceMapFile) -> str:
    """The heading of the lines, with the condition under which they load as planned."""
    if map_file.model.packed:
        return "Load the model with it, where its weights stay packed (DP514)"
    return "Load the model with it"


def load_line(map_file: DeviceMapFile, map_path: str | PurePath) -> str:
    """The statement that loads the model, in one line; `import_lines` gives its imports."""
    if map_file.model.components:
        return "; ".join(_pipeline_lines(map_file, map_path))
    return f"{_call_head(map_file)}({', '.join(_arguments(map_file, map_path))})"


def load_code(map_file: DeviceMapFile, map_path: str | PurePath) -> list[str]:
    """Lines of Python to paste: imports, then the statement with one argument a line."""
    if map_file.model.components:
        return ["import devplan", *_pipeline_lines(map_file, map_path)]
    arguments = [f"    {argument}," for argument in _arguments(map_file, map_path)]
    return [*import_lines(map_file), f"{_call_head(map_file)}(", *arguments, ")"]


def import_lines(map_file: DeviceMapFile) -> list[str]:
    """The imports that the statement needs."""
    if map_file.model.components:
        return ["import devplan"]
    factory = _factory(map_file.model.id)
    if factory:
        return [
            "import yaml",
            "from accelerate import load_checkpoint_and_dispatch",
            f"from {factory[1]} import {factory[2]}",
        ]
    if is_diffusers(map_file):
        imports = ["import torch, yaml"] if load_dtype(map_file) != "auto" else ["import yaml"]
        return [*imports, _import_of(map_file)]
    return ["import yaml", _import_of(map_file)]


def _pipeline_lines(map_file: DeviceMapFile, map_path: str | PurePath) -> list[str]:
    """A pipeline is loaded by devplan: ``DiffusionPipeline.from_pretrained`` takes no mapping."""
    shown = map_path.as_posix() if isinstance(map_path, PurePath) else map_path
    lines = [f"pipeline = devplan.load(map={_quoted(shown)})"]
    return lines + (["pipeline.vae.enable_tiling()"] if map_file.workload.tiling else [])


def _call_head(map_file: DeviceMapFile) -> str:
    if _factory(map_file.model.id):
        return "model = load_checkpoint_and_dispatch"
    return f"model = {_class_code(map_file)}.from_pretrained"


def _class(map_file: DeviceMapFile) -> str:
    """The class to import; an auto class where the code comes with the model."""
    return map_file.model.auto_class or map_file.model.class_name


def _class_code(map_file: DeviceMapFile) -> str:
    """The class in the statement, through ``getattr`` where its name is not valid in Python."""
    name, library = _class(map_file), "diffusers" if is_diffusers(map_file) else "transformers"
    return name if _is_name(name) else f"getattr({library}, {_quoted(name)})"


def _import_of(map_file: DeviceMapFile) -> str:
    name, library = _class(map_file), "diffusers" if is_diffusers(map_file) else "transformers"
    return f"from {library} import {name}" if _is_name(name) else f"import {library}"


def _is_name(text: str) -> bool:
    """Whether it is a valid Python name without invisible characters."""
    return text.isidentifier() and not keyword.iskeyword(text) and visible(text) == text


def _arguments(map_file: DeviceMapFile, map_path: str | PurePath) -> list[str]:
    shown = map_path.as_posix() if isinstance(map_path, PurePath) else map_path
    arguments = [*_model_arguments(map_file), *_dtype_argument(map_file)]
    if map_file.model.auto_class:
        arguments.append("trust_remote_code=True")
    if map_file.model.quantize is not None:
        arguments.append(f"quantization_config={quantize_config(map_file.model.quantize)!r}")
    arguments.append(f'device_map=yaml.safe_load(open({_quoted(shown)}))["device_map"]')
    if DISK in map_file.device_map.values():
        arguments.append('offload_folder="offload"')
    return arguments


def _model_arguments(map_file: DeviceMapFile) -> list[str]:
    model_id = map_file.model.id
    factory = _factory(model_id)
    if factory:
        return [f"{factory[2]}{factory[3]}()", 'checkpoint="CHECKPOINT"']
    name, subfolder = hub_parts(map_file)
    arguments = [_quoted(name)]
    if subfolder is not None:
        arguments.append(f"subfolder={_quoted(subfolder)}")
    if map_file.model.revision:
        arguments.append(f"revision={_quoted(map_file.model.revision)}")
    return arguments


def hub_parts(map_file: DeviceMapFile) -> tuple[str, str | None]:
    """The id for ``from_pretrained``, and the subfolder of that repository.

    ``org/name/part`` is a part of a repository, unless it is a path on disk.
    """
    if map_file.model.components:
        return map_file.model.repository or map_file.model.id, None
    model_id = map_file.model.id
    owner, _, rest = model_id.partition("/")
    name, _, subfolder = rest.partition("/")
    on_the_hub = is_diffusers(map_file) or map_file.model.revision
    if subfolder and on_the_hub and not model_id.startswith(("/", ".", "~")):
        return f"{owner}/{name}", subfolder
    return model_id, None


def _dtype_argument(map_file: DeviceMapFile) -> list[str]:
    dtype = load_dtype(map_file)
    if is_diffusers(map_file):
        return [] if dtype == "auto" else [f"torch_dtype=torch.{dtype}"]
    if _factory(map_file.model.id):
        return [] if dtype == "auto" else [f'dtype="{dtype}"']
    return [f'{dtype_keyword(map_file.versions.get("transformers", ""))}="{dtype}"']


def load_dtype(map_file: DeviceMapFile) -> str:
    """The dtype for ``from_pretrained``: ``bfloat16``, or ``auto`` for the stored one."""
    wanted = map_file.workload.dtype or map_file.model.dtype
    return wanted if wanted in COMPUTE_DTYPES else "auto"  # stored fp8 or int4 stays as it is


def dtype_keyword(transformers_version: str) -> str:
    """The keyword of the dtype in a release of transformers."""
    numbers = re.match(r"(\d+)\.(\d+)", transformers_version)
    if numbers and (parse_whole(numbers[1]), parse_whole(numbers[2])) < _DTYPE_KEYWORD_SINCE:
        return "torch_dtype"
    return "dtype"


def is_diffusers(map_file: DeviceMapFile) -> bool:
    """Whether the class is one of diffusers."""
    return "diffusers" in map_file.versions


def _quoted(text: str) -> str:
    """A Python literal in double quotes."""
    return python_text(text)
