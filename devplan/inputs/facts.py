"""What a model says about its inputs: the signature of ``forward``, its configuration, weights.

No model type is ever asked for.  A size is looked up by the names that configurations use for it,
first in the parts that belong to the modality (``vision_config``, ``audio_config``), then outside,
then anywhere below.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import nn

from devplan.inputs.request import InputRequest
from devplan.models import BlockSite, partition
from devplan.virtual import OneCard

SIDES = {
    "vision": re.compile(r"vis|image|img|vit|backbone|video"),
    "audio": re.compile(r"audio|speech|sound|acoustic|asr|codec"),
    "text": re.compile(r"text|language|llm"),
}
"""What the parts of a configuration, and the modules of a tower, are called."""

_DOCUMENTED = re.compile(r"^\s*(\w+) \(`?[^`\n]*`? of shape `\(([^`\n]+?),?\)`", re.M)
"""As transformers writes it: ``name (`torch.Tensor` of shape `(batch_size, 1, length)`)``."""
_AXIS = re.compile(r"[\w.]+(?:\s*\*\s*[\w.]+)*")

_GENERIC = re.compile(r"encoder")
"""``encoder`` may be of any modality: it is looked at after the parts that name theirs."""


class Facts:
    """A model, its configuration and what is asked for, with the look-ups that makers need."""

    def __init__(
        self, model: nn.Module, config: Any, request: InputRequest, card: OneCard | None = None
    ) -> None:
        self.model = model
        self.config = config
        self.request = request
        self.filled: dict[str, torch.Tensor] = {}
        """Arguments of which only the signature tells, in the form that was found for them."""
        self.refusals: list[str] = []
        """What the model's code said of the forms of pictures that were offered so far."""
        self.said_sides: tuple[int, ...] | None = None
        """Sides of pictures in these, in the order of likelihood; None: not asked for yet."""
        self.card = card
        """Where the model is asked (``devplan.inputs.probe``); None: on a card of its own."""

    @cached_property
    def accepted(self) -> Mapping[str, inspect.Parameter]:
        """Named parameters of ``forward``."""
        parameters = inspect.signature(self.model.forward).parameters
        variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        return {name: item for name, item in parameters.items() if item.kind not in variadic}

    @cached_property
    def documented(self) -> Mapping[str, tuple[str, ...]]:
        """Argument -> its axes as the docstring of ``forward`` names them."""
        text = getattr(self.model.forward, "__doc__", None) or ""
        found = {}
        for name, axes in _DOCUMENTED.findall(text):
            matched = [_AXIS.match(axis.strip()) for axis in axes.split(",")]
            if name in self.accepted and all(matched):
                found[name] = tuple(axis[0] for axis in matched if axis is not None)
        return found

    @cached_property
    def required(self) -> frozenset[str]:
        return frozenset(
            name for name, item in self.accepted.items() if item.default is inspect.Parameter.empty
        )

    def takes(self, *names: str) -> str | None:
        """The first of `names` that ``forward`` has a parameter for, which is no switch."""
        return next(
            (
                name
                for name in names
                if name in self.accepted and not isinstance(self.accepted[name].default, bool)
            ),
            None,
        )

    @cached_property
    def dtype(self) -> torch.dtype:
        floats = (p.dtype for p in self.model.parameters() if p.is_floating_point())
        return next(floats, torch.float32)

    def floats(self, *shape: int) -> torch.Tensor:
        """An abstract float tensor in the model's dtype."""
        return torch.empty(*shape, dtype=self.dtype, device="meta")

    # ------------------------------------------------------------------------ configuration

    def setting(self, *names: str, side: str | None = None, default: Any = None) -> Any:
        """The value of the first of `names` that the configuration has, nearest part first."""
        parts = list(self.parts(side))
        for name in names:
            for part in parts:
                value = read_setting(part, name)
                if value is not None:
                    return value
        return default

    def parts(self, side: str | None = None) -> Iterator[Any]:
        """The configurations inside the configuration: those of a side, the outermost, the rest."""
        named = list(walk(self.config))
        if side is not None:
            yield from (part for path, part in named if SIDES[side].search(path))
            yield from (part for path, part in named if _GENERIC.search(path))
        yield from (part for _, part in named)

    @cached_property
    def is_encoder_decoder(self) -> bool:
        return any(
            read_setting(part, "is_encoder_decoder") is True for _, part in walk(self.config)
        )

    # ------------------------------------------------------------------------------ modules

    @cached_property
    def sites(self) -> tuple[BlockSite, ...]:
        """The blocks of the model, so that a probe runs equal layers once."""
        declared = getattr(self.model, "_no_split_modules", None) or ()
        return partition(self.model, frozenset(declared))

    def tower(self, side: str) -> nn.Module:
        """The outermost module that is called after `side`; the model itself where none is."""
        for name, module in self.model.named_modules():
            if name and SIDES[side].search(name.rpartition(".")[2].lower()) and has_weights(module):
                return module
        return self.model

    def first_layer(self, side: str, *kinds: type[nn.Module]) -> nn.Module | None:
        """The first projection or convolution of a tower: what the raw input enters."""
        for module in self.tower(side).modules():
            if isinstance(module, kinds):
                return module
        return None


def has_weights(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def read_setting(part: Any, name: str) -> Any:
    """A value of a configuration object or mapping; None where it has none."""
    if isinstance(part, Mapping):
        return part.get(name)
    try:
        return getattr(part, name, None)
    except Exception:  # properties of configurations may raise anything
        return None


def walk(config: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """A configuration and every configuration inside it, outermost first, with dotted paths."""
    level = [(path, config)]
    while level:
        yield from level
        level = [
            (f"{outer}.{name}".strip("."), value)
            for outer, part in level
            for name, value in _content(part).items()
            if hasattr(value, "to_dict")
        ]


def _content(part: Any) -> Mapping[str, Any]:
    if isinstance(part, Mapping):
        return part
    return vars(part) if hasattr(part, "__dict__") else {}


def pair(value: Any) -> tuple[int, int] | None:
    """``224``, ``[224, 448]`` or ``{"height": 224, "width": 448}`` as height and width."""
    if isinstance(value, Mapping):
        value = [read_setting(value, "height"), read_setting(value, "width")]
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value)
    if isinstance(value, (list, tuple)) and value and all(isinstance(n, int) for n in value):
        return (value[-2] if len(value) > 1 else value[0], value[-1])
    return None


_MOST_CHANNELS = 4
"""Of a picture: a first convolution with more works on features, and its channels say nothing."""
_CHANNELS = 3
"""Red, green, blue, where neither configuration nor weights say another number."""


def num_channels(facts: Facts) -> int:
    """As the first convolution of the tower takes them, else as stated."""
    first = facts.first_layer("vision", nn.Conv2d, nn.Conv3d)
    if first is not None and first.in_channels <= _MOST_CHANNELS:
        return first.in_channels
    stated = facts.setting("num_channels", "in_channels", "in_chans", side="vision")
    return stated if isinstance(stated, int) else _CHANNELS


def image_size(facts: Facts) -> tuple[int, int]:
    """The size that the configuration fixes, or the size asked for."""
    stated = pair(facts.setting("image_size", "img_size", "input_size", "crop_size", side="vision"))
    return stated or facts.request.image_size
