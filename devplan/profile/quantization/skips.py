"""Which modules a method leaves alone: the rules of transformers' quantizers.

Most quantizers ask ``HfQuantizer.get_modules_to_not_convert`` for a list of patterns and
``should_convert_module`` whether a module's name meets one (transformers 5.23, ``quantizers/
base.py`` and ``quantizers_utils.py``):

* the list is what the quantization config names; the *default skips* (tied weights, the output
  embedding, the module of the last parameter) come in only where the config names nothing at all,
  or where the quantizer always adds them (AWQ);
* the names in ``_keep_in_fp32_modules`` are added always;
* a pattern is met as a regular expression from the start of the name up to a dot or the end, or
  literally as the end of the name.

Limits: releases before transformers 5 had a rule of their own in every quantizer, several of them
by substring.  The rule here is applied to them too, unchecked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from devplan.core import InputError, prefixes
from devplan.profile.tree import NamedModules, named_parameters

# A name boundary: after a dot, before a dot, or the end.
_BOUNDARY = r"(?:(?<=\.)|(?=\.|$))"


class Skips:
    """Patterns of modules that stay as they are, each with its reason."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        self._reasons = dict(reasons)
        self._endings = tuple(self._reasons)
        self._pattern = _compiled(self._endings)

    def reason(self, module: str) -> str | None:
        """Why the module stays as it is, or None where it is converted."""
        if self._pattern is None:
            return None
        if not (module.endswith(self._endings) or self._pattern.match(module)):
            return None
        for name in prefixes(module):
            if name in self._reasons:
                return self._reasons[name]
        met = next(p for p in self._endings if module.endswith(p) or _compiled((p,)).match(module))
        return self._reasons[met]


def _compiled(patterns: Iterable[str]) -> re.Pattern[str] | None:
    grouped = [f"(?:{pattern})" for pattern in patterns]
    if not grouped:
        return None
    try:
        return re.compile(f"(?:{'|'.join(grouped)}){_BOUNDARY}")
    except (re.error, OverflowError, RecursionError) as error:
        pattern = getattr(error, "pattern", grouped[0])
        raise InputError(
            f"the quantization config lists {pattern!r} among the modules that stay as they are, "
            f"which is not a regular expression ({error}); correct it in config.json"
        ) from None


def listed_skips(
    model: nn.Module, modules: NamedModules, listed: Iterable[str] | None
) -> dict[str, str]:
    """Patterns and reasons as most quantizers have them.

    Parameters
    ----------
    listed
        What the quantization config names; None where it names nothing, which brings in the
        default skips (an empty list does not).
    """
    reasons = default_skips(model, modules) if listed is None else {}
    return {**reasons, **_config_skips(listed or ()), **_float32_skips(model)}


def listed_and_default_skips(
    model: nn.Module, modules: NamedModules, listed: Iterable[str] | None
) -> dict[str, str]:
    """Patterns and reasons of the quantizers that always add the default skips."""
    return {
        **default_skips(model, modules),
        **_config_skips(listed or ()),
        **_float32_skips(model),
    }


def default_skips(model: nn.Module, modules: NamedModules) -> dict[str, str]:
    """Tied weights, output embedding and last module (``get_keys_to_not_convert``)."""
    last = ""
    for last, _ in named_parameters(modules):  # noqa: B007 - only the last one matters
        pass
    reasons = {last.removesuffix(".weight"): "module of the last parameter"} if last else {}
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    for name in (*tied.keys(), *tied.values()):
        reasons[name.removesuffix(".weight")] = "tied weights"
    for name in _output_embedding_names(model, modules):
        reasons[name] = "output embedding"
    return reasons


def _output_embedding_names(model: nn.Module, modules: NamedModules) -> list[str]:
    getter: Any = getattr(model, "get_output_embeddings", None)
    head = getter() if getter is not None else None
    return [name for name, module in modules if module is head] if head is not None else []


def _config_skips(listed: Iterable[str]) -> dict[str, str]:
    return {pattern: f"the quantization config lists {pattern!r}" for pattern in listed}


def _float32_skips(model: nn.Module) -> dict[str, str]:
    kept = getattr(model, "_keep_in_fp32_modules", None) or ()
    return {name: f"the model class keeps {name!r} in float32" for name in sorted(kept)}
