"""Writes ``native.json``: ``make pages``.

The facts come from the installed torch, which ships the declaration of every native function and
the generator (torchgen) that turns it into C++.  The generator itself is asked what it would emit
for CUDA, so that nothing about wrappers, overloads or structured kernels is guessed:

* ``checked``: op -> name of its wrapper, for each op whose wrapper compares devices;
* ``unchecked``: ops with a CUDA kernel and no comparison in the wrapper;
* ``composed``: ops without a CUDA kernel that are made of other ops below autograd.

Only ops that can receive two tensors are listed.  Run it when the pinned torch changes; a test
compares the file with the torch that it names.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

DATA = "devplan/virtual/rules/native.json"

_CHECK = re.compile(r'check_and_update_common_device\(common_device, \w+, "wrapper_CUDA_(\w+)"')
_REGISTRATION = re.compile(r'm\.impl\("([^"]+)",\s*TORCH_FN\(wrapper_CUDA_(\w+)\)')


def published_texts() -> dict[str, str]:
    """``native.json``, made from the installed torch."""
    return {DATA: native_text()}


def native_text() -> str:
    """The text that belongs into ``native.json``."""
    import torch

    functions, generated = _ask_torchgen()
    checking = set(_CHECK.findall(generated))
    wrappers = dict(_REGISTRATION.findall(generated))
    several = [function for function in functions if _takes_several_tensors(function)]
    names = [str(function.func.name) for function in several]
    facts = {
        "torch": torch.__version__.split("+")[0],
        "checked": {n: wrappers[n] for n in sorted(names) if wrappers.get(n) in checking},
        "unchecked": sorted(n for n in names if n in wrappers and wrappers[n] not in checking),
        "composed": sorted(
            str(function.func.name)
            for function in several
            if str(function.func.name) not in wrappers and _is_composed_by_hand(function)
        ),
    }
    return json.dumps(facts, indent=0) + "\n"


def _ask_torchgen() -> tuple[list, str]:
    """Every native function, and the C++ that torchgen emits for the CUDA backend."""
    import torchgen
    from torchgen.dest.register_dispatch_key import RegisterDispatchKey
    from torchgen.gen import get_grouped_native_functions, parse_native_yaml
    from torchgen.model import DispatchKey
    from torchgen.selective_build.selector import SelectiveBuilder
    from torchgen.utils import Target

    folder = Path(torchgen.__file__).parent / "packaged/ATen/native"
    parsed = parse_native_yaml(str(folder / "native_functions.yaml"), str(folder / "tags.yaml"))
    texts: list[str] = []
    for target in (Target.ANONYMOUS_DEFINITION, Target.REGISTRATION):
        generator = RegisterDispatchKey(
            parsed.backend_indices[DispatchKey.CUDA],
            target,
            SelectiveBuilder.get_nop_selector(),
            rocm=False,
            symint=True,
            class_method_name=None,
            skip_dispatcher_op_registration=False,
        )
        for group in get_grouped_native_functions(parsed.native_functions):
            texts.extend(generator(group))
    return parsed.native_functions, "\n".join(texts)


def _takes_several_tensors(function) -> bool:
    arguments = [a for a in function.func.arguments.flat_all if a.type.is_tensor_like()]
    return len(arguments) > 1 or any(a.type.is_list_like() for a in arguments)


def _is_composed_by_hand(function) -> bool:
    """Made of other ops, by a kernel that somebody wrote; the generated ``out`` forms only copy."""
    is_composed = (
        function.has_composite_explicit_autograd_kernel
        or function.has_composite_explicit_autograd_non_functional_kernel
    )
    return is_composed and "generated" not in function.tags
